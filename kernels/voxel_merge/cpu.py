# mypy: disallow-untyped-decorators=False
"""Merging Gaussians that share a voxel, on the CPU: an open hash, one pass for the moments, and one
eigenvalue problem for each voxel that changed. Same arithmetic as ``reference.py``, in place.

One thread, rows in order: the result does not depend on the machine's number of cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_compiled = njit(cache=True, nogil=True)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

_SUMS = 16
"""Per voxel: c d (3), c (S + d d^T) (6), c opacity, c colour (3), c normal (3)."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The arrays that are merged, float32: means [N, 3], quats [N, 4] wxyz of unit length, scales
    [N, 3], opacities [N], colors [N, 3], normals [N, 3], weights [N] > 0. Changed in place."""

    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    colors: Floats
    normals: Floats
    weights: Floats


def targets(keys: Ints, start: int, rows: Ints) -> Ints:
    """For each of ``rows`` [M] the row its key is found in first, among rows < ``start`` of
    ``keys`` [N], whose keys are all different, and then among ``rows`` in their order."""
    out = np.empty(len(rows), np.int64)
    _targets(keys, start, rows, out)
    return out


def groups(found: Ints, n: int) -> tuple[Ints, Ints]:
    """Rows ``found`` [M] (< ``n``) without repetitions, in order of appearance, and for each of the
    M its number in them."""
    heads, group = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    count = _groups(found, np.full(n, -1, np.int32), heads, group)
    return heads[:count], group


def blend(
    columns: Columns, rows: Ints, group: Ints, heads: Ints, evidence: Floats, gain: Floats
) -> None:
    """Take ``rows`` [M] into the rows ``heads`` [G], ``group`` [M] says which.

    ``evidence`` [G] is the sum of the weights of those who join, ``gain`` [G] the share K in [0,
    1] of the way to go. Weights stay as they are: they are the caller's rule.
    """
    c = columns
    sums = np.zeros((len(heads), _SUMS))
    _sum(
        c.means, c.quats, c.scales, c.opacities, c.colors, c.normals, c.weights,
        rows, group, heads, sums,
    )  # fmt: skip
    _blend(
        c.means, c.quats, c.scales, c.opacities, c.colors, c.normals,
        heads, evidence.astype(np.float64), gain.astype(np.float64), sums,
    )  # fmt: skip


def put(into: Floats, rows: Ints, values: Floats, changed: NDArray[np.bool_]) -> None:
    """Write ``values`` [M, ...] to the ``rows`` [M] of ``into`` [N, ...], but for negative rows;
    ``changed`` [M] becomes True where that made a difference."""
    if into.ndim == 1:
        into, values = into[:, None], values[:, None]
    _put(into, rows, np.ascontiguousarray(values), changed)


@_compiled
def _slot(key: Any, shift: Any) -> Any:
    """Fibonacci hashing: the top bits of the product."""
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))


@_compiled
def _targets(keys: Any, start: int, rows: Any, out: Any) -> None:
    bits = 4
    while (1 << bits) < 2 * (start + len(rows)):
        bits += 1
    shift, last = 64 - bits, (1 << bits) - 1
    table = np.full(1 << bits, -1, np.int32)
    for row in range(start):
        at = _slot(keys[row], shift)
        while table[at] >= 0:
            at = (at + 1) & last
        table[at] = row
    for i in range(len(rows)):
        key = keys[rows[i]]
        at = _slot(key, shift)
        while table[at] >= 0 and keys[table[at]] != key:
            at = (at + 1) & last
        if table[at] < 0:
            table[at] = rows[i]
        out[i] = table[at]


@_compiled
def _put(into: Any, rows: Any, values: Any, changed: Any) -> None:
    for i in range(len(rows)):
        row = rows[i]
        for k in range(into.shape[1]):
            if row >= 0 and into[row, k] != values[i, k]:
                into[row, k] = values[i, k]
                changed[i] = True


@_compiled
def _groups(found: Any, number: Any, heads: Any, group: Any) -> int:
    count = 0
    for i in range(len(found)):
        if number[found[i]] < 0:
            number[found[i]] = count
            heads[count] = found[i]
            count += 1
        group[i] = number[found[i]]
    return count


@_compiled
def _rotation(quats: Any, row: int, r: Any) -> None:
    w, x, y, z = (
        np.float64(quats[row, 0]), np.float64(quats[row, 1]),
        np.float64(quats[row, 2]), np.float64(quats[row, 3]),
    )  # fmt: skip
    r[0, 0], r[0, 1], r[0, 2] = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    r[1, 0], r[1, 1], r[1, 2] = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    r[2, 0], r[2, 1], r[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)


@_compiled
def _variance(r: Any, scales: Any, row: int, i: int, j: int) -> float:
    """Entry (i, j) of the covariance of a Gaussian."""
    total = 0.0
    for k in range(3):
        s = np.float64(scales[row, k])
        total += r[i, k] * r[j, k] * s * s
    return total


@_compiled
def _sum(
    means: Any, quats: Any, scales: Any, opacities: Any, colors: Any, normals: Any, weights: Any,
    rows: Any, group: Any, heads: Any, sums: Any,
) -> None:  # fmt: skip
    r, d = np.empty((3, 3)), np.empty(3)
    for m in range(len(rows)):
        row, g = rows[m], group[m]
        c, head = np.float64(weights[row]), heads[g]
        for i in range(3):
            # From the head's centre: differences of large coordinates would lose the spread.
            d[i] = np.float64(means[row, i]) - np.float64(means[head, i])
            sums[g, i] += c * d[i]
            sums[g, 10 + i] += c * colors[row, i]
            sums[g, 13 + i] += c * normals[row, i]
        _rotation(quats, row, r)
        at = 3
        for i in range(3):
            for j in range(i, 3):
                sums[g, at] += c * (_variance(r, scales, row, i, j) + d[i] * d[j])
                at += 1
        sums[g, 9] += c * opacities[row]


@_compiled
def _blend(
    means: Any, quats: Any, scales: Any, opacities: Any, colors: Any, normals: Any,
    heads: Any, evidence: Any, gain: Any, sums: Any,
) -> None:  # fmt: skip
    r, v, a = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for g in range(len(heads)):
        if not evidence[g] > 0:
            continue
        head, k, share = heads[g], gain[g], gain[g] / evidence[g]
        _rotation(quats, head, r)
        at = 3
        for i in range(3):
            for j in range(i, 3):
                mixed = (1 - k) * _variance(r, scales, head, i, j) + share * sums[g, at]
                v[i, j] = mixed - share * sums[g, i] * share * sums[g, j]
                v[j, i] = v[i, j]
                at += 1
        for i in range(3):
            means[head, i] = means[head, i] + share * sums[g, i]
            colors[head, i] = (1 - k) * colors[head, i] + share * sums[g, 10 + i]
            normals[head, i] = (1 - k) * normals[head, i] + share * sums[g, 13 + i]
        opacities[head] = (1 - k) * opacities[head] + share * sums[g, 9]
        _into_axes(v, r, a)
        _diagonalise(a, r)
        _store(a, r, quats, scales, head)


@_compiled
def _into_axes(v: Any, r: Any, a: Any) -> None:
    """a = R^T V R: in the axes the Gaussian had, the new covariance is nearly diagonal."""
    for i in range(3):
        for j in range(i, 3):
            total = 0.0
            for p in range(3):
                for q in range(3):
                    total += r[p, i] * v[p, q] * r[q, j]
            a[i, j] = total
            a[j, i] = total


@_compiled
def _diagonalise(a: Any, r: Any) -> None:
    """Jacobi's method: turn ``a`` [3, 3] diagonal, and the columns of ``r`` along with it."""
    for _ in range(12):
        off = abs(a[0, 1]) + abs(a[0, 2]) + abs(a[1, 2])
        if off <= 1e-14 * (a[0, 0] + a[1, 1] + a[2, 2]):
            return
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0.0:
                    continue
                theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
                t = 1 / (abs(theta) + math.sqrt(theta * theta + 1))
                if theta < 0:
                    t = -t
                c = 1 / math.sqrt(t * t + 1)
                s = t * c
                k = 3 - p - q
                a[p, p] -= t * a[p, q]
                a[q, q] += t * a[p, q]
                a[p, q] = 0.0
                a[q, p] = 0.0
                kp, kq = a[k, p], a[k, q]
                a[k, p] = c * kp - s * kq
                a[k, q] = s * kp + c * kq
                a[p, k], a[q, k] = a[k, p], a[k, q]
                for i in range(3):
                    ip, iq = r[i, p], r[i, q]
                    r[i, p] = c * ip - s * iq
                    r[i, q] = s * ip + c * iq


