"""What a batch is given (list, folder, pattern, shards), as items in a fixed order."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retain.pipeline.errors import UsageError
from retain.pipeline.redact import redact
from retain.pipeline.sources.stored import member_place

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
    """One source. ``size`` bytes and ``mtime_ns`` stand for its content; of a folder, those
    of all files below it and the newest time; of a member of a shard, its size and the shard's
    time; of what is on a server, ABSENT and a digest of what the server says of it."""

    key: str
    """How the list names it; unique in a batch."""
    path: str
    """What is opened: absolute, or an address."""
    size: int
    mtime_ns: int


def identity(key: str) -> str:
    """A file name for the item ``key``: readable, and different for different keys.

    >>> identity("ward 3/clip.avi")
    'clip-557d07e3df8648f4'
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(key.partition("?")[0]).stem).strip("-.")[:48]
    return f"{stem or 'item'}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def look(path: str) -> tuple[int, int]:
    """(size, mtime_ns) of what is at ``path``; (ABSENT, 0) for what cannot be seen."""
    if "://" in path:
        return ABSENT, 0
    if member_place(path) is not None:
        from retain.apps.batch.stores import look_in

        return look_in(path)
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return _within(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return ABSENT, 0
    return found.st_size, found.st_mtime_ns


def _within(folder: str) -> tuple[int, int]:
    """Bytes of all files below ``folder``, results left out, and the time of the newest."""
    nbytes = newest = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            more, time_ns = (0, 0) if is_result(Path(entry.path)) else _within(entry.path)
        else:
            found = entry.stat(follow_symlinks=entry.is_file())
            more, time_ns = found.st_size, found.st_mtime_ns
        nbytes, newest = nbytes + more, max(newest, time_ns)
    return nbytes, newest


def list_items(given: str, *, scenes: bool = False) -> tuple[list[Item], int]:
    """The items of ``given`` in the order of the list, or sorted, and how many lines named one
    that was named before.

    A text file (one path a line, ``#`` begins a remark), a table with a column of COLUMNS or JSON
    lines is a list; its relative paths are relative to its folder. Of a folder: every video below
    it and every folder of pictures; with ``scenes`` every folder directly in it instead of those
    of pictures. Anything with ``*``, ``?`` or ``[``: what it matches. A tar shard, wherever it is
    named, stands for the clips in it (``stores.py``), and ``{000..127}`` for numbers in the name of
    one. Raises UsageError when there is nothing, SourceError when a server does not answer.
    """
    from retain.apps.batch.stores import braces, is_shard, is_store

    place = Path(given).expanduser()
    there = os.path.exists(place)  # unlike Path's, it does not mind what can be no name
    if there and place.is_dir():
        root, keys = place, list(_in_folder(place, scenes))
    elif there and place.is_file() and place.suffix.lower() in LIST_SUFFIXES:
        root, keys = place.parent, list(_in_list(place))
    elif is_store(given) or (is_shard(given) and not glob.has_magic(given)):
        root, keys = Path(), braces(given)
    elif not there and glob.has_magic(given):
        found = sorted(glob.glob(str(place), recursive=True))
        folders = {parent for key in found for parent in Path(key).parents}
        made = {folder for folder in folders if is_result(folder)}
        root, keys = Path(), [key for key in found if made.isdisjoint(Path(key).parents)]
    else:
        raise UsageError(
            f"{given!r} is no list, folder or pattern{'' if there else ': nothing is there'}.",
            hint=f"A list is a file ending in {', '.join(sorted(LIST_SUFFIXES))}; patterns are "
            "quoted: 'clips/*.avi', 'clips-{000..127}.tar'.",
        )
    base = os.path.abspath(root)
    items: dict[str, Item] = {}
    named = 0
    for item in (item for key in keys for item in _items(key, base)):
        member = member_place(item.path)
        one = f"{member.shard}::{member.name}" if member else item.path or item.key
        items.setdefault(one, item)
        named += 1
    if not items:
        raise UsageError(f"{redact(given)!r} names nothing to work on.")
    return [*items.values()], named - len(items)


def _items(key: str, base: str) -> Iterator[Item]:
    """What a line of a list stands for."""
    from retain.apps.batch.stores import (
        braces,
        check_public,
        is_shard,
        is_store,
        of_shard,
        of_store,
    )

    if "://" in key:
        check_public(key)
    path = key if "://" in key else os.path.join(base, os.path.expanduser(key))
    if "://" not in key and ("/./" in path or "//" in path) and "/../" not in path:
        path = os.path.normpath(path)  # ./a.mp4 and a.mp4 are one item
    if not path.isascii() and path.encode("utf-8", "replace").decode() != path:  # bytes of old days
        yield Item(key.encode("utf-8", "backslashreplace").decode(), "", ABSENT, 0)
        return
    if ("://" not in key and ".tar" not in key.lower()) or member_place(key) is not None:
        yield Item(key, path, *look(path))
    elif "{" in key and (is_shard(key) or is_store(key)) and braces(key) != [key]:
        for one in braces(key):
            yield from _items(one, base)
    elif is_shard(key) and not (is_store(key) and glob.has_magic(key)):
        yield from of_shard(key, path)
    elif is_store(key):
        yield from of_store(key)
    else:
        yield Item(key, path, *look(path))


def _in_folder(root: Path, scenes: bool) -> Iterator[str]:
    """Links to folders are followed, but no folder is entered twice. Results are left out (the
    films in them are no clips); a folder that may not be read is an item, so that it is told."""
    denied: list[str] = []
    entered: set[str] = set()
    for folder, below, files in os.walk(
        root, followlinks=True, onerror=lambda error: denied.append(error.filename)
    ):
        real = os.path.realpath(folder)
        known = real in entered
        entered.add(real)
        if known or (folder != str(root) and is_result(Path(folder))):
            below.clear()
            continue
        below[:] = [name for name in below if not name.startswith(".")]
        below.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        shown = sorted(name for name in files if not name.startswith("."))
        here = os.path.relpath(folder, root)
        if scenes and here != ".":
            below.clear()
            yield here
            continue
        videos = [name for name in shown if _suffix(name) in (*VIDEO_SUFFIXES, ".tar")]
        yield from (os.path.normpath(os.path.join(here, name)) for name in videos)
        if not scenes and not videos and any(_suffix(name) in PICTURE_SUFFIXES for name in shown):
            yield here
    yield from (os.path.relpath(folder, root) for folder in denied)


def is_result(folder: Path) -> bool:
    """Whether a batch, or a single command, has written ``folder``."""
    batch = (folder / "manifest.sqlite").exists() and (folder / "items").exists()
    return batch or all((folder / name).exists() for name in ("summary.json", "report.html"))


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
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"The list {str(path)!r} cannot be read: {error}.") from error


def _in_table(text: str, path: Path) -> Iterator[str]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
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
