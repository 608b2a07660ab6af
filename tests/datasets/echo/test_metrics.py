"""Metrics against their definitions, MONAI and scipy; and the historic evaluator's inflation."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from retain.datasets.echo import metrics

SPACINGS = [(1.0, 1.0), (0.31, 0.31), (1.4, 0.7)]


def disc(y: float, x: float, ry: float, rx: float, size: tuple[int, int] = (112, 112)):
    rows, cols = np.ogrid[: size[0], : size[1]]
    return ((rows - y) / ry) ** 2 + ((cols - x) / rx) ** 2 <= 1


def blob(seed: int, size: tuple[int, int] = (48, 64)) -> NDArray[np.bool_]:
    """Ragged, often in several parts, often cut by the edge."""
    field = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(field, 3) > 0.02


EMPTY = np.zeros((48, 64), bool)


def test_overlap_counts_pixels() -> None:
    a, b = EMPTY.copy(), EMPTY.copy()
    a[:10, :10], b[5:15, :10] = True, True
    assert metrics.dice(a, b) == 0.5
    assert metrics.iou(a, b) == 50 / 150
    assert metrics.dice(a, a) == metrics.iou(a, a) == 1


def test_empty_masks_have_no_score_or_none_at_all() -> None:
    assert metrics.dice(EMPTY, EMPTY) is None
    assert metrics.iou(EMPTY, EMPTY) is None
    assert metrics.distances(EMPTY, EMPTY) is None
    for pair in ((EMPTY, blob(1)), (blob(1), EMPTY)):
        assert metrics.dice(*pair) == 0
        assert metrics.iou(*pair) == 0
        assert metrics.distances(*pair, (2.0, 0.5)) == (math.hypot(94, 31.5),) * 3


def reference(a: NDArray[np.bool_], b: NDArray[np.bool_], spacing: tuple[float, float]) -> tuple:
    """With scipy, from the definition."""
    surfaces = [mask ^ ndimage.binary_erosion(mask) for mask in (a, b)]
    maps = [ndimage.distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    there, back = maps[1][surfaces[0]], maps[0][surfaces[1]]
    pooled = np.concatenate((there, back))
    return max(np.percentile(d, 95) for d in (there, back)), pooled.max(), pooled.mean()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_distances_equal_scipys(spacing: tuple[float, float], seed: int) -> None:
    a, b = blob(seed), blob(seed + 100)
    assert metrics.distances(a, b, spacing) == pytest.approx(reference(a, b, spacing), rel=1e-12)
    assert metrics.distances(a, a, spacing) == (0, 0, 0)


@pytest.mark.slow  # importing MONAI takes seconds
@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_equal_monais(spacing: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its own imports warn of
        torch = pytest.importorskip("torch")
        monai = pytest.importorskip("monai.metrics")
    a, b = disc(50, 55, 30, 16), disc(53, 52, 27, 18) & ~disc(53, 52, 4, 4)
    one, other = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95, hd = (
            monai.compute_hausdorff_distance(
                one, other, include_background=True, percentile=percentile, spacing=spacing
            ).item()
            for percentile in (95, None)
        )
        asd = monai.compute_average_surface_distance(
            one, other, include_background=True, symmetric=True, spacing=spacing
        ).item()
    # MONAI computes in float32.
    assert metrics.distances(a, b, spacing) == pytest.approx((hd95, hd, asd), rel=1e-5)


def test_distances_along_each_side_use_that_sides_spacing() -> None:
    a, down, across = (EMPTY.copy() for _ in range(3))
    a[10, 10] = down[14, 10] = across[10, 14] = True
    assert metrics.distances(a, down, (2.0, 0.5)) == (8, 8, 8)
    assert metrics.distances(a, across, (2.0, 0.5)) == (2, 2, 2)
    with pytest.raises(ValueError, match="pass \\(1, 1\\) for distances in pixels"):
        metrics.distances(a, down, (math.nan, math.nan))


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="must be bool"):
        metrics.dice(EMPTY.astype(np.uint8), EMPTY)
    with pytest.raises(ValueError, match=r"\[H, W\] alike"):
        metrics.iou(EMPTY, EMPTY[1:])


def test_the_mean_weighs_patients_not_cases() -> None:
    patients, scores = ["a"] * 9 + ["b"], [0.9] * 9 + [0.5]
    interval = metrics.patient_mean(patients, [*scores])
    assert interval.mean == pytest.approx(0.7)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.9))
    assert interval[3:] == (2, 10, 0)


def test_the_order_of_cases_does_not_matter_but_the_seed_does() -> None:
    values = np.random.default_rng(3).normal(0.9, 0.05, 200)
    names = [f"p{i}" for i in range(200)]
    one = metrics.patient_mean(names, values)
    assert metrics.patient_mean(names[::-1], values[::-1]) == one
    assert metrics.patient_mean(names, values, seed=1) != one


def test_the_mean_counts_what_had_no_score() -> None:
    assert metrics.patient_mean(["a", "a", "b"], [0.8, None, None])[3:] == (1, 1, 2)
    nothing = metrics.patient_mean(["a"], [None])
    assert math.isnan(nothing.mean)
    assert nothing[3:] == (0, 0, 1)


def test_agreement_is_what_scipy_and_the_definitions_say() -> None:
    rng = np.random.default_rng(0)
    reference_ef = rng.uniform(20, 75, 60)
    ours = 0.8 * reference_ef + 12 + rng.normal(0, 5, 60)
    table = metrics.agreement([*ours, math.nan], [*reference_ef, 50.0])
    error = ours - reference_ef
    assert table.n == 60
    assert table.mae == pytest.approx(np.abs(error).mean())
    assert table.rmse == pytest.approx(math.sqrt((error**2).mean()))
    assert table.r == pytest.approx(stats.pearsonr(ours, reference_ef).statistic)
    assert table.r2 == pytest.approx(1 - (error**2).mean() / reference_ef.var())
    assert table.bias == pytest.approx(error.mean())
    assert table.sd == pytest.approx(stats.tstd(error))
    assert (table.low, table.high) == pytest.approx(
        (table.bias - 1.96 * table.sd, table.bias + 1.96 * table.sd)
    )


def test_agreement_of_too_little_says_nan() -> None:
    assert metrics.agreement([], []).n == 0
    one = metrics.agreement([50], [55])
    assert (one.n, one.mae, one.bias) == (1, 5, -5)
    assert math.isnan(one.sd)
    assert math.isnan(one.r)
    assert math.isnan(metrics.agreement([50, 60], [55, 55]).r)
