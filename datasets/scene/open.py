"""One way to any scene: what lies at a place decides which reader takes it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from retain.datasets.scene.base import Scene
from retain.pipeline.catalog import Catalog, load_class
from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest
from retain.pipeline.sources.common import check_file, is_url, local_path, text

ROOM = "retain.datasets.scene.room:Room"
FORMATS = Catalog(
    "scene format",
    {
        "7-scenes": "retain.datasets.scene.sevenscenes:SevenScenes",
    },
)
"""Readers in the order in which they are asked. Each says with ``recognises(folder)`` whether a
folder is its own, and in ``KEYS`` by which names it goes."""


def recognise(where: str) -> str:
    """The name of the format at ``where``: one of ``FORMATS``, ``room``, or ``""`` for what is no
    scene (a video, pictures without anything beside them, a camera, an address)."""
    where = text("source", where)
    if is_url(where):
        return "room" if where.startswith("room:") else ""
    path = local_path(where)
    if not path.is_dir():
        return ""
    return _format_of(path)


def open_scene(where: str, *, width: int = 0, height: int = 0) -> Scene:
    """The scene at ``where``: a folder of a known format, or ``room://?seed=3&frames=200``.

    width, height   working size; one of them 0: as the pictures' shape asks; both: as stored

    Raises SourceError for what is missing or of no known format, with what was looked for, and
    UsageError for an address that makes no sense.
    """
    name = recognise(where)
    if name == "room":
        return _room(where, width, height)
    path = local_path(where)
    if name:
        scene: Scene = FORMATS.load(name)(path, size=(width, height))
        return scene
    check_exists(path)
    raise _unknown(path)


def check_exists(path: Path) -> None:
    """Raise SourceError, with the nearest name, when there is nothing at ``path``."""
    if not path.exists():
        check_file(path)


def _format_of(folder: Path) -> str:
    try:
        return next((n for n in FORMATS if FORMATS.load(n).recognises(folder)), "")
    except PermissionError:
        raise SourceError(
            SourceFault.DENIED, f"You may not list the folder {str(folder)!r}."
        ) from None


def _unknown(path: Path) -> SourceError:
    looked_for = "; ".join(f"{n}: {', '.join(FORMATS.load(n).KEYS)}" for n in FORMATS)
    return SourceError(
        SourceFault.NOT_VIDEO,
        f"{str(path)!r} is no scene of a known format. Looked for {looked_for}.",
        hint=_nearest_fit(path),
    )


def _nearest_fit(path: Path) -> str:
    """The scene one level down or up if there is one, else the format with most of its names."""
    inner = path.is_dir() and sorted(entry for entry in path.iterdir() if entry.is_dir())
    below = [(entry, found) for entry in inner or () if (found := _format_of(entry))]
    if below:
        names = ", ".join(repr(str(entry)) for entry, _ in below[:4])
        return f"Give the folder inside it that is one ({below[0][1]}): {names}."
    if path.is_dir() and (found := _format_of(path.parent)):
        return f"The folder above it, {str(path.parent)!r}, is one ({found})."
    there = {n: _present(path, FORMATS.load(n).KEYS) for n in FORMATS}
    best = max(there, key=lambda name: len(there[name]))
    if not there[best]:
        return ""
    keys: Sequence[str] = FORMATS.load(best).KEYS
    lacking = ", ".join(key for key in keys if key not in there[best])
    return f"It looks most like {best} ({', '.join(there[best])}) but lacks {lacking}."


def _present(folder: Path, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if next(folder.glob(key), None) is not None]


def _room(where: str, width: int, height: int) -> Scene:
    """The generated room that an address asks for."""
    made = load_class(ROOM)
    known = inspect.signature(made).parameters
    options: dict[str, Any] = {}
    for key, value in parse_qsl(urlsplit(where).query, keep_blank_values=True):
        if key not in known:
            raise UsageError(f"Rooms have no option {key!r}.", hint=nearest(key, known))
        options[key] = _value(value)
    if width:
        options["width"] = width
    if height:
        options["height"] = height
    scene: Scene = made(**options)
    return scene


def _value(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
