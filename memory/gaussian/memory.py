"""Gaussian memory: what the newest keyframes saw, and what has proved itself of all before.

A keyframe's Gaussians are *active* while it is in the window. Those that other keyframes saw in
the same place are then *promoted*: merged, by confidence, into the one stable Gaussian of their
voxel (OnlineX's active and stable state, arXiv 2603.02134, with an explicit map for the state).
The rest expires. See docs/gaussian-memory.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.voxel_merge import cells, cpu, sight
from retain.memory.base import Json, State
from retain.memory.gaussian import saving, stable
from retain.memory.gaussian.arena import ATTRIBUTES, DROP
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.keyframe import Changes, Keyframe, MapView
from retain.memory.gaussian.stream import Stream, min_bytes, resized
from retain.pipeline.errors import UsageError

Which = Literal["all", "stable", "active"]


class GaussianMemory:
    """A bounded map for any number of streams; see the module's text."""

    max_bytes = None

    def __init__(self, config: GaussianConfig | None = None) -> None:
        self._config = config or GaussianConfig()
        self._streams: dict[str, Stream] = {}
        self._rows: dict[str, int] = {}
        """Of streams that were told their limit: how many Gaussians they may hold."""
        if self._config.byte_budget < self.min_bytes:
            raise UsageError(
                f"A Gaussian map with {self._config.keyframes} keyframes needs at least "
                f"{self.min_bytes} bytes per stream, but byte_budget is "
                f"{self._config.byte_budget}.",
                hint="Raise byte_budget or lower keyframes.",
            )

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "gaussians", **asdict(self._config)}

    @property
    def min_bytes(self) -> int:
        return min_bytes(self._config)

    def write(self, stream: str, item: Keyframe, gate: float = 1.0) -> NDArray[np.uint32]:
        """Take a keyframe into the window; returns the ids of its Gaussians.

        ``gate`` scales their confidence; 0 keeps the keyframe out. Left out are Gaussians of no
        confidence or beyond the grid and, where the budget is small, those of least confidence.
        Raises ValueError for an id that was written before.
        """
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        s = self._stream(stream)
        if item.id in s.keyframes:
            raise ValueError(f"keyframe {item.id} was written before")
        if gate == 0:
            return np.zeros(0, np.uint32)
        if self._config.codes and item.gaussians.codes is None:
            raise ValueError("this map keeps language codes, the keyframe has none")
        s.epoch += 1
        s.seq = max(s.seq, item.seq)
        keys = cells.pack(
            item.gaussians.means, cells.levels(item.size, self._config.cell), self._config.cell
        )
        chosen = _most_confident(item.confidence, keys >= 0, s.arena.rows // 2)
        self._make_room(s, len(chosen))
        slot = s.keyframes.add(item.id, item.seq, np.asarray(item.c2w, np.float64))
        g = item.gaussians
        values = {name: getattr(g, name)[chosen] for name in ATTRIBUTES}
        if self._config.codes and g.codes is not None:
            values["codes"] = g.codes[chosen]
        rows = s.arena.append(
            **values,
            normals=item.normals[chosen],
            weights=item.confidence[chosen] * np.float32(gate),
            keys=keys[chosen],
            anchor=slot,
            first_seen=item.seq,
            last_seen=item.seq,
            touched=s.epoch,
            mark=item.id,
            count=1,
        )
        s.count(keyframes=1, written=len(rows))
        return s.arena["ids"][rows].view(np.uint32)

    def _make_room(self, s: Stream, count: int) -> None:
        """For a keyframe of ``count`` Gaussians: in the window, which has half of the rows, in the
        table of poses, and in the arena."""
        c, frames = self._config, s.keyframes
        active = s.arena.n - s.arena.stable
        while frames.window and (
            len(frames.window) >= c.window or active + count > s.arena.rows // 2
        ):
            self._retire(s)
            active = s.arena.n - s.arena.stable
        if frames.full:
            slot, heir = frames.evict()
            s.arena["anchor"][s.arena["anchor"] == slot] = heir
        self._drop_least(s, s.arena.n + count - s.arena.rows)

    def _retire(self, s: Stream) -> None:
        """The oldest keyframe leaves the window: its Gaussians become stable or expire."""
        a, c = s.arena, self._config
        slot = s.keyframes.window.pop(0)
        rows = a.stable + np.flatnonzero(a["anchor"][a.stable :] == slot)
        good = a["count"][rows] >= c.confirmations
        if not c.expire_unseen:
            good |= (a["count"][rows] == 1) & (a["doubted"][rows] == 0)
        solid = a["opacities"][rows] >= c.min_opacity
        before, promoted = a.stable, rows[good & solid]
        kind, merged = stable.commit(a, promoted, c.cell, c.policy, s.epoch)
        kind[rows[~(good & solid)]] = DROP
        a.arrange(kind, s.epoch)
        added = a.stable - before
        s.count(
            promoted=added, merged=merged, pruned_range=len(promoted) - added - merged,
            expired=int((~good).sum()), pruned_opacity=int((good & ~solid).sum()),
        )  # fmt: skip

    def settle(self, stream: str) -> None:
        """Empty the window, as at the end of a stream: what proved itself becomes stable."""
        s = self._stream(stream)
        s.epoch += 1
        while s.keyframes.window:
            self._retire(s)

    def _drop_least(self, s: Stream, excess: int) -> None:
        """Make room by the stable Gaussians of least worth."""
        if excess <= 0:
            return
        a = s.arena
        since = s.keyframes.since(self._config.window)
        kind = a.kinds()
        least = np.argsort(stable.worth(a, since), kind="stable")[:excess]
        kind[least] = DROP
        s.count(pruned_budget=a.arrange(kind, s.epoch))

    def observe(
        self,
        stream: str,
        seq: int,
        camera: Camera,
        c2w: NDArray[np.float64],
        depth: NDArray[np.float32] | None,
    ) -> None:
        """What frame ``seq`` saw: ``depth`` [H, W] metres of ``camera``'s size, 0 where unknown,
        negative where guessed (that confirms, but removes nothing); with None nothing is learnt.

        Active Gaussians found where they should be count as seen by the newest keyframe. Stable
        ones are seen, or in the way: too often, and their weight is halved; under ``min_weight``
        they go.
        """
        if depth is None:
            return
        if depth.shape != (camera.height, camera.width):
            raise ValueError(f"depth is {list(depth.shape)}, the camera {camera}")
        s, c = self._stream(stream), self._config
        s.epoch += 1
        s.seq = max(s.seq, seq)
        a = s.arena
        verdict = sight.verdicts(
            a["means"], a["scales"], np.ascontiguousarray(depth, np.float32), camera,
            rigid.inverse(c2w), c.agree, c.front, c.max_footprint,
        )  # fmt: skip
        seen = verdict == sight.AGREES
        a["last_seen"][seen] = np.maximum(a["last_seen"][seen], seq)
        a["doubted"][(verdict == sight.IN_FRONT) | (verdict == sight.DIFFERS)] = 1
        fresh = seen & (a["mark"] != s.keyframes.newest)
        fresh[: a.stable] = False
        a["count"][fresh] = np.minimum(a["count"][fresh], 254) + 1
        a["mark"][fresh] = s.keyframes.newest
        self._judge(s, verdict[: a.stable])

    def _judge(self, s: Stream, verdict: NDArray[np.uint8]) -> None:
        """Weaken and remove stable Gaussians, by verdicts [stable]."""
        a, c = s.arena, self._config
        count, weights = a["count"][: a.stable], a["weights"][: a.stable]
        count[verdict == sight.AGREES] = 0
        count[verdict == sight.IN_FRONT] += 1
        weak = count >= c.violations
        count[weak] = 0
        weights[weak] *= np.float32(0.5)
        gone, huge = weak & (weights < c.min_weight), verdict == sight.HUGE
        faint = a["opacities"][: a.stable] < c.min_opacity
        going = gone | huge | faint
        if going.any():
            kind = a.kinds()
            kind[: a.stable][going] = DROP
            a.arrange(kind, s.epoch)
            s.count(
                pruned_free_space=int(gone.sum()), pruned_footprint=int((huge & ~gone).sum()),
                pruned_opacity=int((faint & ~huge & ~gone).sum()),
            )  # fmt: skip

    def correct(self, stream: str, poses: Mapping[int, NDArray[np.float64]]) -> None:
        """Give keyframes new poses (c2w) by id; their Gaussians move along rigidly, and those that
        meet in a voxel merge. Ids of keyframes no longer kept are passed over: another one answers
        for their Gaussians."""
        s = self._stream(stream)
        slots, motions = s.keyframes.place(poses)
        if not len(slots):
            return
        s.epoch += 1
        number = np.full(len(s.keyframes.ids), -1)
        number[slots] = np.arange(len(slots))
        which = number[s.arena["anchor"]]
        rows = np.flatnonzero(which >= 0)
        stable.move(s.arena, rows, motions, which[rows])
        self._moved(s, rows)

    def repose(self, stream: str, poses: Mapping[int, NDArray[np.float64]]) -> None:
        """Give keyframes new poses (c2w) by id, and leave Gaussians where they are: a refiner that
        moved both found that so the pictures fit. Ids no longer kept are passed over."""
        self._stream(stream).keyframes.place(poses)

    def update(self, stream: str, ids: NDArray[np.uint32], gaussians: Gaussians) -> None:
        """Write back what a refiner made of the Gaussians ``ids`` [N] (codes stay as they are);
        those that moved change their voxel. An id that is gone is passed over.

        Raises ValueError for values that are no Gaussians.
        """
        if len(ids) != len(gaussians):
            raise ValueError(f"{len(ids)} ids for {len(gaussians)} Gaussians")
        for name in ATTRIBUTES:
            if not np.isfinite(getattr(gaussians, name)).all():
                raise ValueError(f"refined {name} are not finite")
        lengths = np.linalg.norm(gaussians.quats, axis=1, keepdims=True)
        if (gaussians.scales <= 0).any() or (lengths < 1e-6).any():
            raise ValueError("refined Gaussians have no extent or no direction")
        s = self._stream(stream)
        s.epoch += 1
        a, known = s.arena, ids < s.arena.rows
        rows = np.where(known, a.row_of[np.where(known, ids, 0)], -1).astype(np.int64)
        # Unit quaternions stay as they are, to the bit: what did not change need not be told.
        quats = np.where(np.abs(lengths - 1) > 1e-6, gaussians.quats / lengths, gaussians.quats)
        new = {name: getattr(gaussians, name) for name in ATTRIBUTES} | {"quats": quats}
        changed = np.zeros(len(rows), np.bool_)
        for name, values in new.items():
            cpu.put(a[name], rows, values, changed)
        self._moved(s, rows[changed])

    def _moved(self, s: Stream, rows: NDArray[np.int64]) -> None:
        a, c = s.arena, self._config
        a["touched"][rows] = s.epoch
        kind, merged = stable.rekey(a, rows[rows < a.stable], c.cell, c.policy, s.epoch)
        s.count(merged=merged, pruned_range=a.arrange(kind, s.epoch) - merged)

    def read(self, stream: str, query: Which = "all") -> MapView:
        """The stable part, the active one, or both. Cheap: nothing is copied but codes."""
        a = self._stream(stream).arena
        if query not in ("all", "stable", "active"):
            raise UsageError(f"A map is read as all, stable or active, not {query!r}.")
        start, end = {"all": (0, a.n), "stable": (0, a.stable), "active": (a.stable, a.n)}[query]
        part = slice(start, end)
        return MapView(
            a.gaussians(part),
            a["ids"][part].view(np.uint32),
            max(0, a.stable - start),
            a["weights"][part],
            a["normals"][part],
            a["born"][part],
            a["first_seen"][part],
            a["last_seen"][part],
        )

    def changes(self, stream: str, since: int) -> Changes:
        """What is different from the map at epoch ``since``: 0, or the epoch of an earlier
        answer."""
        s = self._stream(stream)
        a = s.arena
        whole = not s.whole_before <= since <= s.epoch or since == 0
        rows = np.arange(a.n) if whole else np.flatnonzero(a["touched"] > since)
        removed = np.flatnonzero(a.died[: a.peak] > since) if not whole else np.zeros(0, np.int64)
        return Changes(
            s.epoch, whole, removed.astype(np.uint32), a["ids"][rows].view(np.uint32),
            a.gaussians(rows),
        )  # fmt: skip

    def poses(self, stream: str) -> dict[int, NDArray[np.float64]]:
        """c2w of the keyframes that are kept, by id."""
        k = self._stream(stream).keyframes
        return {int(k.ids[i]): k.c2w[i].copy() for i in np.flatnonzero(k.ids >= 0)}

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self._stream(stream).nbytes

    def need(self, stream: str) -> int:
        """With a keyframe more, as large as the newest; half of the rows are the window's."""
        s, c = self._stream(stream), self._config
        window, anchor = s.keyframes.window, s.arena["anchor"][s.arena.stable :]
        if not window:
            return self.min_bytes
        more = int((anchor == window[-1]).sum())
        leaves = int((anchor == window[0]).sum()) if len(window) >= c.window else 0
        active = len(anchor) + more - leaves
        return max(self.min_bytes, Stream.bytes_of(c, max(s.arena.n + more, 2 * active)))

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Live within ``nbytes``; where that is less than what is held, the newest keyframes stay
        and Gaussians get new ids. Raises UsageError when it is under ``min_bytes``."""
        if nbytes < self.min_bytes:
            raise UsageError(
                f"The Gaussian map cannot live in {nbytes} bytes; it needs {self.min_bytes}.",
                hint="Give it more, or configure fewer keyframes.",
            )
        s = self._stream(stream)
        rows = self._rows[stream] = Stream.rows_in(self._config, nbytes)
        if rows == s.arena.rows:
            return
        s.epoch += 1
        while s.arena.n - s.arena.stable > rows // 2 and len(s.keyframes.window) > 1:
            self._retire(s)
        self._trim_newest(s, rows // 2)
        self._drop_least(s, s.arena.n - rows)
        self._streams[stream] = resized(s, self._config, rows)

    def _trim_newest(self, s: Stream, most: int) -> None:
        """One keyframe alone can be too large: its most confident Gaussians stay."""
        a = s.arena
        excess = a.n - a.stable - most
        if excess > 0:
            kind = a.kinds()
            least = np.argsort(a["weights"][a.stable :], kind="stable")[:excess]
            kind[a.stable + least] = DROP
            s.count(pruned_budget=a.arrange(kind, s.epoch))

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        s = self._stream(stream)
        return {
            "active": s.arena.n - s.arena.stable,
            "stable": s.arena.stable,
            "room": s.arena.rows,
            "window": len(s.keyframes.window),
            "poses": len(s.keyframes),
            "bytes": s.nbytes,
            **s.counts,
        }

    def snapshot(self, stream: str) -> State:
        return saving.state(self._stream(stream))

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, with the map as it was, for arrays that are not this map's."""
        self._streams[stream] = saving.stream(state, self._config)

    def _stream(self, stream: str) -> Stream:
        if stream not in self._streams:
            rows = Stream.rows_in(self._config, self._config.byte_budget)
            self._streams[stream] = Stream(self._config, self._rows.get(stream, rows))
        return self._streams[stream]


def _most_confident(
    confidence: NDArray[np.float32], usable: NDArray[np.bool_], most: int
) -> NDArray[np.int64]:
    """Numbers of at most ``most`` usable Gaussians with confidence, in their order."""
    chosen = np.flatnonzero(usable & (confidence > 0))
    if len(chosen) <= most:
        return chosen
    best = np.argsort(-confidence[chosen], kind="stable")[:most]
    return np.sort(chosen[best])
