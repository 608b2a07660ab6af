"""What a batch is given: a list of paths, a folder or a pattern, as items in a fixed order."""

from __future__ import annotations

import csv
import glob
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retain.pipeline.errors import UsageError

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mxf"),
        *(".ogg", ".ogv", ".ts", ".webm", ".wmv", ".dcm", ".dicom", ".retain"),
    )
)
PICTURE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
LIST_SUFFIXES = frozenset((".txt", ".lst", ".csv", ".tsv", ".jsonl"))
COLUMNS = ("path", "source", "file", "video", "clip", "filename", "FileName")
"""Where a table or JSON lines name the item, first found first."""
ABSENT = -1
"""Size of what is not there, or has no size."""


@dataclass(frozen=True, slots=True)
class Item:
    """One source. ``size`` bytes and ``mtime_ns`` stand for its content; of a folder, how many
    entries it has and when one came or went last."""

    key: str
    """How the list names it; unique in a batch."""
    path: str
    """What is opened: absolute, or an address."""
    size: int
    mtime_ns: int


def identity(key: str) -> str:
    """A file name for the item ``key``: readable, and different for different keys.

    >>> identity("ward 3/clip.avi")
    'clip-f6b2e26a10'
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(key.partition("?")[0]).stem).strip("-.")[:48]
    return f"{stem or 'item'}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def look(path: str) -> tuple[int, int]:
    """(size, mtime_ns) of what is at ``path``; (ABSENT, 0) for what cannot be seen."""
    if "://" in path:
        return ABSENT, 0
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return len(os.listdir(path)), found.st_mtime_ns
    except OSError:
        return ABSENT, 0
    return found.st_size, found.st_mtime_ns


def list_items(given: str, *, scenes: bool = False) -> tuple[list[Item], int]:
    """The items of ``given`` in the order of the list, or sorted, and how many lines named one
    that was named before.

    A text file (one path a line, ``#`` begins a remark), a table with a column of COLUMNS or JSON
    lines is a list; its relative paths are relative to its folder. Of a folder: every video below
    it and every folder of pictures; with ``scenes`` every folder directly in it instead of those
    of pictures. Anything with ``*``, ``?`` or ``[``: what it matches. Raises UsageError when there
    is nothing.
    """
    place = Path(given).expanduser()
    if place.is_dir():
        root, keys = place, list(_in_folder(place, scenes))
    elif place.is_file() and place.suffix.lower() in LIST_SUFFIXES:
        root, keys = place.parent, list(_in_list(place))
    elif not place.exists() and glob.has_magic(given):
        root, keys = Path(), sorted(glob.glob(str(place), recursive=True))
    else:
        raise UsageError(
            f"{given!r} is no list, folder or pattern.",
            hint=f"A list is a file ending in {', '.join(sorted(LIST_SUFFIXES))}; patterns are "
            "quoted: 'clips/*.avi'.",
        )
    if not keys:
        raise UsageError(f"{given!r} names nothing to work on.")
    base = os.path.abspath(root)
    items = []
    for key in dict.fromkeys(keys):
        path = key if "://" in key else os.path.join(base, os.path.expanduser(key))
        items.append(Item(key, path, *look(path)))
    return items, len(keys) - len(items)


def _in_folder(root: Path, scenes: bool) -> Iterator[str]:
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        shown = sorted(name for name in files if not name.startswith("."))
        here = os.path.relpath(folder, root)
        if scenes and here != ".":
            below.clear()
            yield here
            continue
        videos = [name for name in shown if _suffix(name) in VIDEO_SUFFIXES]
        yield from (os.path.normpath(os.path.join(here, name)) for name in videos)
        if not scenes and not videos and any(_suffix(name) in PICTURE_SUFFIXES for name in shown):
            yield here


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _in_list(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            match path.suffix.lower():
                case ".csv" | ".tsv":
                    yield from _in_table(file.read(), path)
                case ".jsonl":
                    for number, line in enumerate(file, 1):
                        if line.strip():
                            yield _of_json(line, path, number)
                case _:
                    for line in file:
                        if (text := line.strip()) and not text.startswith("#"):
                            yield text
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list {str(path)!r} cannot be read: {error}.") from error


def _in_table(text: str, path: Path) -> Iterator[str]:
    rows = csv.reader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    head = next(rows, [])
    column = next((head.index(name) for name in COLUMNS if name in head), None)
    if column is None:
        raise UsageError(
            f"The table {str(path)!r} has no column of paths.",
            hint=f"Its first line names the columns; paths are in one of {', '.join(COLUMNS)}.",
        )
    yield from (row[column].strip() for row in rows if len(row) > column and row[column].strip())


def _of_json(line: str, path: Path, number: int) -> str:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UsageError(f"Line {number} of {str(path)!r} is no JSON: {error}.") from error
    if isinstance(found, dict):
        found = next((found[name] for name in COLUMNS if name in found), None)
    if not isinstance(found, str) or not found:
        raise UsageError(
            f"Line {number} of {str(path)!r} names no path.",
            hint=f"Each line is a string, or an object with one of {', '.join(COLUMNS)}.",
        )
    return found
