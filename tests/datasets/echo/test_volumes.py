"""Volumes against solids whose volume is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from retain.datasets.echo import volumes

UNKNOWN = (math.nan, math.nan)


def ellipse(
    semi_y: float,
    semi_x: float,
    spacing: tuple[float, float],
    tilt: float = 0.0,
    flat: bool = False,
) -> NDArray[np.bool_]:
    """An ellipse in mm around the picture's middle; ``flat``: only what lies above its middle."""
    height, width = (math.ceil(2.6 * max(semi_y, semi_x) / s) for s in spacing)
    y = (np.arange(height) - (height - 1) / 2)[:, None] * spacing[0]
    x = (np.arange(width) - (width - 1) / 2)[None, :] * spacing[1]
    angle = math.radians(tilt)
    along, across = (
        y * math.cos(angle) + x * math.sin(angle),
        x * math.cos(angle) - y * math.sin(angle),
    )
    inside = (along / semi_y) ** 2 + (across / semi_x) ** 2 <= 1
    return inside & (along <= 0) if flat else inside


SPACINGS = [(1.4, 1.4), (0.3, 0.3), (1.4, 0.7), (0.7, 1.4)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tilt", [0, 20])
def test_area_length_is_exact_for_an_ellipse(spacing: tuple[float, float], tilt: float) -> None:
    size = volumes.area_length(ellipse(42, 24, spacing, tilt), spacing)
    # The outline is followed to half a pixel: under 1 % of the axes at these sizes.
    assert size.area == pytest.approx(math.pi * 42 * 24, rel=0.01)
    assert size.length == pytest.approx(84, rel=0.01)
    assert size.volume == pytest.approx(4 / 3 * math.pi * 42 * 24**2 / 1000, rel=0.02)
    assert (size.unit, size.method) == ("mm", volumes.AREA_LENGTH)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("tilt", [0, 10, 25])
@pytest.mark.parametrize(("length", "half"), [(85, 25), (70, 18)])
def test_disks_measure_a_half_ellipsoid(
    spacing: tuple[float, float], tilt: float, length: float, half: float
) -> None:
    mask = ellipse(length, half, spacing, tilt, flat=True)
    truth = 2 / 3 * math.pi * half**2 * length / 1000
    one = volumes.disks(mask, spacing)
    assert one.volume == pytest.approx(truth, rel=0.03)  # a 1.4 mm pixel is 4 % of the width
    assert one.length == pytest.approx(length, abs=1.5)
    two = volumes.biplane(mask, spacing, mask, spacing)
    assert two.volume == pytest.approx(one.volume)
    assert math.isnan(two.area)


def test_disks_give_the_same_ejection_fraction_as_the_solids() -> None:
    spacing = (1.4, 1.4)
    ed, es = (
        volumes.disks(ellipse(*axes, spacing, 8, flat=True), spacing)
        for axes in ((85, 25), (75, 18))
    )
    truth = volumes.ejection_fraction(25**2 * 85, 18**2 * 75)
    assert volumes.ejection_fraction(ed.volume, es.volume) == pytest.approx(truth, abs=2)


def test_biplane_takes_elliptic_disks_from_views_of_different_resolution() -> None:
    first, second = ellipse(80, 20, (0.5, 0.5), flat=True), ellipse(80, 30, (1.4, 0.7), flat=True)
    size = volumes.biplane(first, (0.5, 0.5), second, (1.4, 0.7))
    assert size.volume == pytest.approx(2 / 3 * math.pi * 20 * 30 * 80 / 1000, rel=0.02)
    assert (size.unit, size.method) == ("mm", volumes.BIPLANE)
    with pytest.raises(ValueError, match="spacing of both views"):
        volumes.biplane(first, (0.5, 0.5), second, UNKNOWN)


def test_the_mitral_plane_and_the_apex_are_where_they_were_drawn() -> None:
    axis = volumes.find_axis(ellipse(80, 24, (1, 1), flat=True), (1, 1))
    ends = sorted(axis.mitral, key=lambda end: end[1])
    middle = (math.ceil(2.6 * 80) - 1) / 2
    for end, x in zip(ends, (middle - 24, middle + 24), strict=True):
        assert math.dist(end, (middle, x)) < 3  # outline points are tried 1.8 pixels apart
    assert math.dist(axis.apex, (middle - 80, middle)) < 4  # an apex is blunt: few rows, wide


def test_lengths_scale_with_the_spacing_and_stay_pixels_without_one() -> None:
    mask = ellipse(42, 24, (1, 1), flat=True)
    for measure in (volumes.area_length, volumes.disks):
        pixels, doubled = measure(mask, UNKNOWN), measure(mask, (2, 2))
        assert pixels.unit == "px"
        assert doubled.unit == "mm"
        assert doubled.length == pytest.approx(2 * pixels.length)
        assert doubled.area == pytest.approx(4 * pixels.area)
        assert doubled.volume == pytest.approx(8 * pixels.volume / 1000)


def test_specks_do_not_move_the_axis() -> None:
    mask = ellipse(42, 24, (1, 1), flat=True)
    speckled = mask.copy()
    speckled[-2:, -2:] = True
    assert volumes.disks(speckled, (1, 1)) == volumes.disks(mask, (1, 1))
    assert (volumes.largest_part(speckled) == mask).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 5)])
def test_odd_masks_measure_without_an_error(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, bool)
    for size in (
        volumes.area_length(nothing, (1, 1)),
        volumes.disks(nothing, UNKNOWN),
        volumes.biplane(nothing, (1, 1), ~nothing, (1, 1)),
    ):
        assert math.isnan(size.area)
        assert math.isnan(size.length)
        assert math.isnan(size.volume)
    for size in (volumes.area_length(~nothing, (1, 1)), volumes.disks(~nothing, (1, 1))):
        assert size.area == nothing.size
        assert 0 <= size.volume < 1
    assert math.isnan(volumes.ejection_fraction(0, 0))
