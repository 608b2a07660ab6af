"""BBC Planet Earth (Baraldi et al. 2015): shots of eleven long episodes, as text.

One text file for each episode (``01-scenes.txt``, ``01_From_Pole_to_Pole.txt``), a line for each
shot: first and last frame, counted from 0, separated by white space. The video of an episode is the
one whose name holds the same number (``bbc_01.mp4``).
"""

from __future__ import annotations

import re
from pathlib import Path

from retain.datasets.boundaries.base import Clip
from retain.datasets.boundaries.videos import clip_of, find_videos, shot_boundaries, tell_missing
from retain.pipeline.errors import SourceError, SourceFault


def read_bbc(annotations: str | Path, videos: str | Path | None = None) -> list[Clip]:
    """A clip for every annotation file in the folder, in the order of their numbers.

    Clips without a video say so in ``missing``. Raises SourceError when there is no annotation, or
    one is not a list of shots.
    """
    root = Path(annotations)
    files = sorted(root.glob("*.txt")) if root.is_dir() else [root] if root.is_file() else []
    if not files:
        raise SourceError(
            SourceFault.NOT_FOUND, f"There are no annotation files *.txt in {str(root)!r}."
        )
    by_number = {_number(stem): path for stem, path in find_videos(videos).items()}
    clips = []
    for path in files:
        shots = read_shots(path)
        number = _number(path.stem)
        clips.append(
            clip_of(
                path.stem,
                by_number.get(number) if number is not None else None,
                shot_boundaries(shots, repr(str(path))),
                shots[-1][1] + 1,
                wanted=f"a video with the number {number}",
            )
        )
    tell_missing(clips, root)
    return clips


def read_shots(path: Path) -> list[tuple[int, int]]:
    """(first frame, last frame) of every line. Raises SourceError naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            SourceFault.BROKEN, f"{str(path)!r} cannot be read as text ({type(error).__name__})."
        ) from error
    shots = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\d{1,9})\s+(\d{1,9})\s*", line, re.ASCII)
        if match is None:
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(path)!r}, line {number}: {line[:40]!r} is not a first and a last frame.",
            )
        shots.append((int(match[1]), int(match[2])))
    if not shots:
        raise SourceError(SourceFault.EMPTY, f"{str(path)!r} holds no shots.")
    return shots


def _number(stem: str) -> int | None:
    """The episode's number: the first in the name."""
    found = re.search(r"\d+", stem)
    return int(found[0]) if found else None
