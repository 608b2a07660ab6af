"""What every source needs: checked options, rising times, sampling by time, helpful sentences."""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.files import similar
from retain.pipeline.frame import Frame
from retain.pipeline.redact import redact

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
_FILES = (
    *(".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mxf"),
    *(".ogg", ".ogv", ".ts", ".webm", ".wmv", *IMAGE_SUFFIXES),
)
DICOM_SUFFIXES = frozenset((".dcm", ".dicom"))


def number(name: str, value: object, low: float, high: float = math.inf) -> float:
    """``value`` as a float in [low, high]. Raises UsageError naming the option."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        limits = f"from {low:g} on" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise UsageError(f"The source option {name!r} is a number {limits}, not {value!r}.")
    if not math.isfinite(value):
        raise UsageError(f"The source option {name!r} must be finite, not {value!r}.")
    return float(value)


def integer(name: str, value: object, low: int, high: int = 2**31 - 1) -> int:
    """``value`` as an int in [low, high]. Raises UsageError naming the option."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(
            f"The source option {name!r} is a whole number from {low} to {high}, not {value!r}."
        )
    return value


def text(name: str, value: object) -> str:
    """``value`` as a non-empty str. Raises UsageError naming the option."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"The source option {name!r} is a word, not {value!r}.")
    return value


class Sampler:
    """Choose frames on a grid of presentation time: at most ``fps`` per second; 0 keeps all.

    The first frame in each cell of length 1/fps is kept, so a stream slower than ``fps`` loses
    nothing, and a variable frame rate is thinned where it is dense. A cell opens a tenth early:
    containers that round times (Matroska, to milliseconds) would otherwise lose frames at their
    own rate.
    """

    def __init__(self, fps: float, limit: int = 0) -> None:
        self.fps = Fraction(number("fps", fps, 0, 100_000)).limit_denominator(100_000)
        self.limit = integer("limit", limit, 0, 2**62)
        self.kept = 0
        self._origin: int | None = None
        self._cell = -1

    def keep(self, pts: int, time_base: Fraction) -> bool:
        """Whether the frame at ``pts`` is wanted. Counts it when it is."""
        if self.fps:
            if self._origin is None:
                self._origin = pts
            ticks = (pts - self._origin) * time_base.numerator * self.fps.numerator
            per_cell = time_base.denominator * self.fps.denominator
            cell = (10 * ticks + per_cell) // (10 * per_cell)
            if cell <= self._cell:
                return False
            self._cell = cell
        self.kept += 1
        return True

    @property
    def full(self) -> bool:
        """Whether ``limit`` frames were kept."""
        return 0 < self.limit <= self.kept


class Pace:
    """Frames of a finite source when they are due by their presentation time, ``pace`` times as
    fast; at once where that is 0. Their arrival is then."""

    def __init__(self, pace: float, closed: threading.Event) -> None:
        self._pace, self._closed = pace, closed
        self._began: float | None = None

    def hold(self, frame: Frame) -> Frame | None:
        """``frame`` when it is due; None when the source was closed before."""
        if self._pace:
            due, now = frame.seconds / self._pace, time.monotonic()
            if self._began is None:
                self._began = now - due
            self._closed.wait(max(0.0, self._began + due - now))
            frame = replace(frame, t_arrival_ns=time.monotonic_ns(), wall_ns=time.time_ns())
        return None if self._closed.is_set() else frame


def paced(frames: Iterable[Frame], pace: float, closed: threading.Event) -> Iterator[Frame]:
    """``frames``, each held by a ``Pace``."""
    hold = Pace(pace, closed).hold
    for frame in frames:
        held = hold(frame)
        if held is None:
            return
        yield held


class RisingTimes:
    """Presentation times as the pipeline needs them: strictly rising, whatever the file says.

    ``step`` is the nominal ticks per frame, used where a time is missing. A time that repeats or
    runs back a little moves one tick past its predecessor; a jump back of more than ``jump`` ticks
    is a restarted clock: the rest of the stream is shifted to go on from there, and ``jumped`` is
    True for that frame. ``repaired`` counts every frame whose time was changed by itself.
    """

    def __init__(self, step: int, jump: int) -> None:
        self.step = max(1, step)
        self.jump = max(1, jump)
        self.repaired = 0
        self.jumped = False
        self.last: int | None = None
        self._offset = 0

    def next(self, pts: int | None) -> int:
        last = self.last
        self.jumped = False
        if pts is None:
            self.repaired += 1
            pts = 0 if last is None else last + self.step
        else:
            pts += self._offset
            if last is not None and pts <= last:
                self.repaired += 1
                if last - pts > self.jump:
                    self.jumped = True
                    self._offset += last + self.step - pts
                    pts = last + self.step
                else:
                    pts = last + 1
        self.last = pts
        return pts


def local_path(source: str) -> Path:
    """The path a SOURCE names; ``file://`` and ``~`` are understood. Raises SourceError for what no
    file can be called."""
    try:
        path = _path(source)
        path.lstat()
    except RuntimeError as error:  # ~nobody
        raise SourceError(SourceFault.NOT_FOUND, f"{source!r} is no place: {error}") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            what = f"There is no file '{source[:40]}…': no name is so long."
            raise SourceError(SourceFault.NOT_FOUND, what) from None
    return path


def _path(source: str) -> Path:
    if source.startswith("file://"):
        from urllib.parse import unquote, urlsplit

        return Path(unquote(urlsplit(source).path))
    return Path(source).expanduser()


def is_url(source: str) -> bool:
    """Whether SOURCE is a network or generated address rather than a path."""
    scheme, found, _ = source.partition("://")
    return bool(found) and scheme.replace("+", "").isalnum() and scheme != "file"


def names_file(address: str) -> bool:
    """Whether an http address ends like a file: one that is read once and not waited for."""
    scheme, _, rest = address.partition("://")
    path = rest.partition("?")[0].partition("#")[0].lower()
    return scheme.lower() in ("http", "https") and path.endswith(_FILES)


def check_file(path: Path) -> None:
    """Raise SourceError in one sentence unless ``path`` is a readable, non-empty file."""
    if not path.exists():
        raise SourceError(
            SourceFault.NOT_FOUND, f"There is no file {redact(str(path))!r}.", hint=similar(path)
        )
    if path.is_dir():
        raise SourceError(
            SourceFault.NOT_VIDEO,
            f"{str(path)!r} is a folder, not a file.",
            hint="Folders are read as image sequences: use the source 'images' or 'any'.",
        )
    if not os.access(path, os.R_OK):
        raise denied(path)
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(
            SourceFault.EMPTY,
            f"{str(path)!r} is empty (0 bytes).",
            hint="The recording or the copy never finished; get the file again.",
        )


def denied(path: Path) -> SourceError:
    return SourceError(
        SourceFault.DENIED,
        f"You may not read {str(path)!r}.",
        hint="Change its permissions or run as a user who may.",
    )


def sniff(head: bytes) -> str:
    """``dicom``, ``image``, ``video`` or ``""`` (unknown) from a file's first 132 bytes or more."""
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_IMAGE_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] in _BOXES or head.startswith(_VIDEO_MAGIC):
        return "video"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video"
    if head[:1] == b"G" and head[188:189] in (b"G", b""):
        return "video"
    return ""


_IMAGE_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*",
    *(b"P%d\n" % n for n in range(1, 7)),
    *(b"P%d " % n for n in range(1, 7)),
    b"\0\0\0\x0cjP  ",
)
_VIDEO_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"GIF8",
    b"DKIF",
    b"YUV4MPEG2",
    b"\0\0\x01\xba",  # MPEG program stream
    b"\0\0\x01\xb3",
    b"\0\0\0\x01",  # H.264 or HEVC byte stream
    b"0&\xb2u\x8ef\xcf\x11",  # ASF
)
_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"))
