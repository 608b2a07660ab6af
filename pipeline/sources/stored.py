"""Files that are not plain files here: members of tar shards, objects in stores.

clips-0003.tar::ward/17.mp4          a member of a shard, which may lie anywhere
s3://bucket/17.mp4, memory://17.mp4  an object in a store (``STORES``)
https://host/17.dcm                  DICOM from a server; its videos are FFmpeg's to read
"""

from __future__ import annotations

import logging
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from retain.pipeline.errors import SourceError
from retain.pipeline.redact import redact
from retain.pipeline.sources.blocks import Blob, LocalBlob, Window
from retain.pipeline.sources.common import DICOM_SUFFIXES, local_path

log = logging.getLogger(__name__)

STORES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **{"hf": "huggingface_hub", "hdfs": "pyarrow", "webhdfs": "requests", "memory": "fsspec"},
}
"""Scheme of an address -> the package that fsspec needs to read it."""
_MEMBER = re.compile(
    r"(?P<shard>.+?\.tar(?:\?[^:]*)?)::(?:@(?P<at>\d{1,18})::)?(?P<name>.+)",
    re.DOTALL | re.IGNORECASE,
)


class Place(NamedTuple):
    """``shard::name``, or ``shard::@at::name`` with the place of its sample's first header."""

    shard: str
    at: int | None
    name: str


def member_place(source: str) -> Place | None:
    """
    >>> member_place("s3://b/clips-0003.tar::17.mp4")
    Place(shard='s3://b/clips-0003.tar', at=None, name='17.mp4')
    """
    found = _MEMBER.fullmatch(source)
    if found is None or ("://" not in source and local_path(source).exists()):
        return None
    return Place(found["shard"], int(found["at"]) if found["at"] else None, found["name"])


def is_stored(source: str) -> bool:
    """Whether ``open_stored`` reads SOURCE. Looks at no more than its words."""
    scheme, found, rest = source.partition("://")
    if member_place(source) is not None or (found and scheme.lower() in STORES):
        return True
    path = rest.partition("?")[0]
    return scheme.lower() in ("http", "https") and suffix(path) in (*DICOM_SUFFIXES, ".tar")


def shown(source: str) -> str:
    """SOURCE for people: without credentials, and without where its sample begins."""
    place = member_place(source)
    return redact(source if place is None else f"{place.shard}::{place.name}")


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def open_blob(address: str, timeout: float = 10.0, spool: bool = True) -> Blob:
    """A whole file, wherever it is. Raises SourceError or UsageError."""
    scheme, found, _ = address.partition("://")
    if found and scheme.lower() != "file":
        from retain.pipeline.sources.remote import open_remote

        return open_remote(address, timeout, spool)
    return LocalBlob(local_path(address))


def open_stored(source: str, timeout: float = 10.0) -> Window:
    """SOURCE as a seekable file. Raises SourceError or UsageError."""
    place = member_place(source)
    blob = open_blob(source if place is None else place.shard, timeout, spool=place is None)
    if place is None:
        return Window(blob, 0, blob.size)
    from retain.pipeline.sources.shards import open_member

    try:
        return open_member(blob, place.name, place.at)
    except BaseException:
        blob.close()
        raise


def description(source: str) -> Any:
    """What a shard says of the sample that SOURCE is a member of: its ``.json``. None when it says
    nothing, or cannot be asked (the log has why)."""
    place = member_place(source)
    if place is None:
        return None
    from retain.pipeline.sources import shards

    try:
        blob = open_blob(place.shard, spool=False)
        try:
            return shards.description(blob, place.name, place.at)
        finally:
            blob.close()
    except SourceError as error:
        log.warning("the description of %s is not known: %s", shown(source), error)
        return None
