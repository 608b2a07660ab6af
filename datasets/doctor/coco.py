"""COCO's JSON, with videos or without: are its pictures there?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from retain.datasets.detect.coco import CocoVid
from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Finding, State, counted
from retain.datasets.doctor.heads import look_into
from retain.datasets.doctor.tree import Folder
from retain.pipeline.errors import RetainError

MOST_BYTES = 256 << 20
"""Of a JSON file that is read; larger ones are only named."""
_KEYS = (b'"images"', b'"annotations"', b'"categories"')
_EDGE = 1 << 16
_TRIED = 50
"""Names by which the folder of the pictures is found."""


def coco(folder: Folder) -> Finding | None:
    """JSON files with pictures and classes tell it, here or in ``annotations``."""
    homes = [one for one in (folder, folder.below.get("annotations")) if one is not None]
    files = [(home, name) for home in homes for name in home.ending(".json") if _looks(home, name)]
    if not files:
        return None
    finding, pictures = Finding(kits.COCO, folder.path), list[tuple[Folder, str]]()
    for home, name in files:
        pictures += _annotation(finding, folder, home, name)
    finding.items = len(pictures)
    unique = {(str(inner.path), name): (inner, name) for inner, name in pictures}
    look_into(finding, list(unique.values()))
    if pictures:
        finding.suggest("detect", pictures[0][0].path)
    return finding


def _looks(home: Folder, name: str) -> bool:
    """Whether two of COCO's keys stand near the beginning or the end of a file."""
    try:
        with (home.path / name).open("rb") as file:
            head = file.read(_EDGE)
            file.seek(max(0, file.seek(0, 2) - _EDGE))
            both = head + file.read()
    except OSError:
        return False
    return sum(key in both for key in _KEYS) >= 2


def _annotation(
    finding: Finding, folder: Folder, home: Folder, name: str
) -> list[tuple[Folder, str]]:
    """Lines for one file; the pictures that are there."""
    path = home.path / name
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            finding.add(name, "note", f"{size >> 20:,} MiB: only --deep reads it")
            finding.members.append(path)
            return []
        given = json.loads(path.read_bytes())
        names = list(dict.fromkeys(_names(given)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        finding.add(name, "broken", f"it cannot be read ({type(error).__name__}: {error})")
        return []
    root = _root(folder, home, path, names)
    there, missing = list[tuple[Folder, str]](), list[str]()
    for one in names:
        place, _, last = one.rpartition("/")
        inner = root.at(place) if place else root
        if inner is not None and last in inner.files:
            there.append((inner, last))
        else:
            missing.append(one)
    _tell(finding, path, given, len(names), missing)
    try:
        reader = CocoVid(path, images=root.path)
        finding.members.append(path)
        finding.homes[path] = root.path
        for note in reader.notes:
            finding.add(name, "note", note)
    except RetainError as error:
        finding.add(name, "broken", str(error))
    return there


def _names(given: Any) -> Iterable[str]:
    for video in given.get("videos") or ():
        yield from (str(name) for name in video.get("file_names") or ())
    for image in given.get("images") or ():
        yield str(PurePosixPath(str(image["file_name"])))


def _root(folder: Folder, home: Folder, path: Path, names: list[str]) -> Folder:
    """The folder that the names start from: the one in which most of some of them are."""
    split = path.stem.rpartition("_")[2]
    below = [folder.at(way) for way in ("images", f"images/{split}", split, "JPEGImages", "train",
                                        "val", "valid", "test")]  # fmt: skip
    homes = [home, folder, *(one for one in below if one is not None)]
    step = max(1, len(names) // _TRIED)
    return max(homes, key=lambda one: sum(one.has(name) for name in names[::step]))


def _tell(finding: Finding, path: Path, given: Any, total: int, missing: list[str]) -> None:
    annotations = given.get("annotations")
    boxes = f"{len(annotations):,} annotations" if annotations else "no annotations: a test split"
    videos = f", {len(given['videos']):,} videos" if given.get("videos") else ""
    state: State = "partial" if missing else "ok"
    found = f"{total - len(missing):,} of {counted(total, 'pictures')}{videos}, {boxes}"
    finding.add(path.name, state, found, missing, finding.kit.where if missing else "")
    part = next((part for part in finding.kit.parts if part.name in path.stem), None)
    if part is not None and total < part.items:
        what = f"it lists {total:,} of {part.items:,} published pictures"
        finding.add(path.name, "partial", what)
