"""A keyframe to discs: on a plane that is known, where depth is mixed, missing or guessed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.builder import FLATNESS, GUESSED, MIXED, SPREAD, build, complete, onto

CAMERA = Camera(60.0, 60.0, 32.0, 24.0, 64, 48)
C2W = rigid.exp([0.3, -0.5, 0.2, 1.0, 2.0, -0.5])
NORMAL = np.array([0.3, -0.2, -1.0]) / np.linalg.norm([0.3, -0.2, -1.0])
AT = np.array([0.0, 0.0, 2.0])
"""The plane, in the camera's coordinates: through AT, NORMAL towards the camera."""

Floats = NDArray[np.float32]


def plane() -> Floats:
    """Its depth [48, 64], exact."""
    return np.asarray((NORMAL @ AT) / (CAMERA.rays() @ NORMAL), np.float32)


def ramp() -> NDArray[np.uint8]:
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 128 + 0 * x], axis=2).astype(np.uint8)


def test_discs_lie_on_the_plane_and_along_it() -> None:
    built = build(ramp(), plane(), CAMERA, C2W)
    assert len(built.gaussians) == 32 * 24  # every block
    local = rigid.transform(rigid.inverse(C2W), built.gaussians.means.astype(np.float64))
    assert np.abs((local - AT) @ NORMAL).max() < 2e-3
    normal = C2W[:3, :3] @ NORMAL
    inner = np.ones((24, 32), bool)
    inner[[0, -1]] = inner[:, [0, -1]] = False  # one-sided differences at the rim
    turned = built.normals[inner.ravel()] @ normal
    assert turned.min() > np.cos(np.deg2rad(1))
    axes = rigid.matrix(built.gaussians.quats.astype(np.float64))
    assert np.abs(axes[:, :, 2] - built.normals).max() < 1e-5  # thin along the normal
    view = built.gaussians.means - C2W[:3, 3]
    assert (np.einsum("nc,nc->n", view, built.normals) < 0).all()  # towards the camera


def test_scales_are_those_of_a_block_at_its_depth() -> None:
    built = build(ramp(), plane(), CAMERA, C2W, step=2)
    z = rigid.transform(rigid.inverse(C2W), built.gaussians.means.astype(np.float64))[:, 2]
    block = 2 * z / CAMERA.fx
    wanted = np.stack([SPREAD * block, SPREAD * block, FLATNESS * SPREAD * block], axis=1)
    np.testing.assert_allclose(built.gaussians.scales, wanted, rtol=1e-5)
    assert (built.size < block).all()
    assert (built.size > block / 2).all()


