"""Pictures with depth that a map is refined against: the newest, and others spread over the past.

Refinement against new pictures alone would let the map forget old places; a few old ones, drawn
anew each time, hold it (MonoGS's random keyframes, arXiv 2312.06741).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.rigid import is_rigid
from retain.memory.base import Json, State
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Image

MILLIMETRE = 0.001


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """Size of the pictures, and how many the memory holds. ``newest`` of them are never thinned
    out. Raises UsageError when they cannot work."""

    width: int
    height: int
    views: int = 64
    newest: int = 8

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or not 1 <= self.newest < self.views:
            raise UsageError(
                f"A memory of {self.views} views of {self.width}x{self.height} pixels, the newest "
                f"{self.newest} kept, cannot be: sizes must be positive and some rows left for old "
                "views."
            )

    @property
    def row_bytes(self) -> int:
        return self.width * self.height * 5 + 8 + 8 + 128 + 32


@dataclass(frozen=True, slots=True)
class StoredView:
    """One picture, and where it was taken from: ``local`` in the coordinates of the keyframe
    ``anchor``, with which it moves."""

    seq: int
    """Of its frame; rising."""
    anchor: int
    local: NDArray[np.float64]
    """[4, 4]."""
    lens: NDArray[np.float64]
    """[4]: fx, fy, cx, cy in pixels; cameras that focus change them from picture to picture."""
    image: Image
    """uint8 [H, W, 3] RGB."""
    depth: NDArray[np.float32]
    """[H, W] metres, whole millimetres, 0 unknown."""


class ViewMemory:
    """At most ``views`` pictures per stream, in arrays allocated once; a row is overwritten when
    they are full: of the older ones, that whose neighbours in time are closest together."""

    def __init__(self, config: ViewConfig) -> None:
        self._config = config
        self._streams: dict[str, _Rows] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "views", **asdict(self._config)}

    @property
    def min_bytes(self) -> int:
        return (self._config.newest + 1) * self._config.row_bytes

    def write(self, stream: str, item: StoredView, gate: float = 1.0) -> None:
        """Keep a picture, with ``gate`` > 0. Raises ValueError for one of another size or with a
        number that is not above those before."""
        c = self._config
        if item.image.shape != (c.height, c.width, 3) or item.depth.shape != (c.height, c.width):
            raise ValueError(f"this memory keeps pictures of {c.width}x{c.height} pixels")
        if gate > 0:
            self._stream(stream).append(item)

    def read(self, stream: str, query: Collection[int] | None = None) -> tuple[StoredView, ...]:
        """All pictures, oldest first; or those of the frames ``query`` that are there."""
        rows = self._stream(stream)
        return tuple(
            rows.view(row) for row in range(rows.count) if query is None or rows.seq[row] in query
        )

    def seqs(self, stream: str) -> NDArray[np.int64]:
        """Frames of those held, rising."""
        rows = self._stream(stream)
        return rows.seq[: rows.count].copy()

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return len(self._stream(stream).seq) * self._config.row_bytes

    @property
    def max_bytes(self) -> int:
        return self._config.views * self._config.row_bytes

    def need(self, stream: str) -> int:
        views = min(self._stream(stream).count + 1, self._config.views)
        return max(self.min_bytes, views * self._config.row_bytes)

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Hold fewer pictures from now on. Raises UsageError under ``min_bytes``."""
        if nbytes < self.min_bytes:
            raise UsageError(
                f"A view memory cannot live in {nbytes} bytes; it needs {self.min_bytes}.",
                hint="Raise the budget, or keep smaller pictures.",
            )
        self._stream(stream).resize(min(self._config.views, nbytes // self._config.row_bytes))

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"views": self._stream(stream).count, "bytes": self.nbytes(stream)}

    def snapshot(self, stream: str) -> State:
        rows = self._stream(stream)
        n = rows.count
        return State(
            {name: getattr(rows, name)[:n].copy() for name in _ARRAYS}, {"room": len(rows.seq)}
        )

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, changing nothing, for anything but pictures of this size."""
        c = self._config
        seq = state.tensors.get("seq")
        n = len(seq) if seq is not None and seq.ndim == 1 else -1
        sides = {"seq": (), "anchor": (), "local": (4, 4), "lens": (4,),
                 "image": (c.height, c.width, 3), "depth": (c.height, c.width)}  # fmt: skip
        found = {name: (a.dtype, a.shape) for name, a in state.tensors.items()}
        if found != {name: (np.dtype(kind), (n, *sides[name])) for name, kind in _ARRAYS.items()}:
            raise StateError("The snapshot's arrays are not those of a memory of such pictures.")
        room = state.header.get("room")
        if not isinstance(room, int) or not max(n, c.newest + 1) <= room <= c.views:
            raise StateError(f"The snapshot's view memory has room for {room!r} pictures.")
        if (np.diff(state.tensors["seq"]) <= 0).any():
            raise StateError("The snapshot's pictures are out of order.")
        if not all(is_rigid(pose) for pose in state.tensors["local"]):
            raise StateError("The snapshot's pictures have poses that are no rigid motions.")
        lens = state.tensors["lens"]
        if not np.isfinite(lens).all() or (lens[:, :2] <= 0).any():
            raise StateError("The snapshot's pictures have a lens that is none.")
        rows = _Rows(c, room)
        rows.count = n
        for name in _ARRAYS:
            getattr(rows, name)[:n] = state.tensors[name]
        self._streams[stream] = rows

    def _stream(self, stream: str) -> _Rows:
        if stream not in self._streams:
            self._streams[stream] = _Rows(self._config, self._config.views)
        return self._streams[stream]


_ARRAYS: dict[str, Any] = {
    "seq": np.int64,
    "anchor": np.int64,
    "local": np.float64,
    "lens": np.float64,
    "image": np.uint8,
    "depth": np.uint16,
}


class _Rows:
    """One stream's pictures, oldest first."""

    def __init__(self, config: ViewConfig, room: int) -> None:
        h, w = config.height, config.width
        self._config = config
        self.seq = np.zeros(room, np.int64)
        self.anchor = np.zeros(room, np.int64)
        self.local = np.zeros((room, 4, 4))
        self.lens = np.zeros((room, 4))
        self.image = np.zeros((room, h, w, 3), np.uint8)
        self.depth = np.zeros((room, h, w), np.uint16)
        self.count = 0

    def append(self, item: StoredView) -> None:
        if self.count and item.seq <= self.seq[self.count - 1]:
            raise ValueError("pictures are kept in the order of their frames")
        if self.count == len(self.seq):
            self._thin()
        row = self.count
        self.seq[row], self.anchor[row], self.local[row] = item.seq, item.anchor, item.local
        self.lens[row], self.image[row] = item.lens, item.image
        self.depth[row] = np.clip(np.rint(item.depth / MILLIMETRE), 0, 65535)
        self.count += 1

    def view(self, row: int) -> StoredView:
        return StoredView(
            int(self.seq[row]),
            int(self.anchor[row]),
            self.local[row].copy(),
            self.lens[row].copy(),
            self.image[row].copy(),
            self.depth[row].astype(np.float32) * np.float32(MILLIMETRE),
        )

    def resize(self, room: int) -> None:
        while self.count > room:
            self._thin()
        if room == len(self.seq):
            return
        kept = self.count
        for name in _ARRAYS:
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[:kept] = old[:kept]
            setattr(self, name, new)

    def _thin(self) -> None:
        """Take out the older view whose neighbours are closest in time; never the first."""
        seq, old = self.seq, max(1, self.count - self._config.newest)
        gaps = [seq[row + 1] - seq[row - 1] for row in range(1, old)]
        row = 1 + int(np.argmin(gaps)) if gaps else 0
        for name in _ARRAYS:
            array = getattr(self, name)
            array[row : self.count - 1] = array[row + 1 : self.count]
        self.count -= 1
