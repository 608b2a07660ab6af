"""One set of arrays for all Gaussians of a stream: stable rows first, then the active ones.

Allocated once. Rows move only as far as holes have to be filled, so that what is read is always one
contiguous block; the id of a Gaussian goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.kernels.rasterize.gaussians import CODE, Gaussians
from retain.kernels.voxel_merge.cpu import Columns

DROP, STABLE, ACTIVE = 0, 1, 2
ATTRIBUTES = ("means", "quats", "scales", "opacities", "colors")

COLUMNS: Mapping[str, tuple[Any, int]] = {
    "means": (np.float32, 3),
    "quats": (np.float32, 4),
    "scales": (np.float32, 3),
    "opacities": (np.float32, 1),
    "colors": (np.float32, 3),
    "normals": (np.float32, 3),
    "weights": (np.float32, 1),
    "born": (np.float32, 3),
    "keys": (np.int64, 1),
    "ids": (np.int32, 1),
    "anchor": (np.int32, 1),
    "first_seen": (np.int32, 1),
    "last_seen": (np.int32, 1),
    "touched": (np.int32, 1),
    "mark": (np.int32, 1),
    "count": (np.uint8, 1),
    "doubted": (np.uint8, 1),
}
"""Type and numbers per row. ``anchor``: slot of its keyframe. ``touched``: epoch of its last
visible change. ``count``: of an active row, keyframes that saw it, ``mark`` being the last of
these; of a stable row, times it was in the way since it was last seen. ``doubted``, of an active
row: whether something else was ever measured where it should be."""


def columns(codes: bool) -> dict[str, tuple[Any, int]]:
    return dict(COLUMNS) | ({"codes": (np.float16, CODE)} if codes else {})


ID_BYTES = 8
"""Of one id, in the two tables of ids."""


def row_bytes(codes: bool) -> int:
    """Of one Gaussian, without its id."""
    sides = columns(codes).values()
    return sum(int(np.dtype(dtype).itemsize) * width for dtype, width in sides)


class Arena:
    """At most ``rows`` Gaussians. ``arena["means"]`` are the rows in use, a writable view."""

    def __init__(self, rows: int, codes: bool) -> None:
        self.rows, self.n, self.stable = rows, 0, 0
        self.peak = 0
        """The most rows that were in use: memory beyond them was never touched, and as new
        Gaussians get the lowest free ids, every id is less."""
        self.arrays: dict[str, NDArray[Any]] = {
            name: np.zeros(rows if width == 1 else (rows, width), dtype)
            for name, (dtype, width) in columns(codes).items()
        }
        self.row_of = np.full(rows, -1, np.int32)
        """Of each id its row, -1 for none."""
        self.died = np.zeros(rows, np.int32)
        """Of each id the epoch its last Gaussian went, 0 for never."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.arrays[name][: self.n]

    @property
    def nbytes(self) -> int:
        return self.peak * row_bytes(self.codes) + self.rows * ID_BYTES

    @property
    def codes(self) -> bool:
        return "codes" in self.arrays

    def merged(self) -> Columns:
        """What the merge kernel works on."""
        return Columns(
            self["means"], self["quats"], self["scales"], self["opacities"],
            self["colors"], self["normals"], self["weights"],
        )  # fmt: skip

    def append(self, **values: Any) -> NDArray[np.int64]:
        """Add active rows (arrays [N, ...] or one number for all) and return where they are. Each
        gets the lowest free id. A full arena is a bug of its caller."""
        count = len(values["means"])
        assert self.n + count <= self.rows, "append to a full arena"
        new = slice(self.n, self.n + count)
        self.n += count
        self.peak = max(self.peak, self.n)
        for name, array in self.arrays.items():
            array[new] = values.get(name, 0)
        ids = np.flatnonzero(self.row_of[: self.peak] < 0)[:count]
        rows = np.arange(new.start, new.stop)
        self.arrays["ids"][new], self.row_of[ids] = ids, rows
        return rows

    def arrange(self, kind: NDArray[np.uint8], epoch: int) -> int:
        """Give each row [n] its kind: those to drop go, stable ones stand first. Returns how many
        went."""
        going = np.flatnonzero(kind == DROP)
        ids = self["ids"][going]
        self.row_of[ids], self.died[ids] = -1, epoch
        stable, n = int((kind == STABLE).sum()), len(kind) - len(going)
        front, middle, tail = kind[:stable], kind[stable:n], kind[n:]
        source = np.concatenate([
            stable + np.flatnonzero(kind[stable:] == STABLE),
            np.flatnonzero(front == ACTIVE),
            n + np.flatnonzero(tail == ACTIVE),
        ])  # fmt: skip
        place = np.concatenate([
            np.flatnonzero(front != STABLE), stable + np.flatnonzero(middle != ACTIVE),
        ])  # fmt: skip
        for array in self.arrays.values():
            array[place] = array[source]
        self.row_of[self.arrays["ids"][place]] = place
        self.n, self.stable = n, stable
        return len(going)

    def kinds(self) -> NDArray[np.uint8]:
        """uint8 [n], as rows are now."""
        kind = np.full(self.n, ACTIVE, np.uint8)
        kind[: self.stable] = STABLE
        return kind

    def gaussians(self, rows: slice | NDArray[Any]) -> Gaussians:
        """Those rows: views for a slice, copies otherwise. Codes are made float32 and unit
        length."""
        codes = None
        if self.codes:
            codes = self["codes"][rows].astype(np.float32)
            codes /= np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)
        means, quats, scales, opacities, colors = (self[name][rows] for name in ATTRIBUTES)
        return Gaussians(means, quats, scales, opacities, colors, codes)
