"""Speckle has the statistics of speckle; walls keep theirs from frame to frame, blood does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from retain.datasets.echo.clip import CAVITY, MYOCARDIUM
from retain.datasets.echo.phantom import PhantomConfig, make_stream
from retain.datasets.echo.phantom_speckle import (
    axial_kernel,
    envelope,
    lateral_kernels,
    scatterers,
)

Plane = NDArray[np.float32]


@pytest.fixture(scope="module")
def block() -> Plane:
    """Envelope of a homogeneous block, borders cut off."""
    rng = np.random.default_rng(0)
    out = np.empty((900, 900), np.float32)
    envelope(
        scatterers(rng, out.shape),
        axial_kernel(1.0),
        lateral_kernels(900, 1.1, 2.4, 0.03, 9.0),
        out,
    )
    return out[20:-20, 30:-30]


def test_envelope_is_rayleigh(block: Plane) -> None:
    """mean / sd = sqrt(pi / (4 - pi)) = 1.913; with about 60,000 cells the error is near .01."""
    assert block.mean() / block.std() == pytest.approx(1.913, abs=0.03)
    assert (block.astype(float) ** 2).mean() == pytest.approx(1.0, abs=0.03)


def test_log_compressed_deviation(block: Plane) -> None:
    """10 / ln 10 * pi / sqrt 6 = 5.57 dB."""
    assert (20 * np.log10(block)).std() == pytest.approx(5.57, abs=0.08)


def test_grain_widens_with_depth(block: Plane) -> None:
    def correlation(part: Plane, lag: int) -> float:
        return float(np.corrcoef(part[:, :-lag].ravel(), part[:, lag:].ravel())[0, 1])

    near, far = block[:200], block[-200:]
    assert correlation(far, 2) > correlation(near, 2) + 0.15
    down = float(np.corrcoef(far[:-2].ravel(), far[2:].ravel())[0, 1])
    assert correlation(far, 2) > down  # wider than tall


def test_walls_stay_blood_changes() -> None:
    """Correlation of neighbouring frames at 50 per second, after taking out the smooth part."""
    wall, blood = [], []
    for seed in range(6):
        clip = make_stream(seed, 0.3, 50, PhantomConfig(preset="easy"))
        frames = clip.frames.astype(np.float32)
        for a, b, m in zip(frames[4:-1], frames[5:], clip.masks[4:-1], strict=True):
            wall.append(np.corrcoef(a[m == MYOCARDIUM], b[m == MYOCARDIUM])[0, 1])
            inside = cv2.erode((m == CAVITY).astype(np.uint8), np.ones((9, 9))) > 0
            if a[inside].std() > 2 and b[inside].std() > 2:
                fine = [f - cv2.GaussianBlur(f, (0, 0), 2.0) for f in (a, b)]
                blood.append(np.corrcoef(fine[0][inside], fine[1][inside])[0, 1])
    assert np.median(wall) > 0.9
    assert np.median(blood) < 0.75
    assert np.median(blood) < np.median(wall) - 0.15
