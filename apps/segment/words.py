"""The words that every output of `retain segment` shares."""

from __future__ import annotations

from collections.abc import Iterable

from retain.datasets.echo.check import FLAGS as PICTURE_FLAGS
from retain.models.gdkvm.measure import FLAGS as MEASURE_FLAGS
from retain.models.gdkvm.stage import FLAGS as MASK_FLAGS

NOTICE = "Not for diagnosis"
DISCLAIMER = (
    "This is the output of a research tool, not of a medical device. It was trained on drawn "
    "hearts; on real ones it can be wrong without saying so. Nothing here may guide anybody's care."
)


def doubt(flag: str) -> str:
    """What a flag means, as a sentence."""
    known = PICTURE_FLAGS | MASK_FLAGS | MEASURE_FLAGS
    return known.get(flag, f"{flag.replace('-', ' ').capitalize()}.")


def doubts(flags: Iterable[str]) -> list[str]:
    return [doubt(flag) for flag in flags]


def area_text(area: float, unit: str) -> str:
    """An area for people.

    >>> area_text(3412.0, "mm"), area_text(3412.0, "px"), area_text(float("nan"), "mm")
    ('34.1 cm²', '3,412 px²', '–')
    """
    if area != area:
        return "–"
    return f"{area / 100:.1f} cm²" if unit == "mm" else f"{area:,.0f} px²"


def volume_text(volume: float, unit: str) -> str:
    """A volume for people; in pixels it says nothing to anybody.

    >>> volume_text(112.4, "mm"), volume_text(99999.0, "px")
    ('112 ml', '–')
    """
    return f"{volume:.0f} ml" if unit == "mm" and volume == volume else "–"


def percent(value: float) -> str:
    """
    >>> percent(56.4), percent(float("nan"))
    ('56 %', '–')
    """
    return f"{value:.0f} %" if value == value else "–"
