"""A seekable file over bytes that are somewhere else: a range at a time, few of them kept."""

from __future__ import annotations

import io
import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.redact import redact
from retain.pipeline.sources.common import check_file

BLOCK = 1 << 20
"""Bytes asked for at once."""
KEPT = 16
"""Blocks held at once: the index of an MP4 at one end, pictures at the other, sound between."""


class Blob(Protocol):
    """Bytes of known length that do not change while they are read.

    name    for people, without credentials
    size    bytes
    stamp   differs when the content has changed: a time in ns, or a digest of an ETag
    """

    name: str
    size: int
    stamp: int

    def fetch(self, start: int, stop: int) -> bytes:
        """Exactly the bytes [start, stop). Raises SourceError."""
        ...

    def close(self) -> None: ...


class LocalBlob:
    """A file of this machine. Raises SourceError as ``check_file``."""

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.name = redact(str(path))
        self._handle = os.open(path, os.O_RDONLY)
        found = os.fstat(self._handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._handle)
            raise SourceError(SourceFault.NOT_VIDEO, f"{self.name!r} is not a regular file.")
        self.size, self.stamp = found.st_size, found.st_mtime_ns

    def fetch(self, start: int, stop: int) -> bytes:
        parts = []
        while start < stop and (part := os.pread(self._handle, stop - start, start)):
            parts.append(part)
            start += len(part)
        if start < stop:
            raise SourceError(
                SourceFault.BROKEN, f"{self.name!r} has become shorter while it was read."
            )
        return b"".join(parts)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


class Window(io.RawIOBase):
    """The bytes [start, start + size) of ``blob`` as a file that only reads, and owns the blob.

    block, keep   bytes asked for at once, and how many such blocks are held: memory never exceeds
                  their product. Blocks begin at ``start``.
    most          largest single read that is granted, until ``narrowed``; 0: any

    ``fault`` is the SourceError that ended reading: libraries that read from a file may swallow
    exceptions, and then it is all that tells a broken connection from a broken file.
    """

    def __init__(
        self, blob: Blob, start: int, size: int, block: int = BLOCK, keep: int = KEPT, most: int = 0
    ) -> None:
        self.blob, self.start, self.size = blob, start, size
        self.fault: SourceError | None = None
        self._block, self._keep, self._most = block, keep, most
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def narrowed(self, start: int, size: int) -> None:
        """Show only [start, start + size) of what was shown, in blocks of the usual size. What is
        held of its first block stays."""
        number, inside = divmod(start, self._block)
        held = self._blocks.get(number, b"")[inside:]
        self._blocks = OrderedDict({0: held} if held else {})
        self.start, self.size, self._at = self.start + start, size, 0
        self._block, self._keep, self._most = BLOCK, KEPT, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if 0 < self._most < size:  # before room is made for it
            raise SourceError(
                SourceFault.BROKEN, f"{self.blob.name!r} has a header of {size:,} bytes."
            )
        return super().read(size) or b""

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._at < self.size:
            number, inside = divmod(self._at, self._block)
            data = self._held(number, inside)
            wanted = min(len(view) - filled, self.size - self._at)
            part = memoryview(data)[inside : inside + wanted]
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def head(self, count: int) -> bytes:
        """The first bytes, wherever reading is."""
        at, self._at = self._at, 0
        try:
            return self.read(count)
        finally:
            self._at = at

    def _held(self, number: int, inside: int) -> bytes:
        """Block ``number``, at least beyond ``inside``."""
        data = self._blocks.pop(number, b"")
        length = min(self._block, self.size - number * self._block)
        if len(data) <= inside:
            first = self.start + number * self._block
            try:
                data += self.blob.fetch(first + len(data), first + length)
            except SourceError as error:
                self.fault = self.fault or error
                raise
        self._blocks[number] = data
        while len(self._blocks) > self._keep:
            self._blocks.popitem(last=False)
        return data

    def close(self) -> None:
        if not self.closed:
            self._blocks.clear()
            self.blob.close()
        super().close()
