"""How well a map's renderings and its shape agree with the truth.

Pictures are [H, W, 3], uint8 or floating-point in 0 to 1. What cannot be scored is None or NaN and
counted, never replaced.

LPIPS is not here: it is defined by a network's downloaded weights (VGG in most papers on
feed-forward splatting, AlexNet in gsplat's trainer; the two are not comparable), and a stand-in
would not be LPIPS. Use the ``lpips`` package on the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.datasets.scene.trajectory import Similarity

Array = NDArray[np.float64]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2
_SEEN = 0.5
"""Opacity above which a rendered depth counts."""


class DepthError(NamedTuple):
    """|rendered - true| in metres; the mean is ruled by silhouettes, the median is not."""

    mean: float
    median: float
    pixels: int


class Drift(NamedTuple):
    """How far Gaussians have moved since they were committed, by age."""

    ages: tuple[tuple[int, int], ...]
    """[first, end) in frames."""
    median: tuple[float, ...]
    """Metres; NaN where there are none."""
    counts: tuple[int, ...]


class Overlap(NamedTuple):
    """Of label pictures, over the classes present in the truth."""

    miou: float
    macc: float
    iou: dict[int, float]
    accuracy: dict[int, float]


def psnr(image: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None) -> float:
    """-10 log10 of the mean squared difference, both clipped to 0..1; inf when they are equal.

    ``mask`` [H, W] chooses pixels; NaN when it chooses none. Average it over pictures, not the
    squared differences.
    """
    a, b = _pictures(image, truth)
    squared = (a - b) ** 2
    if mask is not None:
        squared = squared[np.asarray(mask, bool)]
    if not squared.size:
        return float("nan")
    mean = float(squared.mean())
    return float("inf") if mean == 0 else float(-10 * np.log10(mean))


def ssim(image: ArrayLike, truth: ArrayLike) -> float:
    """Structural similarity (Wang et al. 2004), range 1: an 11 x 11 Gaussian window (sigma 1.5),
    population variances, the mean over channels and over the pixels whose window lies within the
    picture ('valid' borders). Raises ValueError for pictures smaller than the window.
    """
    a, b = _pictures(image, truth)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs {_WINDOW} x {_WINDOW} pixels or more, got {a.shape[:2]}")
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return float((alike / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))).mean())


def depth_l1(depth: ArrayLike, truth: ArrayLike, alpha: ArrayLike | None = None) -> DepthError:
    """Where the truth is known (> 0) and the rendering's ``alpha`` [H, W] is above 0.5."""
    d, g = np.asarray(depth, np.float64), np.asarray(truth, np.float64)
    if d.shape != g.shape:
        raise ValueError(f"depths must be alike, got {d.shape} and {g.shape}")
    chosen = g > 0
    if alpha is not None:
        chosen &= np.asarray(alpha, np.float64) > _SEEN
    gaps = np.abs(d - g)[chosen]
    if not gaps.size:
        return DepthError(float("nan"), float("nan"), 0)
    return DepthError(float(gaps.mean()), float(np.median(gaps)), gaps.size)


def map_drift(
    first: ArrayLike,
    current: ArrayLike,
    ages: ArrayLike,
    alignment: Similarity | None = None,
    edges: Sequence[int] = (0, 50, 100, 200, 400, 800),
) -> Drift:
    """Median distance of Gaussians' centres ``current`` [N, 3] from where they were committed.

    ``first`` [N, 3] are the same Gaussians' centres at commit, ``ages`` [N] how many frames ago;
    ``alignment`` moves ``current`` (as ``trajectory.align`` of the estimated path on the true one,
    when ``first`` is in the true world). ``edges`` are those of the bins, the last one open.
    """
    a, b, age = (np.asarray(x, np.float64) for x in (first, current, ages))
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3 or age.shape != a.shape[:1]:
        raise ValueError(f"need [N, 3], [N, 3], [N], got {a.shape}, {b.shape}, {age.shape}")
    moved = np.linalg.norm((alignment(b) if alignment else b) - a, axis=1)
    last = max(int(age.max(initial=0)) + 1, edges[-1] + 1)
    bins = tuple(zip(edges, [*edges[1:], last], strict=True))
    inside = [moved[(age >= low) & (age < high)] for low, high in bins]
    medians = tuple(float(np.median(x)) if len(x) else float("nan") for x in inside)
    return Drift(bins, medians, tuple(map(len, inside)))


