"""What the readers of published sets share: shots to boundaries, and where the videos are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from retain.datasets.boundaries.base import Boundary, Clip, video_frames
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Image

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v")


def shot_boundaries(shots: Sequence[tuple[int, int]], where: str) -> list[Boundary]:
    """Boundaries between shots given by first and last frame, counted from 0.

    Frames that belong to no shot are a gradual transition. A shot that begins with the frame that
    the one before ends with is a cut at that frame. ``where`` names the annotation in the
    SourceError that shots out of order raise.
    """
    for first, last in shots:
        if not 0 <= first <= last:
            raise _wrong(where, f"a shot from frame {first} to {last}")
    for before, after in pairwise(shots):
        if after[0] < before[1]:
            raise _wrong(where, f"a shot from {after[0]} that begins before frame {before[1]} ends")
    return [Boundary(min(a[1] + 1, b[0]), b[0]) for a, b in pairwise(shots)]


def _wrong(where: str, what: str) -> SourceError:
    return SourceError(SourceFault.BROKEN, f"{where} has {what}: it is no list of shots in order.")


def find_videos(folder: str | Path | None) -> dict[str, Path]:
    """Every video below ``folder`` by its name without suffix; {} for None.

    Raises SourceError(NOT_FOUND) when the folder is not there.
    """
    if folder is None:
        return {}
    root = Path(folder)
    if not root.is_dir():
        raise SourceError(SourceFault.NOT_FOUND, f"There is no folder of videos {str(root)!r}.")
    return {p.stem: p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES}


def clip_of(
    name: str,
    video: Path | None,
    boundaries: list[Boundary],
    length: int,
    fps: float = 0.0,
    wanted: str = "",
) -> Clip:
    """A clip of a published set. ``fps`` 0: the video is asked; it stays 0 without a video.

    ``wanted`` says what file was looked for, when ``video`` is None.
    """
    if video is None:
        return Clip(name, fps, length, boundaries, _nothing, missing=wanted or f"{name}.mp4")
    try:
        return Clip(name, fps or _rate(video), length, boundaries, video_frames(video))
    except SourceError as error:
        return Clip(name, fps, length, boundaries, _nothing, missing=error.what)


def tell_missing(clips: Sequence[Clip], annotation: str | Path) -> None:
    """Log how many clips have truth and no pictures, and name the first of them."""
    gone = [clip.name for clip in clips if clip.missing]
    if gone:
        some = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
        log.warning("%s: %d of %d videos are missing: %s", annotation, len(gone), len(clips), some)


def _rate(video: Path) -> float:
    from retain.pipeline.sources.video import VideoSource

    with closing(VideoSource(str(video))) as source:
        return float(source.open().fps or 0.0)


def _nothing() -> Iterator[Image]:
    return iter(())
