"""One way to any scene: what lies at a place decides which reader takes it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from retain.datasets.scene.base import Scene
from retain.datasets.scene.video import FIELD, Numbers, PlainPictures, VideoScene
from retain.pipeline.catalog import Catalog, load_class
from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest
from retain.pipeline.redact import redact
from retain.pipeline.sources.any import describe
from retain.pipeline.sources.common import is_url, local_path, text
from retain.pipeline.sources.images import list_images

ROOM = "retain.datasets.scene.room:Room"
FORMATS = Catalog(
    "scene format",
    {
        "tum": "retain.datasets.scene.tum:TumRgbd",
        "rgbd": "retain.datasets.scene.rgbd:RgbdFolder",
        "7-scenes": "retain.datasets.scene.sevenscenes:SevenScenes",
        "replica": "retain.datasets.scene.replica:Replica",
        "scannet": "retain.datasets.scene.scannet:ScanNet",
        "nerfstudio": "retain.datasets.scene.nerfstudio:Nerfstudio",
        "colmap": "retain.datasets.scene.colmap:Colmap",
        "llff": "retain.datasets.scene.llff:Llff",
        "realestate10k": "retain.datasets.scene.realestate:RealEstate",
    },
)
"""Readers in the order in which they are asked. Each says with ``recognises(path)`` whether a place
is its own, and in ``KEYS`` by which names it goes."""


def recognise(where: str) -> str:
    """The name of the format at ``where``: one of ``FORMATS``, ``room``, or ``""`` for what is no
    scene (a video, pictures with nothing beside them, a camera, an address)."""
    where = text("source", where)
    if is_url(where):
        return "room" if where.startswith("room:") else ""
    return _format_of(local_path(where))


def open_scene(
    where: str,
    *,
    width: int = 0,
    height: int = 0,
    camera: Numbers | None = None,
    field: float = FIELD,
) -> Scene:
    """The scene at ``where``: a folder of a known format, ``room://?seed=3&frames=200``, a video
    file or plain pictures.

    width, height   working size; one of them 0: as the pictures' shape asks; both: as stored
    camera, field   of videos and plain pictures, as in VideoScene

    Raises SourceError for what is missing or of no known format, with what was looked for, and
    UsageError for an address that makes no sense.
    """
    name, size = recognise(where), (width, height)
    if name == "room":
        return _room(where, width, height)
    if name:
        scene: Scene = FORMATS.load(name)(local_path(where), size=size)
        return scene
    kind = plain(where)
    if kind == "video" and not is_url(where):
        return VideoScene(local_path(where), size, camera, field)
    if kind == "images":
        return PlainPictures(where, size, camera, field)
    raise UsageError(
        f"{redact(where)!r} can be played, but not opened as a scene: its pictures come once, in "
        "order.",
        hint="Record it first, or give a file.",
    )


def plain(where: str) -> str:
    """What kind of pipeline source ``where`` is. Raises SourceError for a folder without pictures,
    with the scenes that were looked for in it."""
    kind = describe(where)
    path = local_path(where)
    if kind == "images" and path.is_dir():
        try:
            list_images(where)
        except SourceError as error:
            raise _unknown(path) if error.fault is SourceFault.EMPTY else error from None
    return kind


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
    options: dict[str, Any] = {"seed": 0}
    for key, value in parse_qsl(urlsplit(where).query, keep_blank_values=True):
        if key not in known:
            raise UsageError(f"Rooms have no option {key!r}.", hint=nearest(key, known))
        options[key] = _value(key, value, str(known[key].annotation))
    if width or height:
        options["width"] = width or round(height * 4 / 3)
        options["height"] = height or round(width * 3 / 4)
    scene: Scene = made(**options)
    return scene


def _value(key: str, word: str, annotation: str) -> object:
    """As ``Room`` takes it. ``covered`` is a span of frames, ``40-60``."""
    try:
        if key == "covered":
            first, _, last = word.partition("-")
            return range(int(first), int(last or first) + 1)
        if annotation == "bool":
            return {"0": False, "1": True, "false": False, "true": True}[word.lower()]
        return int(word) if annotation == "int" else float(word) if annotation == "float" else word
    except (ValueError, KeyError):
        kind = {"bool": "0 or 1", "Container[int]": "a span like 40-60"}.get(annotation, "a number")
        raise UsageError(f"The room's {key} is {kind}, not {word!r}.") from None
