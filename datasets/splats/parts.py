"""What the formats share: activations, axes, importance, and the refusal of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.errors import SourceError, SourceFault

SH_C0 = 0.28209479177387814
"""Value of the spherical harmonic of degree 0: 1 / (2 sqrt(pi))."""
LARGEST = 4 << 30
"""Bytes; a file over this is not opened."""
SMALLEST_SCALE = 1e-9
"""Metres: what a scale of 0 becomes where its logarithm is stored."""
LEAST_OPACITY = 2.0**-20
"""How far from 0 and 1 an opacity stays where its logit is stored."""

Floats = NDArray[np.float32]


def dc(colors: Floats) -> Floats:
    """Colours 0..1 as coefficients of degree 0; any shape."""
    return np.asarray((colors - 0.5) / SH_C0, np.float32)


def rgb(coefficients: Floats) -> Floats:
    """The colours of coefficients of degree 0, cut to 0..1; any shape."""
    return np.asarray(np.clip(coefficients * SH_C0 + 0.5, 0, 1), np.float32)


def logit(opacities: Floats) -> Floats:
    p = np.clip(opacities.astype(np.float64), LEAST_OPACITY, 1 - LEAST_OPACITY)
    return np.asarray(np.log(p / (1 - p)), np.float32)


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits.astype(np.float64)), np.float32)


def log_scales(scales: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(scales, SMALLEST_SCALE)), np.float32)


def turned(gaussians: Gaussians, axis: int) -> Gaussians:
    """The world after half a turn about an axis: x (0) makes y up and z back, z (2) makes x left
    and y up. Twice is not at all.

    F is the diagonal of the turn. The covariance becomes F C F; since the axes of an ellipsoid have
    no sign, its rotation R may become F R F, whose quaternion has two signs changed.
    """
    signs = np.full(3, -1, np.float32)
    signs[axis] = 1
    means, quats = gaussians.means * signs, gaussians.quats * np.concatenate([[1], signs])
    return replace(gaussians, means=means, quats=quats.astype(np.float32))


def importance(gaussians: Gaussians) -> Floats:
    """How much each adds to pictures, [N]: the area of its widest face times its opacity.

    Not the volume, which other writers take: ours are discs, and how thin one is says nothing.
    """
    scales = np.sort(gaussians.scales, axis=1)
    return np.asarray(scales[:, 1] * scales[:, 2] * gaussians.opacities)


def unit(quats: Floats) -> Floats:
    """Of length 1; those of length 0 become no rotation."""
    length = np.linalg.norm(quats, axis=1, keepdims=True)
    whole = np.where(length > 0, quats, np.array([1, 0, 0, 0], np.float32))
    return np.asarray(whole / np.where(length > 0, length, 1), np.float32)


def checked(gaussians: Gaussians) -> Gaussians:
    """What is written: finite, scales not negative, quaternions of length 1. Raises ValueError."""
    g = gaussians
    for name in ("means", "quats", "scales", "opacities", "colors"):
        wrong = int((~np.isfinite(getattr(g, name))).sum())
        if wrong:
            raise ValueError(f"{wrong} numbers of Gaussians.{name} are not finite")
    if (g.scales < 0).any():
        raise ValueError("Gaussians.scales must not be negative")
    opacities, colors = np.clip(g.opacities, 0, 1), np.clip(g.colors, 0, 1)
    return replace(g, quats=unit(g.quats), opacities=opacities, colors=colors)


def content(path: str | Path) -> bytes:
    """All of a file. Raises SourceError when it is missing, unreadable or over ``LARGEST``."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise SourceError(
                SourceFault.TOO_LARGE, f"{path} has {size >> 20} MiB; the most is {LARGEST >> 20}."
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceError(SourceFault.NOT_FOUND, f"There is no file {str(path)!r}.") from None
    except OSError as error:
        raise SourceError(SourceFault.DENIED, f"{path} cannot be read: {error.strerror}.") from None


def refused(path: str | Path, what: str, *, hint: str = "") -> SourceError:
    """The error for a file that is not what its name says."""
    return SourceError(SourceFault.BROKEN, f"{path} {what}.", hint=hint)


def read_in(
    path: str | Path,
    means: Floats,
    quats: Floats,
    scales: Floats,
    opacities: Floats,
    colors: Floats,
) -> Gaussians:
    """What was read, as Gaussians. Raises SourceError when a number is not finite."""
    arrays = (means, quats, scales, opacities, colors)
    finite = [
        np.isfinite(array).reshape(len(means), -1).all(axis=1) for array in arrays if means.size
    ]
    bad = len(means) - int(np.logical_and.reduce(finite).sum()) if finite else 0
    if bad:
        raise refused(path, f"has numbers that are not finite, in {bad} of {len(means)} Gaussians")
    if len(scales) and scales.min() < 0:
        raise refused(path, "has negative scales")
    whole = (np.ascontiguousarray(array, np.float32) for array in arrays)
    means, quats, scales, opacities, colors = whole
    return Gaussians(means, unit(quats), scales, np.clip(opacities, 0, 1), np.clip(colors, 0, 1))
