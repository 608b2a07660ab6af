"""Merging Gaussians by voxel: keys, CPU = definition, and what a merge must keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.voxel_merge import cells, cpu, reference, sight

CELL = 0.02


def columns(n: int, seed: int, spread: float = 0.05) -> cpu.Columns:
    rng = np.random.default_rng(seed)
    quats, normals = rng.standard_normal((n, 4)), rng.standard_normal((n, 3))
    return cpu.Columns(
        *(
            np.ascontiguousarray(array, np.float32)
            for array in (
                5 + spread * rng.standard_normal((n, 3)),
                quats / np.linalg.norm(quats, axis=1, keepdims=True),
                np.exp(rng.uniform(-6, -3, (n, 3))),
                rng.uniform(0.05, 1, n),
                rng.uniform(0, 1, (n, 3)),
                normals / np.linalg.norm(normals, axis=1, keepdims=True),
                rng.uniform(0.05, 1, n),
            )
        )
    )


def taken(c: cpu.Columns, rows: np.ndarray) -> cpu.Columns:
    return cpu.Columns(*(np.ascontiguousarray(getattr(c, name)[rows]) for name in c.__slots__))


def gain(weight: torch.Tensor, evidence: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return evidence / (weight + evidence), weight + evidence


def merge(c: cpu.Columns, keys: np.ndarray, start: int) -> np.ndarray:
    """Merge in place as the memory does, without a cap; which rows are left."""
    rows = np.arange(start, len(keys))
    found = cpu.targets(keys, start, rows)
    going = rows[found != rows]
    heads, group = cpu.groups(found[found != rows], len(keys))
    evidence = np.bincount(group, c.weights[going], len(heads)).astype(np.float32)
    share = evidence / (c.weights[heads] + evidence)
    cpu.blend(c, going, group, heads, evidence, share)
    c.weights[heads] += evidence
    return np.setdiff1d(np.arange(len(keys)), going)


def covariances(c: cpu.Columns) -> np.ndarray:
    quats, scales = torch.from_numpy(c.quats), torch.from_numpy(c.scales)
    quats = quats.double() / quats.double().norm(dim=1, keepdim=True)
    return np.asarray(reference.covariances(quats, scales.double()))


def values(c: cpu.Columns) -> np.ndarray:
    return np.concatenate([c.opacities[:, None], c.colors, c.normals], axis=1)


@settings(deadline=None, max_examples=40)
@given(
    kinds=arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 12)),
    start=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
def test_cpu_is_the_definition(kinds: np.ndarray, start: int, seed: int) -> None:
    """``start`` rows with different keys, then any."""
    keys = np.concatenate([np.arange(start), kinds]) * 0x9E3779B97F4A + 77
    c = columns(len(keys), seed)
    found = cpu.targets(keys, start, np.arange(start, len(keys)))
    np.testing.assert_array_equal(found, reference.targets(torch.from_numpy(keys), start))
    inputs = [
        torch.from_numpy(a.copy()).double() for a in (c.means, covariances(c), values(c), c.weights)
    ]
    kept = merge(c, keys, start)
    if not len(keys):
        return
    wanted = reference.merge(torch.from_numpy(keys), *inputs, gain)
    np.testing.assert_array_equal(keys[kept], wanted[0])
    got = taken(c, kept)
    for mine, theirs in zip(
        (got.means, covariances(got), values(got), got.weights), wanted[1:], strict=True
    ):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(c.quats, axis=1), 1, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(order=st.permutations(range(7)), pieces=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_order_does_not_matter(order: list[int], pieces: int, seed: int) -> None:
    """All at once, and one piece after the other in another order."""
    all_at_once, keys = columns(7, seed), np.full(7, 5)
    piecemeal = taken(all_at_once, np.array(order))
    merge(all_at_once, keys, 0)
    for end in range(pieces, 8):
        part = np.array([0, *range(1 if end == pieces else end - 1, end)])
        now = taken(piecemeal, part)
        merge(now, keys[: len(part)], 1)
        for name in now.__slots__:
            getattr(piecemeal, name)[0] = getattr(now, name)[0]
    for name in ("means", "opacities", "colors", "normals", "weights"):
        one, two = getattr(all_at_once, name)[0], getattr(piecemeal, name)[0]
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
    one, two = covariances(all_at_once)[0], covariances(piecemeal)[0]
    np.testing.assert_allclose(one, two, atol=1e-5 * np.trace(one))


@pytest.mark.parametrize("scales", [(0.1, 0.1, 0.1), (0.1, 0.1, 1e-4), (0.2, 0.1, 0.05)])
def test_merging_with_itself_changes_nothing(scales: tuple[float, float, float]) -> None:
    c = columns(1, 3)
    c.scales[:] = scales
    twice = taken(c, np.zeros(4, int))
    merge(twice, np.full(4, 9), 0)
    np.testing.assert_allclose(covariances(twice)[0], covariances(c)[0], atol=1e-8)
    np.testing.assert_allclose(values(twice)[0], values(c)[0], rtol=1e-6)
    np.testing.assert_array_equal(twice.means[0], c.means[0])


def test_neighbours_on_a_wall_become_one_disc_of_that_wall() -> None:
    """Flat ones side by side: the merged one is as thick as they are, and wider."""
    c = columns(4, 0)
    c.means[:] = np.array([[0, 0, 1], [0.02, 0, 1], [0, 0.02, 1], [0.02, 0.02, 1]])
    c.quats[:], c.scales[:], c.weights[:] = (1, 0, 0, 0), (0.01, 0.01, 0.001), 1
    merge(c, np.full(4, 1), 0)
    np.testing.assert_allclose(c.means[0], (0.01, 0.01, 1), atol=1e-7)
    np.testing.assert_allclose(np.sort(c.scales[0]), (0.001, 2**0.5 / 100, 2**0.5 / 100), rtol=1e-5)


def test_far_from_the_origin_the_spread_is_kept() -> None:
    near, far = columns(5, 1, spread=0.01), columns(5, 1, spread=0.01)
    shift = np.float32(512.0)  # exact in float32 where the means are rounded to it first
    near.means[:] = np.round(near.means * 2**13) / 2**13
    far.means[:] = near.means + shift
    for c in (near, far):
        merge(c, np.full(5, 1), 0)
    np.testing.assert_allclose(covariances(near)[0], covariances(far)[0], rtol=1e-5)


def test_levels_double_the_cell_and_stop_at_the_last() -> None:
    sizes = np.array([1e-9, 0.019, 0.0201, 0.039, 0.041, 1e6])
    np.testing.assert_array_equal(cells.levels(sizes, CELL), [0, 0, 1, 1, 2, 7])


@given(
    point=st.tuples(*[st.floats(-1000, 1000)] * 3), level=st.integers(0, cells.LEVELS - 1),
)  # fmt: skip
def test_a_key_names_its_cell(point: tuple[float, float, float], level: int) -> None:
    side = CELL * 2**level
    corner = np.floor(np.array(point) / side) * side
    inside = corner + side * np.array([[0.25, 0.5, 0.75], [0.9, 0.1, 0.5]])
    beside = inside[:1] + side * np.concatenate([np.eye(3), -np.eye(3)])
    levels = np.full(8, level)
    keys = cells.pack(np.concatenate([inside, beside]), levels, CELL)
    assert keys[0] == keys[1]
    assert len(set(keys.tolist())) == 7
    assert (cells.level_of(keys) == level).all()
    assert (keys >= 0).all()
    others = {int(cells.pack(inside[:1], np.array([k]), CELL)[0]) for k in range(cells.LEVELS)}
    assert len(others) == cells.LEVELS


def test_beyond_the_grid_there_is_no_key() -> None:
    edge = CELL * 2**19
    points = np.array([[edge * 0.999, 0, 0], [edge * 1.001, 0, 0], [0, -edge * 1.001, 0]])
    level = np.zeros(3, np.int64)
    np.testing.assert_array_equal(cells.pack(points, level, CELL) >= 0, [True, False, False])


CAMERA = Camera(40.0, 42.0, 15.0, 11.0, 32, 24)
LIMITS = ((0.03, 0.02), (0.05, 0.1), 0.15)


def slow_verdict(point: np.ndarray, scales: np.ndarray, depth: np.ndarray, w2c: np.ndarray) -> int:
    """One Gaussian, as the module's text has it."""
    x, y, z = rigid.transform(w2c, point)
    if z < 0.05:
        return sight.UNKNOWN
    u, v = CAMERA.fx * x / z + CAMERA.cx, CAMERA.fy * y / z + CAMERA.cy
    if not (0 <= u < CAMERA.width and 0 <= v < CAMERA.height):
        return sight.UNKNOWN
    a, b = np.sort(scales)[1:]
    if np.pi * a * b * CAMERA.fx * CAMERA.fy / z**2 > 0.15 * CAMERA.width * CAMERA.height:
        return sight.HUGE
    measured = depth[int(v), int(u)]
    if not measured:
        return sight.UNKNOWN
    if measured < 0:  # guessed
        return sight.AGREES if abs(z + measured) < max(-0.03 * measured, 0.02) else sight.UNKNOWN
    if abs(z - measured) < max(0.03 * measured, 0.02):
        return sight.AGREES
    if abs(z - measured) < max(0.05 * measured, 0.1):
        return sight.DIFFERS
    around = np.pad(depth, 1, mode="edge")[int(v) : int(v) + 3, int(u) : int(u) + 3]
    free = (around > 0) & (z < around - np.maximum(0.05 * around, 0.1))
    return sight.IN_FRONT if free.all() else sight.UNKNOWN


