"""Whether a file is cut off or something else than its name says, from its first and last bytes.

No pixels are decoded: a file that passes can still be damaged in between.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from retain.datasets.doctor.base import Finding, spread
from retain.datasets.doctor.tree import Folder
from retain.pipeline.sources.common import IMAGE_SUFFIXES, sniff

HEAD, TAIL = 512, 4096
LOOKED = 10_000
"""Files of a data set that are opened; each costs a few system calls, more over a network."""
_MOST_BOXES = 4096


def fault(path: Path) -> str:
    """What is wrong with a file, in words that follow its name; ``""`` for nothing."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not size:
                return "is empty"
            head = file.read(HEAD)
            check = next((c for end, c in _CHECKS.items() if path.name.lower().endswith(end)), None)
            return check(file, head, size) if check is not None else ""
    except (OSError, ValueError, OverflowError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def look_into(finding: Finding, files: Sequence[tuple[Folder, str]], name: str = "files") -> None:
    """A line for each way in which files are faulty, or one that none is.

    Empty files are all known; into the rest, LOOKED of them evenly chosen are looked.
    """
    found: dict[str, list[str]] = {}
    for folder, one in files:
        if one in folder.empty:
            found.setdefault("is empty", []).append(_called(finding, folder, one))
    chosen = spread(files, LOOKED)
    for folder, one in chosen:
        if one not in folder.empty and (why := fault(folder.path / one)):
            found.setdefault(why, []).append(_called(finding, folder, one))
    for why, names in found.items():
        finding.add(name, "broken", f"{len(names):,} × {why}", names, "Get them again.")
    if files and not found:
        part = f"; looked into {len(chosen):,} of them" if len(chosen) < len(files) else ""
        finding.add(name, "ok", f"{len(files):,}, none empty or cut off{part}")


def _called(finding: Finding, folder: Folder, name: str) -> str:
    """A file's name from the data set's folder on."""
    path = folder.path / name
    return str(path.relative_to(finding.root)) if path.is_relative_to(finding.root) else name


def _jpeg(file: BinaryIO, head: bytes, size: int) -> str:
    if not head.startswith(b"\xff\xd8"):
        return _other(head, "JPEG")
    # The mark of the end occurs nowhere else near it: data after 0xff is always escaped.
    return "" if b"\xff\xd9" in _tail(file, size) else "is cut off"


def _png(file: BinaryIO, head: bytes, size: int) -> str:
    if not head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _other(head, "PNG")
    return "" if b"IEND" in _tail(file, size) else "is cut off"


def _avi(file: BinaryIO, head: bytes, size: int) -> str:
    if head[:4] != b"RIFF" or head[8:12] != b"AVI ":
        return _other(head, "AVI")
    promised = int(struct.unpack_from("<I", head, 4)[0])
    if not promised:
        return "was never finished"
    return "is cut off" if promised + 8 > size else ""


def _mp4(file: BinaryIO, head: bytes, size: int) -> str:
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"):
        return _other(head, "MP4")
    at, kinds = 0, set()
    for _ in range(_MOST_BOXES):
        file.seek(at)
        box = file.read(16)
        if len(box) < 8:
            break
        length = int(struct.unpack_from(">I", box)[0])
        kinds.add(box[4:8])
        if length == 1 and len(box) == 16:
            length = int(struct.unpack_from(">Q", box, 8)[0])
        elif length == 0:
            length = size - at
        if length < 8 or at + length > size:
            return "is cut off"
        at += length
    return "" if kinds & {b"moov", b"moof"} else "was never finished"


def _matroska(file: BinaryIO, head: bytes, size: int) -> str:
    return "" if head.startswith(b"\x1aE\xdf\xa3") else _other(head, "Matroska")


def _gzip(file: BinaryIO, head: bytes, size: int) -> str:
    """A NIfTI file says how long it is unpacked, and so does the end of what it is packed in."""
    if not head.startswith(b"\x1f\x8b"):
        return _other(head, "gzip")
    try:
        inner = zlib.decompressobj(31).decompress(head, 352)
    except zlib.error:
        return "is damaged"
    if len(inner) < 112 or struct.unpack_from("<i", inner)[0] != 348:
        return ""
    sides = struct.unpack_from("<8h", inner, 40)
    start = int(struct.unpack_from("<f", inner, 108)[0]) if len(inner) >= 112 else 352
    pixels = struct.unpack_from("<h", inner, 72)[0] // 8
    for side in sides[1 : 1 + max(0, min(sides[0], 7))]:
        pixels *= max(1, side)
    told = int(struct.unpack("<I", _tail(file, size)[-4:])[0])
    return "" if told == (start + pixels) % 2**32 else "is cut off"


def _dicom(file: BinaryIO, head: bytes, size: int) -> str:
    return "" if head[128:132] == b"DICM" else _other(head, "DICOM")


def _numpy(file: BinaryIO, head: bytes, size: int) -> str:
    return "" if head.startswith(b"\x93NUMPY") else _other(head, "NumPy file")


def _picture(file: BinaryIO, head: bytes, size: int) -> str:
    return "" if sniff(head) in ("image", "") else _other(head, "picture")


def _tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(0, size - TAIL))
    return file.read(TAIL)


def _other(head: bytes, wanted: str) -> str:
    """What it is instead: most often a page that says why nothing was downloaded."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "is a web page, not what was to be downloaded"
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the file"
    return f"is no {wanted}"


_CHECKS: dict[str, Callable[[BinaryIO, bytes, int], str]] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
    ".avi": _avi,
    ".mp4": _mp4,
    ".m4v": _mp4,
    ".mov": _mp4,
    ".mkv": _matroska,
    ".webm": _matroska,
    ".nii.gz": _gzip,
    ".dcm": _dicom,
    ".npy": _numpy,
    **dict.fromkeys(sorted(IMAGE_SUFFIXES - {".jpg", ".jpeg", ".png"}), _picture),
}
