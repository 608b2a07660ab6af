"""ImageNet VID (Russakovsky et al., IJCV 2015): a folder of JPEGs and one XML a frame per video.

    Data/VID/{train/ILSVRC2015_VID_train_0000,val,test}/<video>/000000.JPEG
    Annotations/VID/...  the same tree, .xml;  DET likewise

Boxes are as written, in whole pixels; evaluators that count xmax as inside add the one themselves.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from retain.datasets.detect.base import (
    GENERATED,
    IGNORE,
    NO_TRACK,
    OCCLUDED,
    Truth,
    truth_of,
)
from retain.datasets.detect.files import UNKNOWN, FileClip, FileClips, check_dimensions, corner
from retain.datasets.scene.pictures import natural, reading, rows_in
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.sources.common import check_file

CLASSES = {
    "airplane": "n02691156",
    "antelope": "n02419796",
    "bear": "n02131653",
    "bicycle": "n02834778",
    "bird": "n01503061",
    "bus": "n02924116",
    "car": "n02958343",
    "cattle": "n02402425",
    "dog": "n02084071",
    "domestic_cat": "n02121808",
    "elephant": "n02503517",
    "fox": "n02118333",
    "giant_panda": "n02510455",
    "hamster": "n02342885",
    "horse": "n02374451",
    "lion": "n02129165",
    "lizard": "n01674464",
    "monkey": "n02484322",
    "motorcycle": "n03790512",
    "rabbit": "n02324045",
    "red_panda": "n02509815",
    "sheep": "n02411705",
    "snake": "n01726692",
    "squirrel": "n02355227",
    "tiger": "n02129604",
    "train": "n04468005",
    "turtle": "n01662784",
    "watercraft": "n04530566",
    "whale": "n02062744",
    "zebra": "n02391049",
}
"""Name and WordNet id, in the order that fixes the labels."""
_PLACES = {wordnet: place for place, wordnet in enumerate(CLASSES.values())}
_ROOTS = ("", "ILSVRC", "ILSVRC2015")
_MOST_BYTES = 4 << 20
"""Of an XML file; real ones have a few thousand."""


class ImageNetVid(FileClips):
    """The videos of a split, or those that a list names.

    root   the folder with ``Data`` and ``Annotations``, or the one that holds it (as ``ILSVRC`` or
           ``ILSVRC2015``)
    split  ``train``, ``val`` or ``test`` (no labels), when there is no ``listed``
    listed a text file with one of the forms in use:
           ``video/frame number`` (the official lists; the number is a running one);
           ``video 1 frame length`` with frame from 1 (the 15 frames per training video);
           ``video start 0 length`` (whole videos);  ``DET/picture 1`` (stills, without tracks)
    rate   frames per second, which the files do not tell

    Objects of other classes, as in DET, are left out. A box without area keeps its row, flagged
    IGNORE. Raises SourceError for files that are no such data set.
    """

    def __init__(
        self, root: str | Path, split: str = "val", listed: str | Path = "", rate: float = 25.0
    ) -> None:
        root = _root(Path(root))
        if split not in ("train", "val", "test"):
            raise UsageError(f"split is train, val or test, not {split!r}.")
        path = Path(listed) if str(listed) else None
        chosen = _walked(root, split) if path is None else _listed(path, root, split)
        found = [one for one in chosen.values() if (root / "Data" / one.folder).is_dir()]
        notes = []
        if len(found) < len(chosen):
            notes.append(f"{len(chosen) - len(found)} of {len(chosen)} videos are not there.")
        clips = [_clip(root, one, rate) for one in found]
        what = f"ImageNet VID {split if path is None else path.name}"
        super().__init__(what, tuple(CLASSES), [clip for clip in clips if len(clip)], notes)

    @staticmethod
    def recognises(path: Path) -> bool:
        return any((path / name / "Data").is_dir() for name in _ROOTS)


def _root(given: Path) -> Path:
    for name in _ROOTS:
        if (given / name / "Data").is_dir():
            return given / name
    raise SourceError(
        SourceFault.NOT_FOUND,
        f"{str(given)!r} holds no ImageNet VID: no folder 'Data', no 'ILSVRC/Data'.",
    )


@dataclass(slots=True)
class _Chosen:
    folder: Path
    """Below Data and Annotations."""
    frames: list[str] = field(default_factory=list)
    """Names without their endings; none: all that are there."""


def _walked(root: Path, split: str) -> dict[str, _Chosen]:
    top = root / "Data" / "VID" / split
    folders = {path.parent for path in top.rglob("*.JPEG")} if top.is_dir() else set()
    ordered = sorted(folders, key=lambda path: natural(str(path)))
    return {str(path): _Chosen(path.relative_to(root / "Data")) for path in ordered}


def _listed(path: Path, root: Path, split: str) -> dict[str, _Chosen]:
    chosen: dict[str, _Chosen] = {}
    for row in rows_in(path):
        with reading(path):
            if len(row) not in (1, 2, 4):
                raise ValueError(f"{' '.join(row)!r} has {len(row)} words, not 2 or 4")
            whole = Path(row[0])
            if whole.is_absolute() or ".." in whole.parts:
                raise ValueError(f"{row[0]!r} is no place inside the data set")
            if len(row) < 4:
                folder, frames = whole.parent, [whole.name]
            else:
                folder, frames = whole, _numbered(int(row[2]), int(row[3]))
        folder = _below(root, split, folder)
        key = f"{folder}/{frames[0]}" if folder.parts[0] == "DET" else str(folder)
        chosen.setdefault(key, _Chosen(folder)).frames.extend(frames)
    return chosen


def _numbered(frame: int, length: int) -> list[str]:
    """Frame 0 stands for the whole video; others count from 1, files from 0."""
    if not 0 <= frame <= length <= 10_000_000:
        raise ValueError(f"frame {frame} of {length} does not exist")
    return [f"{k:06d}" for k in ([frame - 1] if frame else range(length))]


def _below(root: Path, split: str, folder: Path) -> Path:
    """Where a list's folder is: lists give it with or without the split, and do not say which of
    the two data sets they mean."""
    ways = (Path("VID") / folder, Path("VID") / split / folder, Path("DET") / folder)
    return next((way for way in ways if (root / "Data" / way).is_dir()), ways[0])


def _clip(root: Path, chosen: _Chosen, rate: float) -> FileClip:
    pictures, labels = root / "Data" / chosen.folder, root / "Annotations" / chosen.folder
    frames = chosen.frames or sorted((p.stem for p in pictures.glob("*.JPEG")), key=natural)
    still = chosen.folder.parts[0] == "DET"
    labelled = labels.is_dir()

    def known(index: int) -> Truth:
        if not labelled:
            return truth_of(UNKNOWN, labelled=False)
        return read_xml(labels / f"{frames[index]}.xml")

    return FileClip(
        f"{chosen.folder.name}/{frames[0]}" if still else chosen.folder.name,
        tuple(CLASSES),
        [pictures / f"{frame}.JPEG" for frame in frames],
        known,
        rate=rate,
        notes=() if labelled else ("It has no labels.",),
        numbers=_numbers_of(frames),
    )


def _numbers_of(frames: Sequence[str]) -> Sequence[int] | None:
    """The frames' own numbers, where their names are such, and rise."""
    if not all(frame.isascii() and frame.isdigit() for frame in frames):
        return None
    numbers = [int(frame) for frame in frames]
    return numbers if all(a < b for a, b in pairwise(numbers)) else None


