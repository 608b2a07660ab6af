"""The .splat of web viewers: 32 bytes a Gaussian, no header.

float32 xyz, float32 scale xyz (linear), uint8 RGBA (opacity last), uint8 quaternion wxyz as 128 +
128 q. Most important first, so that a page that is still loading shows the picture early. Axes
stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.splats import parts
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.files import write_whole

NBYTES = 32
"""Bytes of a Gaussian."""
RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def write(path: str | Path, gaussians: Gaussians) -> None:
    """Language codes are left out. Raises OSError; ValueError for numbers that are not finite."""
    order = np.argsort(-parts.importance(gaussians), kind="stable")
    write_whole(path, to_records(gaussians[order]).tobytes())


def read(path: str | Path) -> Gaussians:
    """In the order of the file. Raises SourceError for a file that is missing or cut off."""
    data = parts.content(path)
    if len(data) % NBYTES:
        raise parts.refused(path, f"is cut off, or no .splat: {len(data)} bytes are no {NBYTES}s")
    return from_records(np.frombuffer(data, np.uint8).reshape(-1, NBYTES), path)


def to_records(gaussians: Gaussians) -> NDArray[np.uint8]:
    """uint8 [N, 32], in the order given. Raises ValueError for numbers that are not finite."""
    g = parts.checked(gaussians)
    records = np.zeros(len(g), RECORD)
    records["mean"], records["scale"] = g.means, g.scales
    records["rgba"][:, :3] = np.rint(255 * g.colors)
    records["rgba"][:, 3] = np.rint(255 * g.opacities)
    records["quat"] = np.clip(np.rint(128 * g.quats) + 128, 0, 255)
    return records.view(np.uint8).reshape(len(g), NBYTES)


def from_records(records: NDArray[np.uint8], origin: str | Path = "The message") -> Gaussians:
    """Of uint8 [N, 32]. Raises SourceError, naming ``origin``, when a number is not finite."""
    rows = np.ascontiguousarray(records).view(RECORD)[:, 0]
    rgba: parts.Floats = rows["rgba"].astype(np.float32) / np.float32(255)
    quats: parts.Floats = (rows["quat"].astype(np.float32) - np.float32(128)) / np.float32(128)
    return parts.read_in(origin, rows["mean"], quats, rows["scale"], rgba[:, 3], rgba[:, :3])