def test_verdicts_are_the_plain_rule() -> None:
    rng = np.random.default_rng(0)
    c2w = rigid.exp([0.1, 0.2, -0.1, 0.3, 0.2, 0.1])
    depth = np.where(rng.random((24, 32)) < 0.05, 0, 2 + (np.arange(32) > 20)).astype(np.float32)
    points = rigid.transform(c2w, rng.uniform((-1.5, -1.5, -0.5), (1.5, 1.5, 4), (4000, 3)))
    points[:1000] = rigid.transform(c2w, CAMERA.unproject(depth).reshape(-1, 3)[rng.integers(
        0, depth.size, 1000)] * rng.uniform(0.9, 1.1, (1000, 1)))  # fmt: skip
    depth[:, 6:9] *= -1
    means = points.astype(np.float32)
    scales = np.exp(rng.uniform(-5, -1, means.shape)).astype(np.float32)
    w2c = rigid.inverse(c2w)
    got = sight.verdicts(means, scales, depth, CAMERA, w2c, *LIMITS)
    wanted = [slow_verdict(p, s, depth, w2c) for p, s in zip(means, scales, strict=True)]
    np.testing.assert_array_equal(got, wanted)
    assert (np.bincount(got, minlength=5) > 20).all()


def test_beside_a_depth_edge_nothing_is_in_the_way() -> None:
    """A Gaussian on the near surface whose pixel came to lie just past the edge."""
    depth = np.full((24, 32), 3, np.float32)
    depth[:, :16] = 1
    at = (np.array([16.2, 18.2]) - CAMERA.cx) / CAMERA.fx
    means = np.stack([at, np.zeros(2), np.ones(2)], axis=1).astype(np.float32)
    scales = np.full((2, 3), 0.01, np.float32)
    got = sight.verdicts(means, scales, depth, CAMERA, np.eye(4), *LIMITS)
    np.testing.assert_array_equal(got, [sight.UNKNOWN, sight.IN_FRONT])