def read_xml(path: Path, places: Mapping[str, int] = _PLACES) -> Truth:
    """One frame's labels; ``places`` gives the label of each class by the name in the file.

    Raises SourceError for a file that is missing or broken.
    """
    check_file(path)
    with reading(path):
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("larger than labels of a frame can be")
        try:
            top = ET.fromstring(path.read_bytes())
        except ET.ParseError as error:
            raise ValueError(str(error)) from error
        size = check_dimensions(_text(top, "size/width"), _text(top, "size/height"))
        found = [one for one in top.iter("object") if _text(one, "name") in places]
        boxes = [[corner(_text(one, f"bndbox/{c}")) for c in _CORNERS] for one in found]
        return truth_of(
            size,
            boxes,
            [places[_text(one, "name")] for one in found],
            [int(one.findtext("trackid", str(NO_TRACK))) for one in found],
            [_flags(one, box) for one, box in zip(found, boxes, strict=True)],
        )


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _text(node: ET.Element, path: str) -> str:
    text = node.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text.strip()


def _flags(one: ET.Element, box: Sequence[float]) -> int:
    empty = box[2] <= box[0] or box[3] <= box[1]
    return (
        OCCLUDED * (one.findtext("occluded", "0").strip() == "1")
        | GENERATED * (one.findtext("generated", "0").strip() == "1")
        | IGNORE * empty
    )
