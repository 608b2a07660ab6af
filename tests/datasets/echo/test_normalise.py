"""Grey levels: one scale for bright and dark pictures, monotone, steady, restorable."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retain.datasets.echo.normalise import BLACK, FRAMES, MIDDLE, WHITE, Normaliser, normalise
from retain.datasets.echo.phantom import make_clip
from retain.datasets.echo.sector import SectorFinder, to_grid
from retain.pipeline.errors import StateError
from retain.pipeline.sources.dicom import DicomSource

ECHO = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)


def picture(seed: int = 0, gain: float = 1.0, gamma: float = 1.0) -> NDArray[np.float32]:
    """[64, 64]: speckle between 0 and 1, a third of it black."""
    rng = np.random.default_rng(seed)
    grey = (rng.rayleigh(0.22, (64, 64)).clip(0, 1) ** gamma * gain).astype(np.float32)
    grey[:, :21] = 0
    return grey


def levels(grid: NDArray[np.float32]) -> tuple[float, float]:
    return float(np.percentile(grid, 99)), float(np.median(grid))


@given(gain=st.floats(0.25, 1.0), gamma=st.floats(0.9, 1.5), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_white_and_middle_reach_their_targets(gain: float, gamma: float, seed: int) -> None:
    grey = picture(seed, gain, gamma)
    white, middle = levels(normalise(grey)[grey > BLACK])
    assert white == pytest.approx(WHITE, abs=0.01)
    assert middle == pytest.approx(MIDDLE, abs=0.01)


@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_it_is_monotone_and_keeps_black(seed: int) -> None:
    grey = picture(seed, gain=0.3)
    out = normalise(grey)
    order = np.argsort(grey, axis=None)
    assert (np.diff(out.ravel()[order]) >= 0).all()
    assert (out[grey == 0] == 0).all()
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1


def test_gain_of_the_machine_does_not_matter() -> None:
    bright, dark = normalise(picture(gain=1.0)), normalise(picture(gain=0.4))
    clear = picture(gain=0.4) > 2 * BLACK  # the darkest are left out of the darker one's measure
    assert np.abs(bright - dark)[clear].max() < 0.05


@pytest.mark.parametrize("grid", [np.zeros((8, 8)), np.full((8, 8), BLACK / 2)])
def test_black_stays_black(grid: np.ndarray) -> None:
    black = grid.astype(np.float32)
    assert (normalise(black) == black).all()


def test_noise_in_the_dark_is_not_blown_up() -> None:
    faint = (picture() * 0.05).astype(np.float32)
    assert normalise(faint).max() < 0.6


def test_brightness_does_not_flicker() -> None:
    """A frame twice as bright, once, changes the scale of the next by no more than its share."""
    steady = Normaliser()
    for seed in range(FRAMES):
        before = steady(picture(seed, 0.4))
    flash = picture(FRAMES, 0.8)
    steady(flash)
    after = steady(picture(FRAMES - 1, 0.4))
    assert np.abs(after - before).max() < 0.06
    assert before.shape == after.shape


def test_it_follows_a_turned_knob() -> None:
    stream = Normaliser()
    for seed in range(FRAMES):
        stream(picture(seed, 0.8))
    for seed in range(4 * FRAMES):
        out = stream(picture(seed, 0.3))
    grey = picture(4 * FRAMES - 1, 0.3)
    white, middle = levels(out[grey > BLACK])
    assert white == pytest.approx(WHITE, abs=0.06)
    assert middle == pytest.approx(MIDDLE, abs=0.04)


def test_state_restores_bit_for_bit() -> None:
    first, second = Normaliser(), Normaliser()
    for seed in range(7):
        first(picture(seed, 0.5))
    second.restore(first.state)
    for seed in range(7, 12):
        assert (first(picture(seed)) == second(picture(seed))).all()
    assert first.state.nbytes <= 24


@pytest.mark.parametrize(
    "state", [np.zeros(2), np.array([1, np.nan, 0]), np.array([-1.0, 0, 0]), np.full(3, 1e9)]
)
def test_a_wrong_state_is_refused(state: np.ndarray) -> None:
    with pytest.raises(StateError, match="3 numbers"):
        Normaliser().restore(state)


def test_a_real_clip_and_phantoms_end_up_alike() -> None:
    """What the network was trained on and what it meets: medians and spreads of the normalised
    pictures. Raw, the real clip's median is half of the phantoms'."""
    source = DicomSource(str(ECHO), limit=10)
    source.open()
    images = [frame.image for frame in source.frames()]
    finder = SectorFinder()
    for image in images:
        finder.update(image)
    sector = finder.find()
    real = np.stack([to_grid(image, sector) for image in images])
    phantoms = [make_clip(700 + k).frames[:10].astype(np.float32) / 255 for k in range(4)]
    quantiles = (10, 25, 50, 75, 95)
    theirs = np.percentile(normalise(real)[real > BLACK], quantiles)
    ours = np.mean([np.percentile(normalise(p)[p > BLACK], quantiles) for p in phantoms], axis=0)
    assert np.abs(theirs - ours).max() < 0.08
