"""Lenses: what a straightened picture shows at a pixel is what the lens put where it did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.scene.lens import Lens, regrid, resize_image
from retain.kernels.geometry.camera import Camera

CAMERA = Camera(60.0, 62.0, 39.0, 30.5, 80, 60)


def brown(rays: np.ndarray, k1: float, k2: float, p1: float, p2: float, k3: float) -> np.ndarray:
    """Brown-Conrady distortion of [N, 2] in float64, from its definition."""
    x, y = rays.T
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )


def equidistant(rays: np.ndarray, *k: float) -> np.ndarray:
    """Kannala-Brandt distortion of [N, 2] in float64, from its definition."""
    r = np.linalg.norm(rays, axis=1, keepdims=True)
    angle = np.arctan(r)
    bent = angle * (1 + sum(c * angle ** (2 * i) for i, c in enumerate(k, 1)))
    return rays * np.where(r > 0, bent / np.maximum(r, 1e-12), 1)


def where(lens: Lens) -> np.ndarray:
    """Pixels [H, W, 2] of the stored picture that the straight camera's pixels see, by the book."""
    straight, camera = lens.undistorted(), lens.camera
    rays = straight.rays()[..., :2].astype(np.float64).reshape(-1, 2)
    bent = equidistant(rays, *lens.distortion) if lens.fisheye else brown(rays, *lens.distortion)
    found = bent * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    return found.reshape(camera.height, camera.width, 2)


small = st.floats(-0.15, 0.15)
tiny = st.floats(-0.01, 0.01)


@settings(max_examples=25, deadline=None)
@given(st.tuples(small, small, tiny, tiny, small))
def test_brown_distortion_is_undone(coefficients: tuple[float, ...]) -> None:
    check_undone(Lens(CAMERA, coefficients))


@settings(max_examples=15, deadline=None)
@given(st.tuples(tiny, tiny, tiny, tiny))
def test_fisheye_distortion_is_undone(coefficients: tuple[float, ...]) -> None:
    check_undone(Lens(CAMERA, coefficients, fisheye=True))


def check_undone(lens: Lens) -> None:
    found = where(lens)
    limit = np.array([CAMERA.width, CAMERA.height])
    assert (found >= -1e-3).all(), "nothing outside the stored picture is shown"
    assert (found <= limit + 1e-3).all()
    # A picture whose red is twice the column and green twice the row says where it was looked up.
    y, x = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width]
    stored = np.stack([2 * x, 2 * y, np.zeros_like(x)], axis=2).astype(np.uint8)
    places = (1 + x + 100 * y).astype(np.float32)
    image, depth = lens.undistort(stored, places)
    assert depth is not None
    wanted = np.clip(found - 0.5, 0, limit - 1)
    assert np.abs(image[..., :2] / 2 - wanted).max() < 0.3
    columns, rows = (depth - 1) % 100, (depth - 1) // 100
    assert np.abs(np.stack([columns, rows], axis=2) - wanted).max() < 0.53


def test_barrel_keeps_the_focal_length_and_pincushion_grows_it_only_as_needed() -> None:
    barrel, cushion = Lens(CAMERA, (-0.2, 0, 0, 0)), Lens(CAMERA, (0.2, 0, 0, 0))
    assert barrel.undistorted() == CAMERA
    grown = cushion.undistorted()
    assert 1 < grown.fx / CAMERA.fx < 1.15
    assert grown.fx / CAMERA.fx == pytest.approx(grown.fy / CAMERA.fy)
    assert (grown.cx, grown.cy) == (CAMERA.cx, CAMERA.cy)


def test_where_the_polynomial_turns_back_is_not_shown() -> None:
    lens = Lens(CAMERA, (-0.9, 0.0, 0.0, 0.0))  # outward up to 0.61 focal lengths
    straight = lens.undistorted()
    corner = np.abs(straight.rays()[[0, 0, -1, -1], [0, -1, 0, -1], :2])
    assert 0.5 < np.linalg.norm(corner, axis=1).max() < 0.66


def test_without_distortion_nothing_is_touched() -> None:
    lens = Lens(CAMERA, (0.0,) * 5)
    image = np.zeros((60, 80, 3), np.uint8)
    assert lens.undistort(image, None) == (image, None)
    assert lens.undistorted() is CAMERA


@pytest.mark.parametrize("bent", [(100.0, 0.0, 0.0, 0.0), (0.0, 0.0, 5.0, 5.0)])
def test_distortion_beyond_reason_is_refused(bent: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="too strong"):
        Lens(CAMERA, bent).undistorted()


@pytest.mark.parametrize(("bent", "fisheye"), [((1.0,), False), ((0.1,) * 5, True)])
def test_coefficients_of_no_model_are_refused(bent: tuple[float, ...], fisheye: bool) -> None:
    with pytest.raises(ValueError, match="cannot be distorted"):
        Lens(CAMERA, bent, fisheye)


def test_regrid_takes_the_pixel_on_the_same_ray() -> None:
    rng = np.random.default_rng(0)
    wide = Camera(40.0, 40.0, 32.0, 24.0, 64, 48)
    tele = Camera(79.3, 71.9, 30.11, 21.7, 50, 40)
    depth = rng.uniform(1, 9, (48, 64)).astype(np.float32)
    found = regrid(depth, wide, tele)
    for row, column in rng.integers(0, (40, 50), (60, 2)):
        x, y, z = tele.rays()[row, column]
        pixel = wide.project(np.array([[x, y, z]]))[0]
        assert found[row, column] == depth[int(pixel[1]), int(pixel[0])]


def test_regrid_knows_nothing_outside() -> None:
    tele, wide = Camera(80, 80, 32, 24, 64, 48), Camera(40, 40, 32, 24, 64, 48)
    found = regrid(np.ones((48, 64), np.float32), tele, wide)
    assert (found[12:36, 16:48] == 1).all()
    assert found.sum() == 24 * 32


@given(st.integers(1, 90), st.integers(1, 90))
def test_resizing_depth_invents_no_values(width: int, height: int) -> None:
    depth = np.arange(1, 61 * 80 - 79, dtype=np.float32).reshape(60, 80)
    small = regrid(depth, CAMERA, CAMERA.resized(width, height))
    assert small.shape == (height, width)
    assert np.isin(small, depth).all()
    assert (np.diff(small, axis=1) >= 0).all()


def test_resizing_a_picture_keeps_its_mean() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    half = resize_image(image, 40, 30)
    blocks = image.reshape(30, 2, 40, 2, 3).mean(axis=(1, 3))
    assert np.abs(half - blocks).max() <= 0.51
    assert resize_image(image, 80, 60) is image
