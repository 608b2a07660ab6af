"""CurveStream's frame memory (arXiv 2603.19571): the moments of a stream, within a budget.

A frame the router keeps is stored as a JPEG, Clear at its own size or Blurred (about 64 tokens),
with its embedding, its times and the reason it was kept. Three budgets hold after every write:
entries, vision tokens and bytes. ``FrameMemoryConfig.paper`` gives the published queue: 20 entries
first in first out, Blurred at exactly 224x224. The default keeps what mattered instead of what is
newest (``eviction.Robust``) and demotes Clear pictures before it drops any.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retain.memory import pictures
from retain.memory.background import Background, unit_of
from retain.memory.base import Json, State, made_by_model
from retain.memory.context import Context, context
from retain.memory.entries import BLURRED, CLEAR, ROW, check_rows, entries, held_frame, one_more
from retain.memory.entries import Entry as Entry
from retain.memory.entries import load_entries as load_entries
from retain.memory.eviction import Arrival, policy
from retain.memory.router import REASONS, Router, RouterConfig
from retain.memory.store import RowStore
from retain.memory.tokens import Family, fit, tokens
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Held, HeldFrame, Route

log = logging.getLogger(__name__)

BLURRED_SIDE = 224
_PICTURE_ROOM = 65_536
_LONGEST_S = 10.0
"""A frame stands for the time since the one before it, but not for a stream's absence."""


@dataclass(frozen=True, slots=True)
class FrameMemoryConfig:
    """What a frame memory may hold, per stream. Raises UsageError when a value cannot work."""

    dim: int = 1280
    """Length of the embeddings."""
    router: RouterConfig = field(default_factory=RouterConfig)
    policy: str = "robust"
    max_entries: int = 64
    token_budget: int = 12_800
    byte_budget: int = 16 << 20
    """All bytes of one stream: pictures, rows, router state."""
    family: Family = "qwen2.5-vl"
    max_clear_tokens: int = 1280
    """A Clear picture that would cost more is scaled down to this."""
    square: bool = False
    """Blurred pictures are exactly 224x224, as published, instead of keeping their shape."""
    payload: Literal["jpeg", "none"] = "jpeg"
    """none: only embeddings and times are kept; pictures count as 1280x720 for their tokens."""
    background_s: float = 10.0
    """Half-life of the background that novelty is measured against; see memory/background.py."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "max_entries", "token_budget", "byte_budget", "max_clear_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"Frame memory option {name} must be at least 1.")
        if self.payload not in ("jpeg", "none"):
            raise UsageError(f"Frame memory payload is 'jpeg' or 'none', not {self.payload!r}.")
        if not self.background_s > 0:
            raise UsageError(f"Frame memory option background_s must be > 0: {self.background_s}.")
        policy(self.policy)
        tokens(1, 1, self.family)

    @staticmethod
    def paper(dim: int = 1280, **changes: object) -> FrameMemoryConfig:
        """The published queue: 20 entries first in first out, no token limit but theirs."""
        values: dict[str, object] = {
            "dim": dim,
            "router": RouterConfig(mode="paper"),
            "policy": "fifo",
            "max_entries": 20,
            "token_budget": 1_000_000,
            "byte_budget": 256 << 20,
            "max_clear_tokens": 1_000_000,
            "square": True,
        }
        return FrameMemoryConfig(**(values | changes))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Item:
    """A frame offered to the memory, with its embedding (float32 [D]) and its route."""

    image: Image | None
    seq: int
    pts: int
    time_base: Fraction
    seconds: float
    embedding: NDArray[np.floating]
    route: Route
    synthetic: bool = False
    """A model made it, so it is refused."""


@dataclass(frozen=True, slots=True)
class FrameQuery:
    """Which entries to read: those in [start_s, end_s], and of these, with ``embedding``, the
    ``k`` nearest to it by cosine. The empty query reads everything."""

    start_s: float = -np.inf
    end_s: float = np.inf
    embedding: NDArray[np.floating] | None = None
    k: int = 5


class _Stream:
    """One stream's state."""

    def __init__(self, config: FrameMemoryConfig) -> None:
        similarity = policy(config.policy).similarity
        self.router = Router(config.router, config.dim)
        self.background = Background(config.dim, config.background_s)
        # One row of room above the cap: a new frame competes with those held.
        self.rows = RowStore(config.max_entries + 1, config.dim, ROW, similarity=similarity)
        self.seen = 0
        self.limit = config.byte_budget
        self.entries: tuple[HeldFrame, ...] | None = ()

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes + self.router.state.nbytes + self.background.nbytes