@_compiled
def _store(a: Any, r: Any, quats: Any, scales: Any, row: int) -> None:
    """Eigenvalues and axes as scales and a unit quaternion, whose largest part is positive."""
    for i in range(3):
        scales[row, i] = math.sqrt(max(a[i, i], 1e-16))
    trace = r[0, 0] + r[1, 1] + r[2, 2]
    if trace >= r[0, 0] and trace >= r[1, 1] and trace >= r[2, 2]:
        w, x, y, z = 1 + trace, r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]
    elif r[0, 0] >= r[1, 1] and r[0, 0] >= r[2, 2]:
        w, x = r[2, 1] - r[1, 2], 1 + 2 * r[0, 0] - trace
        y, z = r[1, 0] + r[0, 1], r[0, 2] + r[2, 0]
    elif r[1, 1] >= r[2, 2]:
        w, x = r[0, 2] - r[2, 0], r[1, 0] + r[0, 1]
        y, z = 1 + 2 * r[1, 1] - trace, r[2, 1] + r[1, 2]
    else:
        w, x = r[1, 0] - r[0, 1], r[0, 2] + r[2, 0]
        y, z = r[2, 1] + r[1, 2], 1 + 2 * r[2, 2] - trace
    length = math.sqrt(w * w + x * x + y * y + z * z)
    quats[row, 0], quats[row, 1] = w / length, x / length
    quats[row, 2], quats[row, 3] = y / length, z / length
