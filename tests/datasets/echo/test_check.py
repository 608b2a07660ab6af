"""Inputs that are no grey apical view are said to be so; usable ones raise no flag."""

from __future__ import annotations

import math

import echo_fans
import numpy as np
import pydicom
import pytest

from retain.datasets.echo.check import FLAGS, check_input
from retain.datasets.echo.sector import Sector
from retain.pipeline.frame import Image
from retain.pipeline.sources.dicom import DicomSource

FAN = Sector((160, 12), 205, math.radians(-42), math.radians(42), 1.0, 12)


def doppler() -> Image:
    """Red and blue blood in a box of the fan."""
    image = echo_fans.frame(FAN)
    image[90:150, 130:190] //= 4
    image[95:140, 135:160, 0] = 210
    image[95:140, 160:185, 2] = 210
    return image


def tinted() -> Image:
    grey = echo_fans.frame(FAN).astype(np.float32)
    return (grey * (1.0, 0.8, 0.55)).astype(np.uint8)


def turned() -> Image:
    return echo_fans.frame(Sector((180, 12), 190, math.radians(-20), math.radians(60), 1.0))


def curved() -> Image:
    return echo_fans.frame(Sector((160, -45), 270, -0.6, 0.6, 1.0, 85))


@pytest.mark.parametrize("gain", [0.5, 1.0])
def test_a_usable_picture_has_no_flags(gain: float) -> None:
    assert check_input(echo_fans.frame(FAN, gain=gain)) == ()
    assert check_input(echo_fans.frame(FAN, gain=gain, marks=True), FAN) == ()


def test_a_real_echo_stored_in_colour_is_grey() -> None:
    path = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    source = DicomSource(str(path), limit=1)
    source.open()
    assert check_input(next(source.frames()).image) == ()


@pytest.mark.parametrize(
    ("image", "sector", "flag"),
    [
        pytest.param(doppler(), None, "colour-doppler", id="colour Doppler, the fan found"),
        pytest.param(doppler(), FAN, "colour-doppler", id="colour Doppler"),
        pytest.param(tinted(), None, "not-grey", id="tinted"),
        pytest.param(echo_fans.frame(FAN, gain=0.1), FAN, "too-dark", id="dark"),
        pytest.param(echo_fans.frame(FAN, gain=6.0), None, "saturated", id="saturated"),
        pytest.param(turned(), None, "leaning-sector", id="turned"),
        pytest.param(curved(), None, "curved-probe", id="abdominal probe"),
        pytest.param(np.zeros((90, 90, 3), np.uint8), None, "no-sector", id="black"),
    ],
)
def test_flags(image: Image, sector: Sector | None, flag: str) -> None:
    flags = check_input(image, sector)
    assert flag in flags
    assert set(flags) <= set(FLAGS)


def test_an_uncertain_fan_is_flagged() -> None:
    unsure = Sector(FAN.apex, FAN.radius, FAN.left, FAN.right, 0.5, FAN.inner)
    assert check_input(echo_fans.frame(FAN), unsure) == ("uncertain-sector",)


def test_a_fan_outside_the_picture() -> None:
    far = Sector((5000, 5000), 100, -0.7, 0.7, 1.0)
    assert check_input(echo_fans.frame(FAN), far) == ("no-sector",)
