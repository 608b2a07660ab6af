"""Metrics of renderings and maps, against their definitions in float64 and cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.scene import metrics
from retain.datasets.scene.trajectory import align
from retain.kernels.geometry import rigid


def picture(seed: int, height: int = 24, width: int = 31) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_psnr_of_a_known_difference() -> None:
    truth = np.full((8, 9, 3), 100, np.uint8)
    other = truth.copy()
    other[::2] += 51  # 0.2 of full scale in half of the pixels
    assert metrics.psnr(other, truth) == pytest.approx(-10 * np.log10(0.5 * 0.2**2))
    assert metrics.psnr(truth, truth) == np.inf
    mask = np.zeros((8, 9), bool)
    mask[0] = True
    assert metrics.psnr(other, truth, mask) == pytest.approx(-20 * np.log10(0.2))
    assert np.isnan(metrics.psnr(other, truth, np.zeros((8, 9), bool)))


def test_psnr_clips_and_takes_bytes_and_fractions_alike() -> None:
    a, b = picture(0), picture(1)
    assert metrics.psnr(a / 255.0, b / 255.0) == pytest.approx(metrics.psnr(a, b))
    bright = np.full((4, 4, 3), 1.0)
    assert metrics.psnr(bright * 3, bright) == np.inf
    with pytest.raises(ValueError, match="uint8 or floating-point"):
        metrics.psnr(a.astype(int), b)


def ssim_by_pixels(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, window by window."""
    x = np.arange(11) - 5
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(3):
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, q = (z[i : i + 11, j : j + 11, channel] / 255.0 for z in (a, b))
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                both = (window * (p - mp) * (q - mq)).sum()
                values.append(
                    (2 * mp * mq + 1e-4) * (2 * both + 9e-4)
                    / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
                )  # fmt: skip
    return float(np.mean(values))


def test_ssim_is_its_definition() -> None:
    a = picture(2)
    mixed = (0.7 * a + 0.3 * picture(3)).astype(np.uint8)
    for other in (mixed, picture(4), np.full_like(a, 128), 255 - a):
        assert metrics.ssim(a, other) == pytest.approx(ssim_by_pixels(a, other), abs=1e-12)
    assert metrics.ssim(a, a) == pytest.approx(1)
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(a[:10], a[:10])


def test_depth_counts_where_truth_is_known_and_the_map_opaque() -> None:
    truth = np.array([[1.0, 2.0, 0.0, 4.0, 3.0]])
    depth = np.array([[1.1, 1.7, 9.0, 0.0, 3.1]])
    alpha = np.array([[0.9, 0.51, 1.0, 0.5, 0.8]])
    found = metrics.depth_l1(depth, truth, alpha)
    assert found.pixels == 3
    assert (found.mean, found.median) == pytest.approx((0.5 / 3, 0.1))
    assert metrics.depth_l1(depth, truth).pixels == 4
    assert np.isnan(metrics.depth_l1(depth, truth * 0).mean)


def test_map_drift_by_age_after_alignment() -> None:
    """Old Gaussians are 10 cm off, young ones 1 cm; the whole map is elsewhere."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-3, 3, (300, 3))
    ages = np.repeat([10, 150, 5000], 100)
    aside = rng.normal(size=(300, 3))
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    elsewhere = rigid.exp([0.2, 0.4, -1, 3, 2, 1])
    current = rigid.transform(elsewhere, first + aside * np.where(ages < 100, 0.01, 0.1)[:, None])
    back = align(rigid.transform(elsewhere, first), first)
    found = metrics.map_drift(first, current, ages, back)
    assert found.counts == (100, 0, 100, 0, 0, 100)
    by_age = dict(zip((low for low, _ in found.ages), found.median, strict=True))
    assert by_age[0] == pytest.approx(0.01)
    assert (by_age[100], by_age[800]) == pytest.approx((0.1, 0.1))
    assert np.isnan(by_age[50])
    assert metrics.map_drift(first, current, ages).median[0] > 1


def wall(offset: float, seed: int, count: int = 4000) -> np.ndarray:
    """Points of a wall at x = ``offset``, 2 mm rough."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, 3))
    points[:, 0] = 0.05 + offset + rng.normal(0, 0.002, count)
    return points


def test_double_walls_are_told_from_thick_ones() -> None:
    one = wall(0, 0)
    two = np.concatenate([wall(0, 1), wall(0.03, 2)])

    def score(points: np.ndarray) -> float:
        normals = np.tile([1.0, 0, 0], (len(points), 1))
        normals[::2] *= -1  # the sign of a normal says nothing
        return metrics.double_wall_score(points, normals, np.full(len(points), 0.003), 0.1)

    assert score(one) == 0
    assert score(two) > 0.95
    half = np.concatenate([one, wall(0.03, 3)[wall(0.03, 3)[:, 1] < 0.5]])
    assert score(half) == pytest.approx(0.5, abs=0.1)
    assert np.isnan(score(one[:1]))


def test_double_wall_score_is_its_definition_cell_by_cell() -> None:
    rng = np.random.default_rng(5)
    centres = rng.uniform(0, 0.4, (400, 3))
    normals = rng.normal(size=(400, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    scales = rng.uniform(0.001, 0.02, 400)
    cells: dict[tuple[int, ...], list[int]] = {}
    for i, key in enumerate(np.floor(centres / 0.1).astype(int).tolist()):
        cells.setdefault(tuple(key), []).append(i)
    double = []
    for members in cells.values():
        if len(members) > 1:
            axis = np.linalg.svd(normals[members])[2][0]
            apart = (centres[members] @ axis).std()
            double.append(apart > 3 * np.median(scales[members]))
    assert 0.1 < np.mean(double) < 0.9
    assert metrics.double_wall_score(centres, normals, scales, 0.1) == np.mean(double)
    assert np.isnan(metrics.double_wall_score(np.empty((0, 3)), np.empty((0, 3)), [], 0.1))


def test_overlap_by_hand() -> None:
    truth = [np.array([[1, 1, 2, 2, 0]], np.uint8), np.array([[1, 3, 3, 3, 3]], np.uint8)]
    predicted = [np.array([[1, 2, 2, 2, 4]], np.uint8), np.array([[1, 3, 3, 0, 4]], np.uint8)]
    found = metrics.overlap(predicted, truth, classes=6)
    assert found.iou == pytest.approx({1: 2 / 3, 2: 2 / 3, 3: 2 / 4})
    assert found.accuracy == pytest.approx({1: 2 / 3, 2: 1, 3: 2 / 4})
    assert found.miou == pytest.approx(np.mean([2 / 3, 2 / 3, 0.5]))
    assert found.macc == pytest.approx(np.mean([2 / 3, 1, 0.5]))
    with pytest.raises(ValueError, match="below 4"):
        metrics.overlap(predicted, truth, classes=4)
    assert np.isnan(metrics.overlap([], [], 4).miou)
