"""How well frames follow a world's law.

``c`` are centres read back from frames, ``p`` the simulated ones, F the frames that were not given.
"""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.render import Frames, pixels

FLOOR = np.float32(0.25)
"""Of full scale; taken off before a centre is read, so that faint things do not count."""


def centres(frames: Frames) -> Frames:
    """Intensity-weighted centroids f32[..., 2] in pixels of frames f32[..., 1, S, S].

    NaN where nothing is brighter than a quarter of full scale.
    """
    weight = np.maximum(frames[..., 0, :, :] - FLOOR, 0)
    grid, total = pixels(frames.shape[-1]), weight.sum((-2, -1))
    with np.errstate(invalid="ignore"):
        x, y = weight.sum(-2) @ grid / total, weight.sum(-1) @ grid / total
    return np.stack((x, y), -1)
