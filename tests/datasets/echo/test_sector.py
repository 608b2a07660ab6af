"""The fan: found where it was drawn, in real clips as seen by eye, and not where there is none."""

from __future__ import annotations

import functools
import math

import cv2
import echo_fans
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.datasets.echo.grid import APEX, GRID_SIZE, RADIUS
from retain.datasets.echo.phantom import make_clip
from retain.datasets.echo.sector import (
    SURE,
    NoSector,
    Region,
    Sector,
    SectorFinder,
    find_sector,
    region,
    to_grid,
)
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Image
from retain.pipeline.sources.dicom import DicomSource

ECHO = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
LONG_ECHO = pydicom.data.get_testdata_file("color3d_jpeg_baseline.dcm", download=False)
long_echo = pytest.mark.skipif(LONG_ECHO is None, reason="the wheel pydicom-data is absent")


def fan(
    x: float = 160,
    y: float = 12,
    radius: float = 205,
    half: float = 42,
    lean: float = 0,
    inner: float = 0.06,
) -> Sector:
    """``half`` and ``lean`` in degrees, ``inner`` as a share of the radius."""
    left, right = math.radians(lean - half), math.radians(lean + half)
    return Sector((x, y), radius, left, right, 1.0, inner * radius)


def find(frames: list[Image], prior: Region | None = None) -> Sector:
    finder = SectorFinder()
    for image in frames:
        finder.update(image)
    return finder.find(prior)


def assert_close(
    found: Sector, true: Sector, share: float = 0.02, degrees: float = 1.5, sure: float = SURE
) -> None:
    """Apex and radius within a share of the radius, edges within degrees."""
    assert math.dist(found.apex, true.apex) < 1.5 * share * true.radius
    assert found.radius == pytest.approx(true.radius, rel=share)
    edges = np.degrees((found.left - true.left, found.right - true.right))
    assert np.abs(edges).max() < degrees
    assert found.confidence >= sure


@functools.cache
def decoded(name: str) -> list[Image]:
    source = DicomSource(name, limit=40)
    source.open()
    return [frame.image for frame in source.frames()]


def real(name: str | None, count: int) -> list[Image]:
    return decoded(str(name))[:count]


# What a person measures in the enlarged, brightened pictures.
SEEN = Sector((338.5, 19.0), 384.0, math.radians(-42.9), math.radians(42.9), 1.0, 36.0)


@long_echo
@pytest.mark.parametrize("count", [1, 2, 8, 40])
def test_a_real_clip_from_one_frame_or_many(count: int) -> None:
    frames = real(LONG_ECHO, count)
    assert_close(find(frames), SEEN, share=0.01, degrees=0.7)
    assert_close(find(frames, (84, 31, 596, 415)), SEEN, share=0.01, degrees=0.7)


@pytest.mark.parametrize("count", [1, 8, 30])
def test_a_dark_small_real_clip(count: int) -> None:
    """The same examination at half the size, its flanks lost in compression."""
    half = Sector((169.3, 9.0), 192.0, SEEN.left, SEEN.right, 1.0)
    assert_close(find(real(ECHO, count)), half, degrees=2.0)


def test_a_prior_that_leaves_the_picture_is_not_believed() -> None:
    """This file states the region it had before it was scaled to half its size."""
    frames = real(ECHO, 8)
    assert find(frames, (84, 31, 596, 415)) == find(frames)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    x=st.floats(140, 180),
    y=st.floats(-8, 16),
    radius=st.floats(150, 215),
    half=st.floats(32, 50),
    inner=st.sampled_from([0.0, 0.08, 0.18]),
    gain=st.sampled_from([0.2, 1.0, 1.8]),
    quality=st.sampled_from([0, 60, 90]),
    marks=st.booleans(),
    count=st.sampled_from([1, 3]),
)
def test_drawn_fans_are_recovered(
    x: float,
    y: float,
    radius: float,
    half: float,
    inner: float,
    gain: float,
    quality: int,
    marks: bool,
    count: int,
) -> None:
    true = fan(x, y, radius, half, inner=inner)
    frames = [
        echo_fans.frame(true, seed=k, gain=gain, quality=quality, marks=marks) for k in range(count)
    ]
    assert_close(find(frames), true)


