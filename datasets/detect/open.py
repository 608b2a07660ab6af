"""One way to any videos with boxes: what lies at a place decides which reader takes it."""

from __future__ import annotations

import inspect
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from retain.datasets.detect.base import Clips
from retain.pipeline.catalog import Catalog
from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest
from retain.pipeline.sources.common import local_path, text

OBJECTS = "objects"
FORMATS = Catalog(
    "format of videos with boxes",
    {
        "coco-vid": "retain.datasets.detect.coco:CocoVid",
        "davis": "retain.datasets.detect.davis:Davis",
        "imagenet-vid": "retain.datasets.detect.vid:ImageNetVid",
        "mot": "retain.datasets.detect.mot:Mot",
    },
)
"""Readers in the order in which they are asked; each has ``recognises(path)``."""


def open_clips(where: str, **options: object) -> Clips:
    """The clips at ``where``: a COCO-VID ``.json``, a folder of DAVIS, ImageNet VID or MOT, or
    ``objects://?seed=3&clips=20&degraded=strong``.

    options  as the reader takes them; UsageError for others

    Raises SourceError for what is missing or of no known format.
    """
    where = text("source", where)
    if where.startswith(f"{OBJECTS}:"):
        return _objects(where, options)
    path = local_path(where)
    try:
        name = next((name for name in FORMATS if FORMATS.load(name).recognises(path)), "")
    except PermissionError:
        raise SourceError(SourceFault.DENIED, f"You may not list {str(path)!r}.") from None
    if not name:
        fault = SourceFault.NOT_VIDEO if path.exists() else SourceFault.NOT_FOUND
        raise SourceError(
            fault,
            f"{str(path)!r} is no videos with boxes: no .json of COCO-VID, no folder with "
            "JPEGImages and Annotations (DAVIS), Data (ImageNet VID) or gt/gt.txt (MOT).",
            hint="" if path.exists() else "There is no such file or folder.",
        )
    reader = FORMATS.load(name)
    _check(name, reader, options)
    clips: Clips = reader(path, **options)
    return clips


def _objects(where: str, options: dict[str, Any]) -> Clips:
    """The generated set that an address asks for."""
    from retain.datasets.detect.objects import ObjectVideos

    given = dict(parse_qsl(urlsplit(where).query, keep_blank_values=True))
    known = _check(OBJECTS, ObjectVideos, {**given, **options})
    for key, word in given.items():
        kind = str(known[key].annotation)
        try:
            value = int(word) if kind == "int" else float(word) if kind == "float" else word
        except ValueError:
            raise UsageError(f"The objects' {key} is a number, not {word!r}.") from None
        options.setdefault(key, value)
    return ObjectVideos(**options)


def _check(name: str, reader: Any, options: dict[str, Any]) -> dict[str, inspect.Parameter]:
    known = dict(inspect.signature(reader).parameters)
    for key in options:
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}.", hint=nearest(key, known))
    return known