def double_wall_score(
    centres: ArrayLike, normals: ArrayLike, scales: ArrayLike, cell: float
) -> float:
    """Share of cells of ``cell`` metres that hold one surface twice, as drift draws it.

    A cell counts when it has two Gaussians or more; it is double when their ``centres`` [N, 3],
    measured along its mean normal, have a standard deviation above 3 times the median of their
    ``scales`` [N] along the normal. ``normals`` [N, 3] are units whose sign does not matter. NaN
    when no cell counts.
    """
    c, n, s = (np.asarray(x, np.float64) for x in (centres, normals, scales))
    if c.shape != n.shape or c.ndim != 2 or c.shape[1] != 3 or s.shape != c.shape[:1] or cell <= 0:
        raise ValueError(
            f"need [N, 3], [N, 3], [N] and a cell, got {c.shape}, {n.shape}, {s.shape}"
        )
    _, place, counts = np.unique(
        np.floor(c / cell).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    # By cell, and within each by scale: the middle ones are the median.
    order = np.lexsort((s, place.ravel()))
    starts = np.cumsum(counts) - counts
    c, n, s = c[order], n[order], s[order]
    median = (s[starts + (counts - 1) // 2] + s[starts + counts // 2]) / 2
    # The axis most normals lie along, whatever their sign.
    spread = np.add.reduceat(n[:, :, None] * n[:, None], starts, axis=0)
    axis = np.linalg.eigh(spread)[1][:, :, -1]
    along = np.einsum("ni,ni->n", c, np.repeat(axis, counts, axis=0))
    along -= np.repeat(np.add.reduceat(along, starts) / counts, counts)
    deviation = np.sqrt(np.add.reduceat(along**2, starts) / counts)
    several = counts > 1
    return float((deviation > 3 * median)[several].mean()) if several.any() else float("nan")


def overlap(
    predicted: Iterable[NDArray[Any]], truth: Iterable[NDArray[Any]], classes: int
) -> Overlap:
    """IoU and recall per class over all pictures together, and their means over the classes that
    occur in the truth. Pixels whose truth is 0, no label, do not count. Class ids below
    ``classes``; a prediction of 0 is always wrong."""
    table = np.zeros((classes, classes), np.int64)
    for p, g in zip(predicted, truth, strict=True):
        if p.shape != g.shape or max(p.max(initial=0), g.max(initial=0)) >= classes:
            raise ValueError(f"labels below {classes} alike, got {p.shape} and {g.shape}")
        pair = g.astype(np.int64) * classes + p
        table += np.bincount(pair[g > 0], minlength=classes**2).reshape(classes, classes)
    hits, true, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    present = [int(k) for k in np.flatnonzero(true)]
    iou = {k: float(hits[k] / (true[k] + said[k] - hits[k])) for k in present}
    accuracy = {k: float(hits[k] / true[k]) for k in present}
    if not present:
        return Overlap(float("nan"), float("nan"), iou, accuracy)
    return Overlap(
        float(np.mean(list(iou.values()))), float(np.mean(list(accuracy.values()))), iou, accuracy
    )


def _pictures(image: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    a, b = _unit(np.asarray(image)), _unit(np.asarray(truth))
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"pictures must be [H, W, C] alike, got {a.shape} and {b.shape}")
    return a, b


def _unit(image: NDArray[Any]) -> Array:
    if image.dtype == np.uint8:
        return image / 255.0
    if image.dtype.kind != "f":
        raise ValueError(f"pictures must be uint8 or floating-point, got {image.dtype}")
    return np.clip(image.astype(np.float64), 0.0, 1.0)


def _blur(image: Array) -> Array:
    """The Gaussian window over [H, W, C], 'valid': [H - 10, W - 10, C]."""
    at = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-0.5 * (at / _SIGMA) ** 2)
    weights /= weights.sum()
    rows = len(image) - _WINDOW + 1
    down = sum(w * image[i : i + rows] for i, w in enumerate(weights))
    columns = image.shape[1] - _WINDOW + 1
    across = sum(w * np.asarray(down)[:, i : i + columns] for i, w in enumerate(weights))
    return np.asarray(across)
