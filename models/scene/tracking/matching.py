# mypy: disallow-untyped-decorators=False
"""Which corners of two pictures are the same: nearest descriptors, by ratio and mutual choice.

Distances are whole numbers for both kinds: bits that differ, or squares of differences of int8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

from retain.models.scene.tracking.features import Descriptors

RATIO = 0.8
"""Of the best distance to the second best (Lowe, IJCV 2004), in bits."""
FARTHEST = 80
"""Bits of 256; unrelated descriptors differ in about 128."""
ALIKE, ALIKE_RATIO = 0.82, 0.9
"""Of unit vectors: the least cosine (XFeat's own), and the ratio of squares. Descriptors that are
read between the cells of a coarse grid resemble their neighbours'."""
_UNIT = 127 * 127

_compiled = njit(cache=True, nogil=True)


def match(
    a: Descriptors,
    b: Descriptors,
    *,
    at: NDArray[np.float32] | None = None,
    uv: NDArray[np.float32] | None = None,
    radius: float = 0.0,
    ratio: float | None = None,
) -> NDArray[np.int64]:
    """Pairs [M, 2] of rows of the descriptors ``a`` [N, D] and ``b`` [K, D], both of one kind: bits
    (uint8) or unit vectors (int8). ``ratio``: None for that of the kind.

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
    bits = a.dtype == np.uint8
    ratio = (RATIO if bits else ALIKE_RATIO) if ratio is None else ratio
    where = at[:, 0], uv[order, 0], first, last, np.float32(radius), np.float32(ratio)
    if bits:
        to, back = _nearest(_words(a), _words(b[order]), *where, FARTHEST)
    else:
        farthest = int(2 * (1 - ALIKE) * _UNIT)
        to, back = _nearest(a, b[order], *where, farthest)
    rows = np.flatnonzero(to >= 0)
    rows = rows[back[to[rows]] == rows]
    return np.stack([rows, order[to[rows]]], axis=1)


def _words(descriptors: Descriptors) -> NDArray[np.uint64]:
    return np.ascontiguousarray(descriptors).view(np.uint64)


@_compiled
def _ones(x: np.uint64) -> np.int64:  # pragma: no cover - compiled to one instruction
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


def _apart(a: Any, b: Any) -> Any:
    """How far two rows are from each other; compiled by ``_by_kind``."""
    raise NotImplementedError


@overload(_apart, inline="always")
def _by_kind(a, b):  # type: ignore[no-untyped-def]
    return _differing if a.dtype == types.uint64 else _square


def _differing(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    d = _ones(a[0] ^ b[0]) + _ones(a[1] ^ b[1])
    return d + _ones(a[2] ^ b[2]) + _ones(a[3] ^ b[3])


def _square(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    d = np.int32(0)
    for k in range(64):
        apart = np.int32(a[k]) - np.int32(b[k])
        d += apart * apart
    return np.int64(d)


@_compiled
def _nearest(a, b, x, near, first, last, radius, ratio, farthest):  # type: ignore[no-untyped-def]  # pragma: no cover
    """For each of ``a`` the best of ``b``, -1 when none passes; for each of ``b`` the best of
    ``a``. Looked at are, for row i, those from first[i] to last[i] whose ``near`` is about x[i]."""
    none = np.int64(1) << 40
    to = np.full(len(a), -1, np.int64)
    back = np.full(len(b), -1, np.int64)
    closest = np.full(len(b), none, np.int64)
    for i in range(len(a)):
        best, second, chosen = none, none, -1
        for j in range(first[i], last[i]):
            if not abs(x[i] - near[j]) <= radius:
                continue
            d = _apart(a[i], b[j])
            if d < best:
                best, second, chosen = d, best, j
            elif d < second:
                second = d
            if d < closest[j]:
                closest[j], back[j] = d, i
        if chosen >= 0 and best <= farthest and best < second and best <= ratio * second:
            to[i] = chosen
    return to, back
