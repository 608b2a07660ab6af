"""One source for whatever a person types: the address or the file's content decides."""

from __future__ import annotations

import glob
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from retain.pipeline.catalog import SOURCES
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.redact import redact
from retain.pipeline.sources.blocks import Window
from retain.pipeline.sources.common import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    check_file,
    denied,
    integer,
    is_url,
    local_path,
    number,
    paced,
    sniff,
    text,
)
from retain.pipeline.sources.shards import HEADERS, MOST, members
from retain.pipeline.sources.stored import STORES, is_stored, member_place, open_blob, shown, suffix
from retain.pipeline.stage import Source, SourceInfo, StatValue

Kind = Literal["video", "images", "camera", "dicom", "synthetic", "stdin", "recording", "far"]
SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
_TAKES_TIMEOUT = ("video", "dicom", "camera", "stdin", "far")
_TAKES_RATE = ("images", "stdin")


def describe(source: str) -> Kind:
    """What kind of source SOURCE is; a name in the catalog of sources. Decodes nothing.

    ``-`` lists paths on standard input; ``0`` or ``/dev/video0`` is a camera; an address goes by
    its scheme, what lies in a shard or store by its ending; a folder or a pattern with ``*`` or
    ``?`` holds images; a file goes by its first bytes, then by its ending. Raises SourceError when
    there is no such file, UsageError for a scheme nobody knows and a shard without a member.
    """
    source = text("source", source)
    if source == "-":
        return "stdin"
    if re.fullmatch(r"\d{1,3}|/dev/video\d+", source):
        return "camera"
    if is_stored(source):
        return _stored_kind(source)
    if is_url(source):
        scheme = source.partition("://")[0].lower()
        if scheme == "synthetic":
            return "synthetic"
        if scheme == "far":
            return "far"
        if scheme not in SCHEMES:
            raise UsageError(
                f"No source reads {scheme!r} addresses ({redact(source)!r}).",
                hint=f"Known: far, file, synthetic, {', '.join((*SCHEMES, *STORES))}.",
            )
        return "video"
    path = local_path(source)
    if path.is_dir() or (not path.exists() and glob.has_magic(source)):
        return "images"
    check_file(path)
    if path.suffix.lower() == ".tar":
        raise _names_no_member(source)
    try:
        with path.open("rb") as file:
            head = file.read(192)
    except PermissionError:
        raise denied(path) from None
    if head.startswith(b"retain-record/"):
        return "recording"
    found = sniff(head)
    suffix = path.suffix.lower()
    if found == "dicom" or (not found and suffix in DICOM_SUFFIXES):
        return "dicom"
    if found == "image" or (not found and suffix in IMAGE_SUFFIXES):
        return "images"
    return "video"


def _stored_kind(source: str) -> Kind:
    place = member_place(source)
    ending = suffix(place.name if place else source.partition("?")[0])
    if ending == ".tar":
        raise _names_no_member(source)
    if ending in IMAGE_SUFFIXES:
        raise SourceError(
            SourceFault.NOT_VIDEO,
            f"{shown(source)!r} is a picture; in shards and stores only videos and DICOM are read.",
        )
    return "dicom" if ending in DICOM_SUFFIXES else "video"


def _names_no_member(source: str) -> RetainError:
    """What is wrong with a shard that is given where one clip is wanted."""
    shard = open_blob(source, spool=False)
    try:
        names = [m.name for m in members(Window(shard, 0, shard.size, HEADERS, 4, MOST))]
    finally:
        shard.close()
    clip = next((name for name in names if suffix(name) != ".json"), "clip.mp4")
    return UsageError(
        f"{redact(source)!r} is a shard of {len(names)} files.",
        hint=f"Name one, as {Path(source).name}::{clip}, or give the shard to retain batch.",
    )


class AnySource:
    """Any SOURCE, by ``describe``. Options as in the source it turns out to be.

    timeout, attempts, frozen_s   for addresses and cameras, which come back: as in ComebackSource
    rate     images per second of presentation time, for folders, patterns and lists
    pace     1: frames come when they are due, as if live; 4: four times as fast; 0: at once
             (a live source has a pace of its own)
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        rate: float = 25.0,
        pace: float = 0.0,
        attempts: int = 0,
        frozen_s: float = 30.0,
    ) -> None:
        self.source = text("source", source)
        number("timeout", timeout, 0.1, 3600)
        number("rate", rate, 0.001, 100_000)
        self._pace = number("pace", pace, 0, 1000)
        self._options: dict[str, Any] = {"stream": stream, "fps": fps, "limit": limit}
        self._timeout, self._rate = timeout, rate
        self._comes_back: dict[str, Any] = {
            "attempts": integer("attempts", attempts, 0),
            "frozen_s": number("frozen_s", frozen_s, 0, 86_400),
        }
        self._closed = threading.Event()
        self._inner: Source | None = None

    def open(self) -> SourceInfo:
        kind = describe(self.source)
        options = dict(self._options)
        if kind == "recording":  # it is played as it was recorded: nothing renamed, nothing thinned
            options = {"limit": options["limit"]}
        if kind in _TAKES_TIMEOUT:
            options["timeout"] = self._timeout
        if kind in _TAKES_RATE:
            options["rate"] = self._rate
        if kind == "camera" or (
            kind == "video" and is_url(self.source) and not is_stored(self.source)
        ):
            from retain.pipeline.sources.comeback import ComebackSource

            inner: Source = ComebackSource(self.source, **options, **self._comes_back)
        else:
            inner = SOURCES.load(kind)(self.source, **options)
        self._inner = inner
        if self._closed.is_set():
            inner.close()
        info = inner.open()
        if info.kind == "live":  # it has a pace of its own
            self._pace = 0.0
        return info

    def frames(self) -> Iterator[Frame]:
        if self._inner is None:
            self.open()
        assert self._inner is not None
        frames = self._inner.frames()
        return paced(frames, self._pace, self._closed) if self._pace else frames

    def close(self) -> None:
        self._closed.set()
        if self._inner is not None:
            self._inner.close()

    def stats(self) -> Mapping[str, StatValue]:
        stats = getattr(self._inner, "stats", None)
        return stats() if stats is not None else {}