@pytest.mark.parametrize(
    ("height", "width", "true"),
    [
        pytest.param(112, 112, fan(56, 2, 108, 45, inner=0), id="cropped to its own bounds"),
        pytest.param(240, 200, fan(100, -15, 245, 38), id="apex above the picture, flanks cut"),
        pytest.param(200, 320, fan(160, 12, 205), id="arc cut by the bottom"),
        pytest.param(240, 320, fan(95, 12), id="left flank out of the picture"),
        pytest.param(240, 320, fan(225, 12), id="right flank out of the picture"),
        pytest.param(240, 320, fan(160, -45, 270, 34, inner=0.25), id="wide curved top"),
        pytest.param(960, 1280, fan(640, 48, 820), id="large picture"),
    ],
)
def test_cut_and_odd_fans(height: int, width: int, true: Sector) -> None:
    frames = [echo_fans.frame(true, height, width, seed=k) for k in range(2)]
    assert_close(find(frames), true, sure=0.45)


@pytest.mark.parametrize("lean", [-20, 20])
def test_a_turned_fan_stands_upright_on_the_grid(lean: float) -> None:
    true = fan(160 + lean, 12, 190, 40, lean=lean)
    found = find([echo_fans.frame(true)])
    assert_close(found, true)
    assert math.degrees(found.tilt) == pytest.approx(lean, abs=1)
    grid = to_grid(echo_fans.frame(true), found) > 0
    assert np.argmax(grid.any(axis=1)) < 0.12 * GRID_SIZE
    columns = np.flatnonzero(grid[GRID_SIZE // 2])
    assert columns.mean() == pytest.approx(GRID_SIZE / 2 - 0.5, abs=2)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_flank_in_shadow_is_found_by_symmetry(mirrored: bool) -> None:
    true = fan()
    frames = [echo_fans.frame(true, seed=k, gain=0.5, shadow=0.9) for k in range(3)]
    if mirrored:
        frames = [np.ascontiguousarray(image[:, ::-1]) for image in frames]
    assert_close(find(frames), true)


def test_phantoms_with_everything_that_goes_wrong_in_them() -> None:
    """Shadowed flanks, marks, compression, all at 112 pixels. On 60 others half of the found apices
    lay within 0.7 % of the radius of the true one and nine in ten within 3 %; here the true one is
    known to 5 %, by how far phantoms stray from the grid."""
    apart = []
    for seed in range(5):
        grey = make_clip(500 + seed).frames[:8]
        found = find([np.repeat(image[..., None], 3, axis=2) for image in grey])
        true = (APEX[0] * 112, APEX[1] * 112)
        apart.append(math.dist(found.apex, true) + abs(found.radius - RADIUS * 112))
    assert np.median(apart) < 0.06 * RADIUS * 112
    assert max(apart) < 0.15 * RADIUS * 112


def test_burnt_in_marks_change_nothing() -> None:
    bare = find([echo_fans.frame(fan(), 480, 640, seed=k) for k in range(2)])
    marked = find([echo_fans.frame(fan(), 480, 640, seed=k, marks=True) for k in range(2)])
    assert_close(marked, bare, share=0.005, degrees=0.3)


def test_resolution_changes_nothing() -> None:
    def scaled(by: int) -> Sector:
        true = fan(160 * by, 12 * by, 205 * by)
        return find([echo_fans.frame(true, 240 * by, 320 * by)])

    small, large = scaled(1), scaled(3)
    assert large.radius / 3 == pytest.approx(small.radius, rel=0.01)
    assert math.dist(np.array(large.apex) / 3, small.apex) < 0.015 * small.radius


def noise(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), dtype=np.uint8)


def text() -> Image:
    image = np.zeros((240, 320, 3), np.uint8)
    for line in range(9):
        place = (8, 22 + 25 * line)
        cv2.putText(image, f"Line {line} of a report", place, 0, 0.8, (255, 255, 255), 2)
    return image


def landscape() -> Image:
    """Smooth and bright from edge to edge, as photographs are."""
    coarse = np.random.default_rng(1).integers(40, 220, (6, 8, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC))


def shape(kind: str) -> Image:
    image = np.zeros((240, 320, 3), np.uint8)
    if kind == "ellipse":
        cv2.ellipse(image, (160, 120), (110, 90), 0, 0, 360, (120, 120, 120), -1)
    elif kind == "rectangle":
        image[40:200, 60:260] = 110
    elif kind == "upside down":
        image = np.ascontiguousarray(echo_fans.frame(fan())[::-1])
    elif kind == "linear probe":
        corners = np.array([[100, 20], [220, 20], [245, 220], [75, 220]])
        cv2.fillConvexPoly(image, corners, (110, 110, 110))
    return image + (noise() // 8) * (image > 0)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((240, 320, 3), np.uint8), id="black"),
        pytest.param(np.full((240, 320, 3), 255, np.uint8), id="white"),
        pytest.param(noise(), id="noise"),
        pytest.param(noise() // 64, id="dark noise"),
        pytest.param(text(), id="text"),
        pytest.param(landscape(), id="photograph"),
        pytest.param(shape("ellipse"), id="slice of a body"),
        pytest.param(shape("rectangle"), id="rectangle"),
        pytest.param(shape("upside down"), id="upside down"),
        pytest.param(shape("linear probe"), id="linear probe"),
        pytest.param(np.zeros((8, 8, 3), np.uint8), id="tiny"),
        pytest.param(np.full((1, 900, 3), 90, np.uint8), id="one row"),
    ],
)
def test_what_has_no_fan(image: Image) -> None:
    with pytest.raises(NoSector, match="^No ultrasound fan was found: .*whole fan"):
        find_sector(image)


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "MR_small.dcm"]
)
def test_other_dicom_pictures(name: str) -> None:
    """A slice, a linear probe's colour Doppler, a chart."""
    image = real(str(pydicom.data.get_testdata_file(name, download=False)), 1)[0]
    with pytest.raises(NoSector):
        find_sector(image)


