"""Says what is wrong with a picture that should be a grey apical echo view."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.sector import SURE, NoSector, Sector, find_sector
from retain.pipeline.frame import Image

COLOUR = 0.02
"""Share of strongly coloured pixels in the fan from which it counts as colour Doppler."""

CURVED = 0.25
"""Share of the radius before the picture begins from which the probe is no cardiac one."""

FLAGS = {
    "no-sector": "There is no ultrasound fan in the picture.",
    "uncertain-sector": "The fan's outline is only partly visible; check the drawn outline.",
    "leaning-sector": "The fan leans: the picture is turned, or one flank is in shadow.",
    "colour-doppler": "The fan shows colour Doppler, which hides the grey picture.",
    "not-grey": "The picture is tinted or coloured.",
    "too-dark": "The fan is almost black.",
    "saturated": "Large parts of the fan are pure white.",
    "curved-probe": "The fan has a wide curved top, as of an abdominal probe.",
}
"""Every flag and what it means."""


def check_input(image: Image, sector: Sector | None = None) -> tuple[str, ...]:
    """The ``FLAGS`` of a picture (uint8 [H, W, 3]); () for a usable one.

    ``sector`` as found from the whole clip; without it, the fan is looked for in this picture.
    """
    try:
        sector = sector or find_sector(image)
    except NoSector:
        return ("no-sector",)
    step = max(1, round(sector.radius / 100))  # some thousand pixels tell as much as all
    pixels = image[::step, ::step][_mask(sector, *image.shape[:2])[::step, ::step]].astype(np.int16)
    if not len(pixels):
        return ("no-sector",)
    brightest, spread = pixels.max(axis=1), np.ptp(pixels, axis=1)
    coloured = (spread > 60) & (spread > 0.4 * brightest)
    seen = brightest > 24
    tinted = seen.any() and np.median(spread[seen] / brightest[seen]) > 0.15
    grey = pixels.mean(axis=1)
    found = {
        "uncertain-sector": sector.confidence < SURE,
        "leaning-sector": sector.tilt != 0,
        "curved-probe": sector.inner > CURVED * sector.radius,
        "colour-doppler": coloured.mean() > COLOUR and not tinted,
        "not-grey": tinted,
        "too-dark": np.percentile(grey, 98) < 24,
        "saturated": (grey >= 250).mean() > 0.25,
    }
    return tuple(flag for flag, true in found.items() if true)


@lru_cache(maxsize=16)
def _mask(sector: Sector, height: int, width: int) -> NDArray[np.bool_]:
    return sector.mask(height, width)
