"""A bank of reference clips: what a model reads to continue or judge the clip at hand.

DiT-Mem (arXiv 2511.19229) looks references up by caption in a fixed collection. A camera has no
captions, so here clips are found by their content, and the camera's own past is the collection:
clips enter by surprise, the most redundant leave, and whence each came stays with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.memory.base import Json, State, made_by_model
from retain.memory.clips import search
from retain.memory.clips.clip import Clip, ClipQuery, Match, Span, key, packed, unpacked
from retain.memory.clips.config import SCORES, TEXT, ClipBankConfig
from retain.memory.clips.rows import ClipRows
from retain.memory.eviction import Arrival, Reservoir
from retain.memory.table import ARRIVAL
from retain.pipeline.errors import StateError, UsageError


class _Stream:
    """One stream's clips and the last scores offered."""

    def __init__(self, config: ClipBankConfig, room: int) -> None:
        self.rows = ClipRows(config, room)
        self.scores = np.zeros(0)
        self.seen = 0

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + 8 * SCORES


class ClipBank:
    """See the module's text. Any number of streams; each allocates its room once."""

    def __init__(self, config: ClipBankConfig) -> None:
        self._config = config
        self._streams: dict[str, _Stream] = {}
        self._room: dict[str, int] = {}

    @property
    def settings(self) -> ClipBankConfig:
        return self._config

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "clips", **self._config.as_json()}

    @property
    def min_bytes(self) -> int:
        return self._config.nbytes(self._config.least)

    def room(self, stream: str) -> int:
        """How many clips there may be."""
        return self._room.get(stream, self._config.capacity)

    def write(self, stream: str, item: Clip, gate: float = 1.0) -> bool:
        """Offer a clip; whether it was kept. ``gate`` scales its score; 0 keeps it out.

        Raises UsageError for a clip that a model made, of other sizes, or without a descriptor, and
        ValueError for a gate outside [0, 1].
        """
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        values = self._checked(item)
        if not gate:
            return False
        s = self._stream(stream)
        score = gate * item.score
        number, s.seen = s.seen, s.seen + 1
        high = score > np.quantile(s.scores, self._config.quantile) if len(s.scores) else False
        s.scores = np.append(s.scores, score)[-SCORES:]
        values |= {"score": item.score, "key": score}
        if self._config.admit == "reservoir":
            values["key"] = Reservoir(self._config.seed).key(Arrival(number, score, 0.0))
        if len(s.rows) == s.rows.capacity and not self._made_room(s.rows, values, bool(high)):
            return False
        s.rows.append(values)
        return True

    def _made_room(self, rows: ClipRows, values: Mapping[str, Any], high: bool) -> bool:
        """Take a row out of the full bank for a clip that is worth it."""
        if self._config.admit == "reservoir":
            leaves = int(np.argmin(rows["key"]))
            worth = bool(values["key"] > rows["key"][leaves])
        else:
            leaves = rows.redundant()
            far = self._config.far
            alike = float(rows["nearest"][leaves]) if far is None else 1 - far
            worth = high or float((rows["descriptor"] @ values["descriptor"]).max()) < alike
        if worth:
            rows.remove(leaves)
        return worth

    def read(self, stream: str, query: ClipQuery | None = None) -> list[Match]:
        """The clips that answer, in the order they were chosen; none from an empty bank. Without a
        query all of them, oldest first.

        Raises UsageError for descriptors of other lengths than the bank's, or without direction.
        """
        if stream not in self._streams:
            return []
        rows = self._streams[stream].rows
        if query is None:
            return [Match(_clip(rows, row), math.nan) for row in np.argsort(rows[ARRIVAL]).tolist()]
        if query.k < 1 or query.pool < query.k or not 0 <= query.diversity <= 1:
            raise UsageError(
                f"A search needs k >= 1, pool >= k and diversity in [0, 1], got {query.k}, "
                f"{query.pool} and {query.diversity}."
            )
        asked = _unit(query.descriptor, self._config.dim, "descriptor")
        allowed = _allowed(rows, query)
        if query.coarse is None:
            places, cosine = search.best(rows["descriptor"], asked, query.pool, allowed)
        else:
            coarse = self._coarse(query.coarse)
            places, _ = search.best(rows["coarse"], coarse, query.pool, allowed)
            cosine = search.products(rows["descriptor"][places], asked)
        chosen = search.diverse(rows["descriptor"][places], cosine, query.k, query.diversity)
        return [Match(_clip(rows, int(places[i])), float(cosine[i])) for i in chosen]

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self._streams[stream].nbytes if stream in self._streams else 0

    @property
    def max_bytes(self) -> int:
        return self._config.nbytes(self._config.capacity)

    def need(self, stream: str) -> int:
        held = len(self._streams[stream].rows) if stream in self._streams else 0
        return max(self.min_bytes, self._config.nbytes(min(held + 1, self._config.capacity)))

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """The most redundant clips leave, the newest stays. Raises UsageError when ``nbytes`` is
        under ``min_bytes``."""
        c = self._config
        if nbytes < self.min_bytes:
            raise UsageError(
                f"A clip bank cannot live in {nbytes} bytes; {c.least} clips need "
                f"{self.min_bytes}.",
                hint="Raise the budget, or keep smaller or shorter clips.",
            )
        room = min((nbytes - c.nbytes(0)) // c.row_bytes, c.capacity)
        self._room[stream] = room
        old = self._streams.get(stream)
        if old is None or old.rows.capacity == room:
            return
        while len(old.rows) > room:
            old.rows.remove(_loose(old.rows))
        rows = ClipRows(c, room)
        n = len(old.rows)
        rows.put(np.arange(n), {name: old.rows[name] for name in c.columns})
        old.rows = rows

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        s = self._streams.get(stream)
        held, seen = (0, 0) if s is None else (len(s.rows), s.seen)
        room = self.room(stream)
        return {"clips": held, "seen": seen, "room": room, "bytes": self.nbytes(stream)}

    def snapshot(self, stream: str) -> State:
        s = self._streams.get(stream) or _Stream(self._config, 0)
        c = self._config
        header: dict[str, Json] = {
            "encoder": c.encoder, "weights": c.weights, "seen": s.seen, "room": self.room(stream),
        }  # fmt: skip
        return State({**s.rows.tensors(), "scores": s.scores.copy()}, header)

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, changing nothing, for descriptors of another encoder, clips of other
        sizes or more of them than there is room for."""
        c = self._config
        check_encoder(state.header, c.encoder, c.weights)
        room, seen = state.header.get("room"), state.header.get("seen")
        if type(room) is not int or type(seen) is not int or not c.least <= room <= c.capacity:
            raise StateError(
                f"The snapshot's clip bank has room for {room!r} clips, this one for {c.least} to "
                f"{c.capacity}."
            )
        fresh = _Stream(c, room)
        fresh.rows.load(state.tensors)
        fresh.rows.check()
        scores = state.tensors.get("scores")
        if scores is None or scores.dtype != np.float64 or scores.ndim != 1:
            raise StateError("The snapshot has no list of scores.")
        if len(scores) > SCORES or not np.isfinite(scores).all() or not 0 <= seen < 2**63:
            raise StateError("The snapshot's scores are none that a clip bank keeps.")
        fresh.scores, fresh.seen = scores.copy(), seen
        self._streams[stream], self._room[stream] = fresh, room

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config, self.room(stream))
        return self._streams[stream]

    def _coarse(self, given: NDArray[np.floating]) -> NDArray[np.float32]:
        if not self._config.coarse:
            raise UsageError("This clip bank keeps no coarse features to search by.")
        return _unit(given, self._config.coarse, "coarse feature")

    def _checked(self, item: Clip) -> dict[str, Any]:
        """The columns that the clip itself decides."""
        c, span = self._config, item.span
        if item.synthetic:
            raise made_by_model(
                f"The clip of frames {span.first} to {span.last} of {span.stream!r}"
            )
        if item.frames.dtype != np.uint8 or item.frames.shape != c.shape.array:
            raise UsageError(
                f"A reference is {item.frames.dtype} {list(item.frames.shape)}, but this bank "
                f"holds {c.shape}.",
                hint="Cut it with memory.clips.windows, which fits frames to a size.",
            )
        if len(item.caption.encode("utf-8", "replace")) > TEXT["caption"]:
            raise UsageError(f"A caption has at most {TEXT['caption']} bytes.")
        times = (item.start_s, item.end_s, item.score)
        if not 0 <= span.first <= span.last or not np.isfinite(times).all():
            raise UsageError(f"A clip cannot be of {span}, at {times[:2]} s with score {times[2]}.")
        if (item.coarse is None) != (c.coarse == 0):
            raise UsageError(f"A clip needs {c.coarse} numbers of coarse feature for this bank.")
        coarse = {} if item.coarse is None else {"coarse": self._coarse(item.coarse)}
        return {
            "descriptor": _unit(item.descriptor, c.dim, "descriptor"),
            **coarse,
            "frames": item.frames,
            "stream": packed(span.stream, TEXT["stream"]),
            "origin": packed(item.origin, TEXT["origin"]),
            "caption": packed(item.caption, TEXT["caption"]),
            "stream_key": key(span.stream),
            "caption_key": key(item.caption),
            "first": span.first,
            "last": span.last,
            "start_s": item.start_s,
            "end_s": item.end_s,
        }


def check_encoder(header: Mapping[str, Json], encoder: str, weights: str) -> None:
    """Raises StateError unless ``header`` says that its descriptors are of this encoder."""
    theirs = header.get("encoder"), header.get("weights")
    if theirs != (encoder, weights):
        raise StateError(
            f"This clip index was made by encoder {theirs[0]} ({str(theirs[1])[:12]}), not by "
            f"{encoder} ({weights[:12]}), so its descriptors cannot be compared.",
            hint="Use that encoder, or build the index again from the clips.",
        )


def _allowed(rows: ClipRows, query: ClipQuery) -> NDArray[np.bool_]:
    """[rows]: which may answer."""
    allowed = np.ones(len(rows), bool)
    if query.only is not None:
        allowed &= rows["stream_key"] == key(query.only)
    if query.caption is not None:
        allowed &= rows["caption_key"] == key(query.caption)
    if query.own is not None:
        own = query.own
        guard = 2 * own.length if query.guard is None else query.guard
        near = (rows["last"] >= own.first - guard) & (rows["first"] <= own.last + guard)
        allowed &= ~(near & (rows["stream_key"] == key(own.stream)))
    return allowed


def _loose(rows: ClipRows) -> int:
    """The row that leaves a bank that must shrink: redundant, but never the newest."""
    row = rows.redundant()
    newest = int(np.argmax(rows[ARRIVAL]))
    return int(rows["twin"][row]) if row == newest else row


def _clip(rows: ClipRows, row: int) -> Clip:
    coarse = rows["coarse"][row].copy() if rows.config.coarse else None
    return Clip(
        frames=rows["frames"][row].copy(),
        descriptor=rows["descriptor"][row].copy(),
        span=Span(unpacked(rows["stream"][row]), int(rows["first"][row]), int(rows["last"][row])),
        start_s=float(rows["start_s"][row]),
        end_s=float(rows["end_s"][row]),
        score=float(rows["score"][row]),
        coarse=coarse,
        origin=unpacked(rows["origin"][row]),
        caption=unpacked(rows["caption"][row]),
    )


def _unit(given: NDArray[np.floating], dim: int, what: str) -> NDArray[np.float32]:
    """float32 [dim] of unit length."""
    wide = np.asarray(given, np.float64)
    if wide.shape != (dim,):
        raise UsageError(f"A clip's {what} is {list(wide.shape)} here, but the bank's are [{dim}].")
    length = float(np.sqrt((wide * wide).sum()))
    if not 0 < length < math.inf:
        raise UsageError(f"A clip's {what} is zero or not finite: it is like no other.")
    unit: NDArray[np.float32] = (wide / length).astype(np.float32)
    return unit
