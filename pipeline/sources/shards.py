"""Tar shards as WebDataset writes them: the files of a sample lie side by side and share a name.

A shard is never unpacked: its headers tell where a member lies, and that much is read in place.
Nothing follows a member's name, so one that leads elsewhere harms nobody; it is refused all the
same, as is what has no bytes of its own (folders, links, files with holes).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from retain.pipeline.errors import SourceError, SourceFault, nearest
from retain.pipeline.sources.blocks import BLOCK, KEPT, Blob, Window

HEADERS = 1 << 16
"""Bytes asked for at once while only headers matter."""
MOST = 1 << 20
"""Bytes: no honest header and no description of a sample is longer."""
FOLDER = "is a folder"
_KINDS = {
    **dict.fromkeys((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE), ""),
    tarfile.DIRTYPE: FOLDER,
    **dict.fromkeys((tarfile.SYMTYPE, tarfile.LNKTYPE), "is a link to another file"),
    tarfile.GNUTYPE_SPARSE: "is stored with holes, which are not read in place",
}


@dataclass(frozen=True, slots=True)
class Member:
    """What one header of a shard says. ``trouble``: why it is not read, as "is a folder"."""

    name: str
    at: int
    """Where its header begins."""
    start: int
    """Where its bytes begin."""
    size: int
    trouble: str = ""

    @property
    def sample(self) -> str:
        return sample_of(self.name)


def sample_of(name: str) -> str:
    """What the files of a sample have in common: the path up to the first dot of the name.

    >>> sample_of("./ward.3/000123.left.mp4"), sample_of("000123.json")
    ('./ward.3/000123', '000123')
    """
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def members(window: Window) -> Iterator[Member]:
    """What a shard holds, in order, from the header on with which ``window`` begins. Raises
    SourceError where the shard is damaged, after all that lies before."""
    name, end = window.blob.name, window.start + window.size
    file: Any = window
    try:
        with tarfile.open(fileobj=file, mode="r:") as opened:
            shard: Any = opened
            while (found := shard.next()) is not None:
                member = _member(found, window.start)
                if not member.start <= member.start + member.size <= end:
                    raise _cut(name, f"it ends within {member.name!r}")
                yield member
                shard.members.clear()  # else it keeps them all
            window.seek(shard.offset)
            mark = window.read(tarfile.BLOCKSIZE)
    except SourceError:
        raise
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        if window.fault is not None:
            raise window.fault from None
        if window.start == 0 and window.head(262)[257:] != b"ustar":
            raise SourceError(
                SourceFault.NOT_VIDEO,
                f"{name!r} is not a tar archive that can be read in place.",
                hint="Compressed ones cannot: unpack them to .tar first.",
            ) from None
        raise _cut(name, f"a header cannot be read ({type(error).__name__})") from None
    if not mark or any(mark):
        raise _cut(name, "a header cannot be read" if mark else "it has no mark of its end")


def _member(found: tarfile.TarInfo, base: int) -> Member:
    trouble = _KINDS.get(found.type, "is no regular file")
    if found.sparse is not None:
        trouble = _KINDS[tarfile.GNUTYPE_SPARSE]
    elif not trouble and (found.name.startswith("/") or ".." in found.name.split("/")):
        trouble = "has a name that leads out of the shard"
    size = found.size if not trouble else 0
    return Member(found.name, base + found.offset, base + found.offset_data, size, trouble)


def _cut(name: str, why: str) -> SourceError:
    return SourceError(
        SourceFault.BROKEN,
        f"The shard {name!r} is damaged: {why}.",
        hint="The copy or the writer was probably broken off; get or write it again.",
    )


def look_up(window: Window, name: str, one: bool) -> tuple[Member, Member | None]:
    """The member ``name`` and the description (``.json``) of its sample, if it has one.

    one   whether ``window`` begins with the sample that holds it: then no other is looked at

    Raises SourceError when there is no such member, when there are two, or it is no file.
    """
    seen: list[Member] = []
    damage: SourceError | None = None
    try:
        for member in members(window):
            if one and seen and member.sample != seen[0].sample:
                break
            seen.append(member)
    except SourceError as error:
        damage = error  # what lies before it is whole
    found = [member for member in seen if member.name == name]
    if not found and damage is not None:
        raise damage
    _check(found, name, window.blob.name, seen)
    described = f"{found[0].sample}.json"
    return found[0], next((m for m in seen if m.name == described and not m.trouble), None)


def _check(found: list[Member], name: str, shard: str, seen: list[Member]) -> None:
    if not found:
        raise SourceError(
            SourceFault.NOT_FOUND,
            f"The shard {shard!r} has no member {name!r}.",
            hint=nearest(name, [member.name for member in seen if not member.trouble][:20]),
        )
    if len(found) > 1:
        raise SourceError(
            SourceFault.BROKEN,
            f"The shard {shard!r} has {name!r} {len(found)} times; which is meant is not known.",
        )
    if found[0].trouble:
        raise SourceError(SourceFault.NOT_VIDEO, f"{shard}::{name} {found[0].trouble}.")
    if not found[0].size:
        raise SourceError(SourceFault.EMPTY, f"{shard}::{name} is empty (0 bytes).")


def open_member(blob: Blob, name: str, at: int | None = None) -> Window:
    """The bytes of the member ``name`` as a file, which owns ``blob`` from then on. ``at``: where
    the first header of its sample lies, for those who know. Raises SourceError as ``look_up``."""
    window, member, _ = _looked(blob, name, at)
    window.narrowed(member.start - window.start, member.size)
    return window


def description(blob: Blob, name: str, at: int | None = None) -> Any:
    """What the sample's ``.json`` says; None when there is none, it is no JSON or over 1 MiB."""
    window, _, described = _looked(blob, name, at)
    if described is None or described.size > MOST:
        return None
    window.narrowed(described.start - window.start, described.size)
    try:
        return json.loads(window.read())
    except ValueError:
        return None


def _looked(blob: Blob, name: str, at: int | None) -> tuple[Window, Member, Member | None]:
    block, keep = (HEADERS, 4) if at is None else (BLOCK, KEPT)
    window = Window(blob, at or 0, max(0, blob.size - (at or 0)), block, keep, MOST)
    return window, *look_up(window, name, at is not None)
