"""MOTChallenge (Milan et al., 2016): one text file of boxes per sequence.

    <sequence>/seqinfo.ini, img1/000001.jpg, gt/gt.txt, det/det.txt

A line is ``frame, id, left, top, width, height, confidence, class, visibility`` (truth since MOT16)
or ``frame, id, left, top, width, height, confidence, x, y, z`` (MOT15, detections, results). Frames
and pixels count from 1: boxes come out with the first pixel at 0. Lines are in no order.
"""

from __future__ import annotations

import configparser
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from retain.datasets.detect.base import IGNORE, NO_TRACK, OCCLUDED, Size, Truth, truth_of
from retain.datasets.detect.files import UNKNOWN, FileClip, FileClips, check_dimensions, corner
from retain.datasets.scene.pictures import natural, reading
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.sources.common import check_file

CLASSES = (
    "pedestrian",
    "person on vehicle",
    "car",
    "bicycle",
    "motorbike",
    "non motorized vehicle",
    "static person",
    "distractor",
    "occluder",
    "occluder on the ground",
    "occluder full",
    "reflection",
    "crowd",
)
"""Class k of the files is place k - 1."""
_DISTRACTING = frozenset((1, 6, 7, 11))
"""Places that the benchmark neither asks for nor punishes: people on vehicles, static, fake."""
_HALF_SEEN = 0.5
_MOST_FRAMES = 1_000_000
_SEQINFO = "seqinfo.ini"

Row = tuple[int, list[float], int, int, int, float]
"""Frame, box, label, track, flags, confidence."""


class Mot(FileClips):
    """The sequences of a folder, or the one that it is.

    root   a sequence, or a folder of sequences
    boxes  ``gt`` or ``det``: the truth, or the public detections, which have ``Truth.scores``
    rate   frames per second where there is no seqinfo.ini

    A confidence of 0 in the truth means "do not count", as do people on vehicles, standing ones,
    distractors and reflections: those are flagged IGNORE. Pictures may be absent. The same id twice
    in a frame is an error.
    """

    def __init__(self, root: str | Path, boxes: str = "gt", rate: float = 30.0) -> None:
        if boxes not in ("gt", "det"):
            raise UsageError(f"boxes is gt or det, not {boxes!r}.")
        root = Path(root)
        inner = sorted(root.iterdir(), key=lambda p: natural(p.name)) if root.is_dir() else []
        # A sequence's own folder gt holds a gt.txt too, and is none.
        places = [root] if _boxes_file(root, boxes) is not None else inner
        folders = [path for path in places if _boxes_file(path, boxes) is not None]
        clips = [_clip(folder, boxes, rate) for folder in folders]
        super().__init__(f"MOT in {str(root)!r} ({boxes}.txt)", CLASSES, clips)

    @staticmethod
    def recognises(path: Path) -> bool:
        places = [path, *path.iterdir()] if path.is_dir() else []
        return any(_boxes_file(place, "gt") is not None for place in places)


def _boxes_file(folder: Path, boxes: str) -> Path | None:
    ways = (folder / boxes / f"{boxes}.txt", folder / f"{boxes}.txt")
    return next((path for path in ways if path.is_file()), None)


def _clip(folder: Path, boxes: str, rate: float) -> FileClip:
    path = _boxes_file(folder, boxes)
    assert path is not None
    rows = read_rows(path, truth=boxes == "gt")
    last = max((row[0] for row in rows), default=0)
    name, size, count, rate, pictures, ending = _info(folder, rate, last)
    if last > count:
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} has boxes in frame {last}; {_SEQINFO} says there are {count} frames.",
        )
    of_frame: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        of_frame[row[0]].append(row)
    images = [pictures / f"{k + 1:06d}{ending}" for k in range(count)]
    there = pictures.is_dir()
    return FileClip(
        name,
        CLASSES,
        images if there else [None] * count,
        lambda index: _truth(size, of_frame.get(index + 1, ()), scored=boxes == "det"),
        rate=rate,
        notes=() if there else ("Its pictures are not there.",),
    )


def _truth(size: Size, rows: Sequence[Row], *, scored: bool) -> Truth:
    return truth_of(
        size,
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        [row[4] for row in rows],
        [row[5] for row in rows] if scored else None,
    )


def _info(folder: Path, rate: float, last: int) -> tuple[str, Size, int, float, Path, str]:
    """Name, size, frames, rate, folder of the pictures and their ending, from seqinfo.ini."""
    path = folder / _SEQINFO
    if not path.is_file():
        pictures = folder / "img1"
        first = next((p for p in sorted(pictures.glob("*.*"))), None)
        count = max(last, len(list(pictures.glob("*.*"))))
        return folder.name, UNKNOWN, count, rate, pictures, first.suffix if first else ".jpg"
    with reading(path):
        # Values are words: a % in one is not to be expanded.
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text())
            given = parser["Sequence"]
            size = check_dimensions(given["imWidth"], given["imHeight"])
            count, rate = int(given["seqLength"]), float(given["frameRate"])
            pictures = folder / given.get("imDir", "img1")
            name, ending = given.get("name", folder.name), given.get("imExt", ".jpg")
        except configparser.Error as error:
            raise ValueError(str(error)) from error
        if not (0 < count <= _MOST_FRAMES and 0 < rate < 1e4):
            raise ValueError(f"{count} frames at {rate} a second are no sequence")
        if ".." in Path(given.get("imDir", "")).parts or Path(given.get("imDir", "")).is_absolute():
            raise ValueError("imDir leads out of the sequence")
    return name, size, count, rate, pictures, ending


def read_rows(path: Path, truth: bool = True) -> list[Row]:
    """The boxes of a file, by frame. ``truth``: confidence is a flag, an id comes once a frame.

    Raises SourceError for a file that is missing or broken.
    """
    check_file(path)
    rows, seen = [], set()
    with reading(path):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip():
                continue
            words = line.replace(",", " ").split()
            if len(words) < 7:
                raise ValueError(f"line {number} has {len(words)} numbers, at least 7 are needed")
            row = _row(words, truth)
            if truth and (row[0], row[3]) in seen:
                raise ValueError(f"line {number}: id {row[3]} is in frame {row[0]} twice")
            seen.add((row[0], row[3]))
            rows.append(row)
    return sorted(rows, key=lambda row: row[0])


def _row(words: Sequence[str], truth: bool) -> Row:
    frame, track = _whole(words[0]), _whole(words[1])
    left, top, width, height = (corner(word) for word in words[2:6])
    confidence = float(words[6])
    if not 1 <= frame <= _MOST_FRAMES or not math.isfinite(confidence):
        raise ValueError(f"frame {words[0]} with confidence {words[6]}")
    # Nine columns carry class and visibility; ten carry x, y, z, which are no class.
    described = truth and len(words) in (8, 9)
    label = _whole(words[7]) - 1 if described else 0
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"there is no class {words[7]}")
    seen = float(words[8]) if described and len(words) == 9 else 1.0
    spared = truth and (confidence == 0 or label in _DISTRACTING)
    empty = width <= 0 or height <= 0
    flags = OCCLUDED * (0 <= seen < _HALF_SEEN) | IGNORE * (spared or empty)
    x, y = left - 1, top - 1
    return frame, [x, y, x + width, y + height], label, max(track, NO_TRACK), flags, confidence


def _whole(word: str) -> int:
    """A whole number, also one that was written as 3.0. Raises ValueError."""
    value = float(word)
    if value != int(value) or abs(value) > 2**53:
        raise ValueError(f"{word} is no whole number")
    return int(value)
