"""The stable part of a map: one Gaussian for each voxel, and what is done to keep it so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.voxel_merge import cells, cpu
from retain.memory.evolve import Policy, evolve
from retain.memory.gaussian.arena import DROP, STABLE, Arena

Rows = NDArray[np.int64]


def commit(
    arena: Arena, rows: Rows, cell: float, policy: Policy, epoch: int
) -> tuple[NDArray[np.uint8], int]:
    """Take active ``rows`` into the stable set: into the Gaussian of their voxel, or as its first.

    Returns the kinds of all rows for ``Arena.arrange``, to drop those merged away and those beyond
    the grid, and how many of the former there are.
    """
    rows, kind = _place(arena, rows, cell)
    _spread(arena, rows, cell, epoch)
    found = cpu.targets(arena["keys"], arena.stable, rows)
    first = rows[found == rows]
    kind[first] = STABLE
    merged = _fuse(arena, rows, found, policy, epoch)
    kind[merged] = DROP
    arena["born"][first] = arena["means"][first]
    arena["count"][first] = 0
    return kind, len(merged)


COVER = 0.4
"""Standard deviation along the surface, in sides of its voxel, that a stable Gaussian has at
least."""


def _spread(arena: Arena, rows: Rows, cell: float, epoch: int) -> None:
    """Make ``rows`` wide enough to cover a voxel each: those that meet in one stood for less than
    its side, and what takes the place of several would leave gaps."""
    least = COVER * cells.sides(cells.level_of(arena["keys"][rows]), cell)
    scales = arena["scales"][rows]
    thin = scales.argmin(axis=1)[:, None] == np.arange(3)
    wide = np.where(thin, scales, np.maximum(scales, least[:, None])).astype(np.float32)
    arena["touched"][rows[(wide != scales).any(axis=1)]] = epoch
    arena["scales"][rows] = wide


def rekey(
    arena: Arena, rows: Rows, cell: float, policy: Policy, epoch: int
) -> tuple[NDArray[np.uint8], int]:
    """Give stable ``rows`` that moved the keys of where they are, and merge those that met. Returns
    what ``commit`` does."""
    _, kind = _place(arena, rows, cell)
    alive = np.flatnonzero(kind[: arena.stable] == STABLE)
    found = cpu.targets(arena["keys"], 0, alive)
    merged = _fuse(arena, alive, found, policy, epoch)
    kind[merged] = DROP
    return kind, len(merged)


def _place(arena: Arena, rows: Rows, cell: float) -> tuple[Rows, NDArray[np.uint8]]:
    """Give ``rows`` the keys of where they are, on the levels they have. Returns those that are on
    the grid, and the kinds of all rows, to drop the others."""
    keys = cells.pack(arena["means"][rows], cells.level_of(arena["keys"][rows]), cell)
    kind = arena.kinds()
    kind[rows[keys < 0]] = DROP
    rows, keys = rows[keys >= 0], keys[keys >= 0]
    arena["keys"][rows] = keys
    return rows, kind


def _fuse(arena: Arena, rows: Rows, found: Rows, policy: Policy, epoch: int) -> Rows:
    """Merge each of ``rows`` into ``found``, unless that is itself; returns those merged away."""
    going = rows[found != rows]
    heads, group = cpu.groups(found[found != rows], arena.n)
    weights = arena["weights"]
    evidence = np.bincount(group, weights[going], len(heads)).astype(np.float32)
    gain, total = policy.gain(weights[heads], evidence)
    if arena.codes:
        _fuse_codes(arena["codes"], weights, going, group, heads, policy)
    cpu.blend(arena.merged(), going, group, heads, evidence, gain)
    weights[heads] = total
    first, last = arena["first_seen"], arena["last_seen"]
    np.minimum.at(first, heads[group], first[going])
    np.maximum.at(last, heads[group], last[going])
    arena["touched"][heads] = epoch
    gone: Rows = going
    return gone


def _fuse_codes(
    codes: NDArray[Any], weights: NDArray[Any], rows: Rows, group: Rows, heads: Rows, policy: Policy
) -> None:
    sums = np.zeros((len(heads), codes.shape[1]), np.float32)
    np.add.at(sums, group, weights[rows, None] * codes[rows].astype(np.float32))
    evidence = np.bincount(group, weights[rows], len(heads)).astype(np.float32)
    mean = sums / np.maximum(evidence, 1e-30)[:, None]
    old = codes[heads].astype(np.float32)
    codes[heads] = evolve(old, mean, weights[heads], evidence, policy)[0]


def move(arena: Arena, rows: Rows, motions: NDArray[np.float64], which: Rows) -> None:
    """Carry ``rows`` rigidly along: row i by ``motions`` [M, 4, 4] number ``which[i]``."""
    turn, step = motions[:, :3, :3], motions[:, :3, 3]
    for name, shift in (("means", step), ("normals", np.zeros_like(step))):
        old = arena[name][rows].astype(np.float64)
        arena[name][rows] = np.einsum("nij,nj->ni", turn[which], old) + shift[which]
    arena["quats"][rows] = _product(rigid.quaternion(turn)[which], arena["quats"][rows])


def _product(a: NDArray[np.float64], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Quaternion products [N, 4], made unit length."""
    (w, x, y, z), (p, q, r, s) = a.T, b.T
    out = np.stack([
        w * p - x * q - y * r - z * s, w * q + x * p + y * s - z * r,
        w * r - x * s + y * p + z * q, w * s + x * r - y * q + z * p,
    ], axis=1)  # fmt: skip
    return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))


def worth(arena: Arena, seen_since: int) -> NDArray[np.float64]:
    """[stable]: weight times opacity times area. One that was seen since frame ``seen_since`` is
    worth more than any that was not, so that a full map follows the camera instead of standing
    still."""
    s = slice(arena.stable)
    scales = np.sort(arena["scales"][s], axis=1).astype(np.float64)
    value = arena["weights"][s] * arena["opacities"][s] * scales[:, 1] * scales[:, 2]
    recent = arena["last_seen"][s] >= seen_since
    return np.where(recent, value + value.max(initial=0) + 1, value)