class FrameMemory:
    """A bounded memory of frames for any number of streams; see the module's text.

    ``observe`` does everything for a frame: route it, keep it or not, evict. ``write`` is the part
    after routing, for a graph that routes elsewhere.
    """

    max_bytes = None

    def __init__(self, config: FrameMemoryConfig) -> None:
        self._config = config
        self._policy = policy(config.policy, config.seed)
        self._streams: dict[str, _Stream] = {}
        self._warned = False
        if config.byte_budget < self.min_bytes:
            raise UsageError(
                f"A frame memory of {config.max_entries} entries needs at least "
                f"{self.min_bytes} bytes per stream, but its budget is {config.byte_budget}.",
                hint="Raise it (--bytes, byte_budget) or keep fewer (--entries, max_entries).",
            )

    @property
    def config(self) -> Mapping[str, Json]:
        values = asdict(self._config)
        return {"kind": "frames", **values, "router": self._config.router.as_json()}

    @property
    def min_bytes(self) -> int:
        c = self._config
        rows = RowStore.fixed_bytes(
            c.max_entries + 1, c.dim, ROW, similarity=policy(c.policy).similarity
        )
        return rows + Background.fixed_bytes(c.dim) + 8 * c.dim + 256 + _PICTURE_ROOM

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config)
        return self._streams[stream]

    def observe(
        self, stream: str, frame: Frame, embedding: NDArray[np.floating], query: bool = False
    ) -> tuple[Route, Held]:
        """Route ``frame`` by its ``embedding`` (any float [D]) and keep it if it is worth it.

        ``query``: a question comes with this frame, which is therefore kept Clear.
        Raises UsageError for a frame that a model made.
        """
        if frame.synthetic:
            raise made_by_model(f"Frame {frame.seq} of {frame.stream!r}")
        s = self._stream(stream)
        seconds = frame.seconds
        (route,) = s.router.step(
            np.asarray(embedding)[None], (seconds,), (frame.discontinuity,), (query,)
        )
        item = Item(frame.image, frame.seq, frame.pts, frame.time_base, seconds, embedding, route)
        return route, self.write(stream, item)

    def route(
        self,
        stream: str,
        embedding: NDArray[np.floating],
        seconds: float,
        discontinuity: bool = False,
        query: bool = False,
    ) -> Route:
        """Only the decision for this stream's next frame; ``write`` it afterwards."""
        router = self._stream(stream).router
        return router.step(np.asarray(embedding)[None], (seconds,), (discontinuity,), (query,))[0]

    def write(self, stream: str, item: Item, gate: float = 1.0) -> Held:
        """Take a routed frame in. ``gate`` in [0, 1] scales its worth; 0 keeps it out. Raises
        UsageError for a frame that a model made."""
        if item.synthetic:
            raise made_by_model(f"Frame {item.seq} of {stream!r}")
        s = self._stream(stream)
        unit = unit_of(item.embedding, self._config.dim)
        since = min(s.background.since(item.seconds), _LONGEST_S) if unit.any() else 0.0
        novelty = s.background.novelty(unit, item.seconds)
        arrival = Arrival(s.seen, item.route.score, novelty, gate)
        s.seen += 1
        if item.route.flash:
            self._policy.flashed(s.rows, item.seconds)
        if gate > 0 and (item.route.state != "discard" or not self._policy.routed):
            self._insert(s, item, unit, arrival, since)
            self._settle(s)
            s.entries = None
        elif self._policy.weighs and since > 0:
            self._policy.passed(s.rows, s.rows.embedding @ unit, since)
        return self._held(s)

    def _insert(
        self, s: _Stream, item: Item, unit: NDArray[np.float32], arrival: Arrival, since: float
    ) -> None:
        clear = item.route.state == "clear" or not self._policy.routed
        image = item.image if self._config.payload == "jpeg" else None
        shape = (1280, 720) if item.image is None else item.image.shape[1::-1]
        width, height = self._size(shape[0], shape[1], CLEAR if clear else BLURRED)
        s.rows.append(
            unit,
            b"" if image is None else pictures.encode(image, (width, height)),
            seconds=item.seconds,
            score=item.route.score,
            key=self._policy.key(arrival),
            novelty=arrival.novelty,
            mass=since * arrival.gate,
            seq=item.seq,
            pts=item.pts,
            base_num=item.time_base.numerator,
            base_den=item.time_base.denominator,
            tokens=tokens(width, height, self._config.family),
            width=width,
            height=height,
            tier=CLEAR if clear else BLURRED,
            reason=REASONS.index(item.route.reason),
        )

    def _size(self, width: int, height: int, tier: int) -> tuple[int, int]:
        c = self._config
        if tier == CLEAR:
            return fit(width, height, c.max_clear_tokens, c.family)
        if c.square:
            return BLURRED_SIDE, BLURRED_SIDE
        return fit(width, height, tokens(BLURRED_SIDE, BLURRED_SIDE, c.family), c.family)

    def _settle(self, s: _Stream) -> None:
        """Demote and drop until every budget holds."""
        rows, c = s.rows, self._config
        while len(rows):
            crowded = len(rows) > c.max_entries
            heavy = int(rows["tokens"].sum()) > c.token_budget or s.nbytes > s.limit
            if not crowded and not heavy:
                return
            if not crowded and self._policy.demotes and self._demote(rows):
                continue
            victim = int(np.argmin(self._policy.rank(rows)))
            self._policy.leaving(rows, victim)
            rows.remove(victim)
            if not len(rows) and not self._warned:
                self._warned = True
                log.warning(
                    "One frame alone exceeds the memory's budget of tokens or bytes, so nothing is"
                    " kept. Raise it."
                )

    def _demote(self, rows: RowStore) -> bool:
        """Make the Clear row of least detail Blurred; the newest only when it is alone."""
        rank = self._policy.detail(rows)
        others = len(rows) - 1 if len(rows) > 1 else 1
        for row in np.argsort(rank[:others], kind="stable").tolist():
            if rows["tier"][row] != CLEAR:
                continue
            size = int(rows["width"][row]), int(rows["height"][row])
            smaller = self._size(*size, BLURRED)
            if smaller == size:
                continue
            if rows.payload(row):
                picture = pictures.decode(rows.payload(row), size)
                rows.replace_payload(row, pictures.encode(picture, smaller))
            rows["width"][row], rows["height"][row] = smaller
            rows["tokens"][row] = tokens(*smaller, self._config.family)
            rows["tier"][row] = BLURRED
            return True
        return False

    def held(self, stream: str) -> Held:
        """What is held now, without pixels, oldest first."""
        return self._held(self._stream(stream))

    def _held(self, s: _Stream) -> Held:
        rows = s.rows
        if s.entries is None:
            s.entries = tuple(held_frame(rows, row) for row in range(len(rows)))
        used = sum(entry.tokens for entry in s.entries)
        return Held(s.entries, used, self._config.token_budget, s.nbytes, s.limit, s.seen)

    def read(self, stream: str, query: FrameQuery | None = None) -> list[Entry]:
        """The entries ``query`` asks for, in order of time."""
        rows = self._stream(stream).rows
        query = query or FrameQuery()
        seconds = rows["seconds"]
        chosen = np.flatnonzero((seconds >= query.start_s) & (seconds <= query.end_s))
        if query.embedding is not None:
            cosine = rows.embedding[chosen] @ unit_of(query.embedding, self._config.dim)
            chosen = np.sort(chosen[np.argsort(-cosine, kind="stable")[: query.k]])
        return entries(rows, chosen.tolist())

    def context(
        self, stream: str, budget: int, question: str = "", now: Frame | None = None
    ) -> Context:
        """What a model of the memory's family is handed with ``question``; see memory/context.py.
        ``now``: the frame on screen, which need not have been kept."""
        family = self._config.family
        return context(self.read(stream), family, budget, question=question, now=now)

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self._stream(stream).nbytes

    def need(self, stream: str) -> int:
        s, c = self._stream(stream), self._config
        return max(self.min_bytes, s.nbytes + one_more(s.rows, c.max_entries, c.token_budget))

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Live within ``nbytes``. Raises UsageError when that is under ``min_bytes``."""
        if nbytes < self.min_bytes:
            raise UsageError(
                f"The frame memory cannot live in {nbytes} bytes; it needs {self.min_bytes}.",
                hint="Give it more, or configure fewer entries.",
            )
        s = self._stream(stream)
        s.limit = nbytes
        self._settle(s)
        s.entries = None

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        s = self._stream(stream)
        tiers = s.rows["tier"]
        return {
            "seen": s.seen,
            "entries": len(s.rows),
            "clear": int((tiers == CLEAR).sum()),
            "blurred": int((tiers == BLURRED).sum()),
            "tokens": int(s.rows["tokens"].sum()),
            "bytes": s.nbytes,
        }

    def snapshot(self, stream: str) -> State:
        s = self._stream(stream)
        tensors = s.rows.tensors() | s.router.state.tensors() | s.background.tensors()
        return State(tensors, {"seen": s.seen, "limit": s.limit})

    def restore(self, stream: str, state: State) -> None:
        s = _Stream(self._config)
        seen, limit = state.header.get("seen"), state.header.get("limit")
        if type(seen) is not int or type(limit) is not int or not 0 <= seen < 2**63:
            raise StateError("The snapshot's header does not belong to a frame memory.")
        s.seen, s.limit = seen, limit
        t = state.tensors
        try:
            s.router.state.load(t["router.history"], t["router.numbers"])
            s.background.load(t["background.mean"], t["background.past"], t["background.clock"])
        except KeyError as missing:
            raise StateError(f"The snapshot has no array {missing}.") from None
        s.rows.load(t)
        check_rows(s.rows)
        crowded = len(s.rows) > self._config.max_entries or s.nbytes > s.limit
        if crowded or sum(s.rows["tokens"].tolist()) > self._config.token_budget:
            raise StateError("The snapshot holds more than this frame memory may keep.")
        s.entries = None
        self._streams[stream] = s