def test_nothing_and_changing_sizes() -> None:
    with pytest.raises(NoSector, match="no frame"):
        SectorFinder().find()
    finder = SectorFinder()
    finder.update(noise())
    with pytest.raises(RetainError, match="from .320, 240. to .160, 120. pixels.*separate clips"):
        finder.update(np.ascontiguousarray(noise()[::2, ::2]))


def test_memory_is_bounded() -> None:
    finder = SectorFinder()
    sizes = set()
    for seed in range(4):
        finder.update(np.repeat(noise(seed), 4, axis=1))
        planes = [value for value in vars(finder).values() if isinstance(value, np.ndarray)]
        sizes.add(sum(plane.nbytes for plane in planes))
    assert len(sizes) == 1
    assert sizes.pop() <= 3 * 4 * 320 * 320


def test_grid_and_frame_agree_on_where_things_are() -> None:
    """A disc at a known place of the frame lies where the affine says, to a tenth of a pixel."""
    for scale in (0.25, 1, 4):
        sector = fan(160 * scale, 12 * scale, 205 * scale)
        height, width = int(240 * scale), int(320 * scale)
        y, x = np.mgrid[:height, :width] + 0.5
        centre = (170 * scale, 110 * scale)
        disc = np.hypot(x - centre[0], y - centre[1]) < 12 * scale
        image = np.repeat((disc * 200).astype(np.uint8)[..., None], 3, axis=2)
        grid = to_grid(image, sector)
        rows, columns = np.mgrid[:GRID_SIZE, :GRID_SIZE] + 0.5
        where = np.array([(grid * columns).sum(), (grid * rows).sum()]) / grid.sum()
        back = sector.to_frame() @ np.array([*where, 1])
        assert np.abs(back - centre).max() < 0.1 * sector.radius / (RADIUS * GRID_SIZE)


def test_the_grid_holds_the_fan_where_the_model_expects_it() -> None:
    sector = fan(half=28, inner=0)
    affine = sector.to_frame(64)
    assert affine.dtype == np.float32
    apex = affine @ np.array([APEX[0] * 64, APEX[1] * 64, 1])
    bottom = affine @ np.array([APEX[0] * 64, (APEX[1] + RADIUS) * 64, 1])
    assert apex == pytest.approx(sector.apex, abs=1e-3)
    assert bottom == pytest.approx((160, 12 + 205), abs=1e-3)
    grid = to_grid(np.full((240, 320, 3), 255, np.uint8), sector)
    assert grid.dtype == np.float32
    assert np.isin(grid, (0, 1)).all()
    area = math.radians(28) * (RADIUS * GRID_SIZE) ** 2
    assert grid.sum() == pytest.approx(area, rel=0.01)


def test_shrinking_averages() -> None:
    """Without averaging a checkerboard would alias into stripes."""
    y, x = np.mgrid[:960, :1280]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    grid = to_grid(board, fan(640, 48, 820))
    inside = grid[grid > 0]
    assert inside.mean() == pytest.approx(0.5, abs=0.01)
    assert inside.std() < 0.02


def test_the_mask_is_the_fan() -> None:
    sector = fan(inner=0.5)
    mask = sector.mask(240, 320)
    area = math.radians(42) * 205**2 * (1 - 0.25)
    assert mask.sum() == pytest.approx(area, rel=0.01)
    assert not mask[:12].any()
    assert not mask[80, 160]
    assert mask[200, 160]


def test_region_of_metadata() -> None:
    frames = DicomSource(str(ECHO), limit=1)
    frames.open()
    assert region(next(frames.frames()).meta) == (84, 31, 596, 415)
    assert region({"region_x0": 1, "region_y0": 2}) is None
