"""The formats, by the ending of a file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from retain.datasets.splats import glb, ply, splat, spz
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    write: Callable[[str | Path, Gaussians], None]
    read: Callable[[str | Path], Gaussians]
    nbytes: int
    """Of a Gaussian, before compression."""
    words: str
    """What it is, for people."""


FORMATS = {
    ".ply": Format(ply.write, ply.read, ply.NBYTES, "3D Gaussian splatting, every editor"),
    ".splat": Format(splat.write, splat.read, splat.NBYTES, "web viewers"),
    ".spz": Format(spz.write, spz.read, spz.NBYTES, "compressed, phones and web"),
    ".glb": Format(glb.write, glb.read, glb.NBYTES, "glTF with KHR_gaussian_splatting"),
}


def write_splats(path: str | Path, gaussians: Gaussians) -> None:
    """Write ``gaussians`` (atomically) in the format that ``path`` ends in.

    Raises UsageError for another ending, for a scene that the format cannot hold, or when the file
    cannot be written; ValueError for numbers that are not finite.
    """
    kind = format_of(path)
    try:
        kind.write(path, gaussians)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}.") from None


def read_splats(path: str | Path) -> Gaussians:
    """Raises UsageError for another ending, SourceError for a file that is not what it says."""
    return format_of(path).read(path)


def format_of(path: str | Path) -> Format:
    """By the name alone. Raises UsageError for an ending that is none of ``FORMATS``."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UsageError(
            f"{str(path)!r} does not end in a format of Gaussians.", hint=nearest(ending, FORMATS)
        )
    return FORMATS[ending]
