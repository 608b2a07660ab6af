"""Folders and patterns of images as a stream, in natural order."""

from __future__ import annotations

import glob
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import MAX_SIDE, Frame, Image
from retain.pipeline.sources.common import (
    IMAGE_SUFFIXES,
    RisingTimes,
    Sampler,
    check_file,
    integer,
    local_path,
    number,
    sniff,
    text,
)
from retain.pipeline.sources.rgb import check_side
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

_MICRO = Fraction(1, 1_000_000)


class ImageSource:
    """A folder, a pattern (``'shots/*.png'``) or one image file.

    source    folder, pattern or file. In folders and patterns, files that are no images are passed
              over; names sort naturally (9 before 10)
    rate      images per second of presentation time (25), or ``"name"``: the file's name, less its
              ending, is its time in seconds (as in TUM RGB-D)
    fps, limit, stream, max_side   as in VideoSource; images not kept are not read

    Sizes may differ from image to image. EXIF orientation is applied, 16-bit values keep their
    upper byte, grey is repeated, alpha is dropped, of several pages the first is read. ``meta``
    holds the file's ``name``. Unreadable images are passed over, counted, and reported at the end
    as SourceError(BROKEN).
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        rate: float | str = 25.0,
        max_side: int = 8192,
    ) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self.max_side = integer("max_side", max_side, 1, MAX_SIDE)
        self._by_name = rate == "name"
        if isinstance(rate, str) and not self._by_name:
            raise UsageError(
                f"The source option 'rate' is a number or the word 'name', not {rate!r}."
            )
        self.rate = 25.0 if isinstance(rate, str) else number("rate", rate, 0.001, 100_000)
        self._sampler = Sampler(fps, limit)
        self._stop = False
        self._files: Sequence[Path] = ()
        self._unreadable: list[str] = []
        self._times = RisingTimes(1, 1)

    def open(self) -> SourceInfo:
        """List the images. Raises SourceError when there is none."""
        self._files = list_images(self.source)
        exact = Fraction(self.rate).limit_denominator(100_000)
        if self._by_name:
            self._ticks, self._time_base = _times_in(self._files), _MICRO
        else:
            self._ticks, self._time_base = list(range(len(self._files))), 1 / exact
        width, height = _size(self._files[0])
        span = (self._ticks[-1] - self._ticks[0]) * self._time_base
        return SourceInfo(
            kind="finite",
            description=f"{self.source} ({len(self._files)} images)",
            width=width,
            height=height,
            fps=0.0 if self._by_name else self.rate,
            declared_frames=len(self._files),
            duration_s=float(span + (0 if self._by_name else self._time_base)),
        )

    def frames(self) -> Iterator[Frame]:
        """Raises SourceError(BROKEN) after the last image when some could not be read."""
        if not self._files:
            self.open()
        sampler = self._sampler
        for path, ticks in zip(self._files, self._ticks, strict=True):
            if self._stop:
                return
            pts = self._times.next(ticks)
            if not sampler.keep(pts, self._time_base):
                continue
            try:
                image = read_image(path, self.max_side)
            except SourceError as error:
                if error.fault is SourceFault.TOO_LARGE:
                    raise
                log.warning("%s", error)
                self._unreadable.append(path.name)
                sampler.kept -= 1
                continue
            meta = {"name": path.name}
            yield Frame(self.stream, sampler.kept - 1, pts, self._time_base, image, meta=meta)
            if sampler.full:
                break
        if self._unreadable:
            raise self._broken()

    def _broken(self) -> SourceError:
        bad = self._unreadable
        names = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        return SourceError(
            SourceFault.BROKEN,
            f"{len(bad)} of {len(self._files)} images of {self.source!r} cannot be read: {names}.",
            hint="Replace or remove them; the others were delivered.",
            decoded=self._sampler.kept,
        )

    def close(self) -> None:
        self._stop = True

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "declared": len(self._files),
            "delivered": self._sampler.kept,
            "unreadable": len(self._unreadable),
            "repaired_times": self._times.repaired,
        }


def list_images(source: str) -> list[Path]:
    """The image files that a folder, pattern or path names, in natural order.

    Raises SourceError in one sentence that says what was found instead.
    """
    path = local_path(source)
    if path.is_dir():
        try:
            found = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        except PermissionError:
            raise SourceError(
                SourceFault.DENIED, f"You may not list the folder {source!r}."
            ) from None
    elif not path.exists() and glob.has_magic(source):
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
        if not found:
            raise SourceError(
                SourceFault.NOT_FOUND,
                f"No file matches {source!r}.",
                hint="Quote the pattern, so that the shell passes it on, and check the folder.",
            )
    else:
        check_file(path)
        return [path]
    images = [entry for entry in found if _is_image(entry)]
    if not images:
        raise SourceError(
            SourceFault.EMPTY,
            f"{source!r} {_inventory(found)}.",
            hint=f"Images are files ending in {', '.join(sorted(IMAGE_SUFFIXES))}.",
        )
    return sorted(images, key=_natural)


def read_image(path: Path, max_side: int) -> Image:
    """The image in ``path`` as uint8 [H, W, 3] RGB, upright.

    Raises SourceError: TOO_LARGE before decoding, BROKEN for anything that cannot be decoded.
    """
    from PIL import Image as Pil

    try:
        with Pil.open(path) as picture:
            check_side(*picture.size, max_side)
            return upright(picture)
    except SourceError:
        raise
    except (Pil.DecompressionBombError, Pil.DecompressionBombWarning):
        raise SourceError(
            SourceFault.TOO_LARGE,
            f"The image {str(path)!r} has more pixels than any side limit allows.",
        ) from None
    except Exception as error:  # image decoders meet damage with exceptions of every kind
        raise SourceError(
            SourceFault.BROKEN,
            f"The image {str(path)!r} cannot be read ({type(error).__name__}).",
        ) from error


def upright(picture: Any) -> Image:
    """An opened Pillow image as uint8 [H, W, 3] RGB. Raises whatever decoders raise at damage."""
    from PIL import ImageOps

    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits; "I" is how some readers hand them over
        deep = np.clip(np.asarray(picture, np.int64), 0, 65535)
        grey = (deep >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    return np.array(picture.convert("RGB"), np.uint8, order="C")


def _is_image(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix:
        return path.suffix.lower() in IMAGE_SUFFIXES
    try:
        with path.open("rb") as file:
            return sniff(file.read(192)) == "image"
    except OSError:
        return False


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits count as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(p), p) if p.isdigit() else (0, 0, p.lower()) for p in parts]


def _inventory(found: Sequence[Path]) -> str:
    """What lies there, in words: ``holds no images, only 2 folders, 3 .txt files``."""
    kinds = Counter("folder" if p.is_dir() else f"{p.suffix.lower()} file".strip() for p in found)
    if not kinds:
        return "is an empty folder"
    words = [f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in kinds.most_common(5)]
    return f"holds no images, only {', '.join(words)}{', ...' if len(kinds) > 5 else ''}"


def _times_in(files: Sequence[Path]) -> list[int]:
    """Microseconds from file names that are seconds. Raises UsageError for other names."""
    ticks = []
    for path in files:
        try:
            ticks.append(round(Fraction(path.stem) / _MICRO))
        except (ValueError, ZeroDivisionError):
            raise UsageError(
                f"The image name {path.name!r} is not a time in seconds.",
                hint="Give the source option rate as images per second instead of 'name'.",
            ) from None
    return ticks


def _size(path: Path) -> tuple[int, int]:
    """Width and height from the header; zeros when it cannot be read."""
    from PIL import Image as Pil

    try:
        with Pil.open(path) as picture:
            swapped = picture.getexif().get(0x0112, 1) >= 5
            width, height = picture.size
    except Exception:  # unreadable: ``frames`` will say so
        return 0, 0
    return (height, width) if swapped else (width, height)
