"""The footage around a moment: a link that plays it, and short videos cut from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Image
from retain.pipeline.sources.common import is_url, local_path
from retain.pipeline.sources.stored import is_stored

if TYPE_CHECKING:
    from retain.memory.entries import Entry

AROUND_S = 2.0
"""Seconds that are played before a moment and after it."""
LONGEST_S = 30.0
WIDTH, RATE = 480, 25
"""At most so wide, at most so many pictures a second."""
_UNLIKE = 24.0
"""Mean difference, of 255, between small pictures: coding differs by a few, other footage by 40 and
more."""
_THUMB = (16, 12)
_NEAR_S = 0.1


def footage(source: str) -> Path | None:
    """The video file that ``source`` names, when it is on this machine."""
    from retain.pipeline.sources.any import describe

    if not source or is_url(source) or is_stored(source):
        return None
    try:
        return local_path(source).absolute() if describe(source) == "video" else None
    except (RetainError, ValueError):  # a name that no file can have
        return None


def window(start_s: float, end_s: float) -> tuple[float, float]:
    """What is played of a moment, in seconds."""
    first = max(0.0, start_s - AROUND_S)
    return first, min(end_s + AROUND_S, first + LONGEST_S)


def link(source: str, start_s: float, end_s: float) -> str:
    """An address that plays a moment (a media fragment); empty unless ``source`` is a video file
    here."""
    path = footage(source)
    if path is None:
        return ""
    first, last = window(start_s, end_s)
    return f"{path.as_uri()}#t={first:.2f},{last:.2f}"


def cut(source: Path, out: Path, start_s: float, end_s: float) -> None:
    """Write what ``source`` shows around a moment to ``out`` (mp4: H.264, without sound).

    Raises RetainError when it shows nothing then, or cannot be read.
    """
    from retain.apps.video import TimedVideo

    first, last = window(start_s, end_s)
    written, due = TimedVideo(out), first
    try:
        for seconds, image in _pictures(source, first, last):
            if seconds >= due:
                due = max(due, seconds) + 0.99 / RATE
                written.add(_even(image), seconds)
    finally:
        written.close()
    if due == first:
        raise RetainError(f"{source.name!r} shows nothing from {first:.1f} s to {last:.1f} s.")


def same_footage(source: Path, entry: Entry) -> bool:
    """Whether ``source`` shows what ``entry`` kept at that time: files are replaced, and names of
    files are used again. False too when it cannot be read."""
    if not entry.jpeg:
        return False
    kept = _thumb(entry.image())
    try:
        seen = _pictures(source, entry.seconds - _NEAR_S, entry.seconds + _NEAR_S)
        return any(float(np.abs(_thumb(image) - kept).mean()) < _UNLIKE for _, image in seen)
    except RetainError:
        return False


def _pictures(source: Path, first: float, last: float) -> Iterator[tuple[float, Image]]:
    """What is shown from ``first`` to ``last``: seconds and uint8 [H, W, 3] RGB, upright."""
    import av

    from retain.pipeline.sources.rgb import ToRgb

    rgb = ToRgb(8192)
    try:
        with av.open(f"file:{source}", metadata_errors="replace") as container:
            video = container.streams.video[0]
            container.seek(int(max(0.0, first) / video.time_base), stream=video)
            for picture in container.decode(video):
                ticks = picture.dts if picture.pts is None else picture.pts
                seconds = float((ticks or 0) * video.time_base)
                if seconds > last:
                    return
                if seconds >= first:
                    yield seconds, rgb(picture)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise RetainError(f"{source.name!r} cannot be read ({type(error).__name__}).") from error


def _thumb(image: Image) -> NDArray[np.float64]:
    import cv2

    return np.asarray(cv2.resize(image, _THUMB, interpolation=cv2.INTER_AREA), np.float64)


def _even(image: Image) -> Image:
    """At most WIDTH wide, with even sides, as video coders want them."""
    import cv2

    height, width = image.shape[:2]
    scale = min(1.0, WIDTH / width)
    size = tuple(max(2, round(side * scale) // 2 * 2) for side in (width, height))
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