def test_colours_are_the_blocks_means_and_confidence_falls_with_distance() -> None:
    near, far = (build(ramp(), s * plane(), CAMERA, C2W) for s in (0.5, 2.0))
    mean = ramp().reshape(24, 2, 32, 2, 3).mean(axis=(1, 3)).reshape(-1, 3) / 255
    np.testing.assert_allclose(near.gaussians.colors, mean, atol=1 / 255)
    for built in (near, far):
        assert (built.confidence > 0).all()
        assert (built.confidence <= 1).all()
    assert np.median(far.confidence) < 0.3 * np.median(near.confidence)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_sizes_that_the_step_does_not_divide(step: int) -> None:
    camera = Camera(60.0, 60.0, 31.0, 22.5, 63, 47)
    depth, image = np.full((47, 63), 2.0, np.float32), np.zeros((47, 63, 3), np.uint8)
    built = build(image, depth, camera, np.eye(4), step=step)
    assert len(built.gaussians) == (47 // step) * (63 // step)
    assert np.allclose(built.gaussians.means[:, 2], 2)
    # Rows of the picture: the first is the block at the upper left.
    first = 2 * (step / 2 - np.array([camera.cx, camera.cy])) / 60
    np.testing.assert_allclose(built.gaussians.means[0, :2], first, atol=1e-5)


def test_a_block_of_two_surfaces_is_at_the_nearer_one_and_trusted_less() -> None:
    depth = np.full((48, 64), 3.0, np.float32)
    depth[:, :33] = 1.5  # the edge runs through a block
    image = np.where(depth[..., None] < 2, [200, 0, 0], [0, 0, 200]).astype(np.uint8)
    built = build(image, depth, CAMERA, np.eye(4))
    z = built.gaussians.means[:, 2]
    assert np.all(np.isclose(z, 1.5) | np.isclose(z, 3.0))  # nothing floats between
    red = built.gaussians.colors[:, 0] > 0.5
    assert np.array_equal(red, np.isclose(z, 1.5))
    rows = built.confidence.reshape(24, 32)
    assert rows[12, 16] < 1.1 * MIXED * MIXED
    assert rows[12, 5] > 3 * rows[12, 16]


def test_nothing_stands_where_nothing_was_measured() -> None:
    depth = plane()
    depth[10:20, 10:30] = 0
    built = build(ramp(), depth, CAMERA, C2W)
    assert len(built.gaussians) == 32 * 24 - 5 * 10
    assert np.isfinite(built.gaussians.means).all()
    for lost in (np.zeros((48, 64), np.float32), np.full((48, 64), 9.0, np.float32),
                 np.full((48, 64), 0.05, np.float32)):  # fmt: skip
        none = build(ramp(), lost, CAMERA, C2W)
        assert len(none.gaussians) == len(none.confidence) == len(none.normals) == 0


def test_guesses_are_taken_but_hardly_trusted() -> None:
    whole = build(ramp(), plane(), CAMERA, C2W)
    guessed = build(ramp(), -plane(), CAMERA, C2W)
    np.testing.assert_allclose(guessed.gaussians.means, whole.gaussians.means, atol=1e-5)
    np.testing.assert_allclose(guessed.confidence, GUESSED * whole.confidence, rtol=1e-4)
    half = plane()
    half[::2] *= -1  # a block with a measurement does not look at guesses
    np.testing.assert_allclose(
        build(ramp(), half, CAMERA, C2W).confidence, whole.confidence, rtol=0.05
    )


def test_complete_fills_holes_with_negative_guesses_that_carry_on_the_surface() -> None:
    depth = plane()
    true = depth.copy()
    depth[20:28, 30:40] = 0
    filled = complete(depth)
    hole = depth == 0
    assert np.array_equal(filled[~hole], depth[~hole])
    assert (filled[hole] < 0).all()
    assert np.abs(-filled[hole] - true[hole]).max() < 0.2


def test_complete_guesses_no_farther_than_its_reach() -> None:
    depth = np.zeros((48, 200), np.float32)
    depth[:, :20] = 2
    filled = complete(depth, reach=30)
    assert np.allclose(filled[:, 20:49], -2, atol=1e-3)
    assert (filled[:, 52:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (37, 5), (48, 64)])
def test_complete_leaves_what_is_whole_or_empty(shape: tuple[int, int]) -> None:
    for depth in (np.zeros(shape, np.float32), np.full(shape, 1.5, np.float32)):
        assert np.array_equal(complete(depth), depth)
    spot = np.zeros(shape, np.float32)
    spot[0, 0] = 1.5
    filled = complete(spot)
    assert filled[0, 0] == 1.5
    assert np.isfinite(filled).all()


def test_labels_are_the_middle_pixels_and_never_mixed() -> None:
    codes = np.zeros((3, 16), np.float32)
    codes[1, 0] = codes[2, 1] = 1
    labels = np.ones((48, 64), np.uint8)
    labels[:, 32:] = 2
    labels[0:2, 0:2] = 9  # beyond the codes: the last one, not a crash
    built = build(ramp(), plane(), CAMERA, C2W, labels, codes)
    assert built.gaussians.codes is not None
    rows = built.gaussians.codes.reshape(24, 32, 16)
    assert (rows[1:, :16] == codes[1]).all()
    assert (rows[1:, 16:] == codes[2]).all()
    none = build(ramp(), plane(), CAMERA, C2W, None, codes).gaussians.codes
    assert none is not None
    assert not none.any()
    assert build(ramp(), plane(), CAMERA, C2W).gaussians.codes is None


def test_onto_turns_the_z_axis_also_where_it_has_to_turn_right_round() -> None:
    rng = np.random.default_rng(0)
    normals = np.concatenate([rng.normal(size=(50, 3)), np.eye(3), -np.eye(3)])
    normals = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    quats = onto(normals)
    assert np.allclose(np.linalg.norm(quats, axis=1), 1, atol=1e-6)
    assert np.abs(rigid.matrix(quats.astype(np.float64))[:, :, 2] - normals).max() < 2e-3


def test_a_grid_of_codes_is_taken_at_middle_pixels_or_interpolated() -> None:
    fine = np.zeros((48, 64, 16), np.float32)
    fine[:, :32, 0] = fine[:, 32:, 1] = 2.0  # of any length; codes are unit
    rows = grid_codes(fine)
    assert (rows[:, :16, 0] == 1).all()
    assert (rows[:, 16:, 1] == 1).all()
    coarse = np.zeros((3, 4, 16), np.float32)
    coarse[:, :2, 0] = coarse[:, 2:, 1] = 1.0
    rows = grid_codes(coarse)
    assert np.allclose(np.linalg.norm(rows, axis=2), 1, atol=1e-6)
    assert (rows[:, :12, 0] == 1).all()
    assert (rows[:, 20:, 1] == 1).all()
    assert (np.diff(rows[0, 12:20, 1]) > 0).all()  # between two places of the grid, a mixture
    assert not grid_codes(np.zeros((3, 4, 16), np.float32)).any()  # nothing said, nothing named


def grid_codes(grid: np.ndarray) -> np.ndarray:
    codes = build(ramp(), plane(), CAMERA, C2W, None, grid).gaussians.codes
    assert codes is not None
    assert len(codes) == 24 * 32
    return codes.reshape(24, 32, 16)
