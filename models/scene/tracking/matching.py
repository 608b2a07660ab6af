# mypy: disallow-untyped-decorators=False
"""Which corners of two pictures are the same: nearest descriptors, by ratio and mutual choice."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

RATIO = 0.8
"""Of the best distance to the second best (Lowe, IJCV 2004)."""
FARTHEST = 80
"""Bits of 256; unrelated descriptors differ in about 128."""

_compiled = njit(cache=True, nogil=True)


def match(
    a: NDArray[np.uint8],
    b: NDArray[np.uint8],
    *,
    at: NDArray[np.float32] | None = None,
    uv: NDArray[np.float32] | None = None,
    radius: float = 0.0,
    ratio: float = RATIO,
) -> NDArray[np.int64]:
    """Pairs [M, 2] of rows of the descriptors ``a`` [N, 32] and ``b`` [K, 32].

    With ``at`` (where in the other picture those of ``a`` should be, [N, 2] pixels; NaN: nowhere)
    only those of ``b`` are looked at whose ``uv`` [K, 2] is within ``radius`` of it.
    """
    if not len(a) or not len(b):
        return np.zeros((0, 2), np.int64)
    if at is None or uv is None:
        at, uv = np.zeros((len(a), 2), np.float32), np.zeros((len(b), 2), np.float32)
        radius = 1.0
    # From top to bottom, so that those within reach are neighbours.
    order = np.argsort(uv[:, 1], kind="stable")
    row = uv[order, 1]
    first = np.searchsorted(row, at[:, 1] - radius)
    last = np.searchsorted(row, at[:, 1] + radius, side="right")
    last[np.isnan(at).any(axis=1)] = 0
    to, back = _nearest(
        _words(a), _words(b[order]), at[:, 0], uv[order, 0], first, last,
        np.float32(radius), np.float32(ratio),
    )  # fmt: skip
    rows = np.flatnonzero(to >= 0)
    rows = rows[back[to[rows]] == rows]
    return np.stack([rows, order[to[rows]]], axis=1)


def _words(descriptors: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(descriptors).view(np.uint64)


@_compiled
def _ones(x: np.uint64) -> np.int64:  # pragma: no cover - compiled to one instruction
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_compiled
def _nearest(a, b, x, near, first, last, radius, ratio):  # type: ignore[no-untyped-def]  # pragma: no cover
    """For each of ``a`` the best of ``b``, -1 when none passes; for each of ``b`` the best of
    ``a``. Looked at are, for row i, those from first[i] to last[i] whose ``near`` is about x[i]."""
    to = np.full(len(a), -1, np.int64)
    back = np.full(len(b), -1, np.int64)
    closest = np.full(len(b), 257, np.int64)
    for i in range(len(a)):
        best, second, chosen = 257, 257, -1
        for j in range(first[i], last[i]):
            if not abs(x[i] - near[j]) <= radius:
                continue
            d = _ones(a[i, 0] ^ b[j, 0]) + _ones(a[i, 1] ^ b[j, 1])
            d += _ones(a[i, 2] ^ b[j, 2]) + _ones(a[i, 3] ^ b[j, 3])
            if d < best:
                best, second, chosen = d, best, j
            elif d < second:
                second = d
            if d < closest[j]:
                closest[j], back[j] = d, i
        if chosen >= 0 and best <= FARTHEST and best < second and best <= ratio * second:
            to[i] = chosen
    return to, back
