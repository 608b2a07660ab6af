"""What nearly every format comes down to: a list of picture files with what is known of each."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.datasets.scene.base import Shot
from retain.datasets.scene.lens import Depth, Lens, regrid, resize_image
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import MAX_SIDE, Image
from retain.pipeline.sources.common import check_file
from retain.pipeline.sources.rgb import check_side

RATE = 30.0
"""Pictures per second where a format carries no times."""

_FARTHEST = 1e9
"""Units of length from the origin that a camera can be."""
_LATEST_S = 1e11
"""Seconds: some three thousand years."""

Size = tuple[int, int]
"""Working width and height. One of them 0: as the picture's shape asks; both 0: as stored."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a scene, not yet read."""

    seq: int
    seconds: float
    image: Path
    lens: Lens
    depth: Path | None = None
    c2w: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class DepthFile:
    """How a format stores depth. Raises ValueError for a unit that is none."""

    unit: float = 0.001
    """Metres of one step of a 16-bit PNG."""
    unknown: int = 0
    """A value that means unknown, besides 0."""
    camera: Camera | None = None
    """Of the depth pictures, where it is not that of the pictures."""
    register: Callable[[Depth], Depth] | None = None
    """Brings depth to the pixels of the pictures, where that takes more than other intrinsics."""

    def __post_init__(self) -> None:
        if not 1e-9 <= self.unit <= 1e3:
            raise ValueError(f"a step of depth cannot be {self.unit} metres")


class PictureScene:
    """A Scene whose pictures are files. Reading is lazy; sizes are checked before it.

    what     what it is, for people
    entries  in the order of time
    size     the working size of the shots

    Raises SourceError when there are no entries or a lens cannot be undone, UsageError for a size
    that is none.
    """

    def __init__(
        self,
        what: str,
        entries: Sequence[Entry],
        *,
        notes: Sequence[str] = (),
        metric: bool = True,
        depth: DepthFile | None = None,
        size: Size = (0, 0),
    ) -> None:
        if not entries:
            raise SourceError(SourceFault.EMPTY, f"{what} holds not one usable picture.")
        with reading(what):
            for lens in {entry.lens for entry in entries}:
                lens.undistorted()
            if not all(abs(entry.seconds) < _LATEST_S for entry in entries):
                raise ValueError("a picture has a time that is none")
        self._entries = entries
        self._depth = depth or DepthFile()
        self._size = check_size(size)
        self._what, self._metric = what, metric
        self._notes = (*notes, *_lacking(entries))

    @property
    def description(self) -> str:
        return f"{self._what}, {len(self)} pictures"

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    @property
    def metric(self) -> bool:
        return self._metric

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Shot:
        """Raises SourceError for a file that is missing, broken or of another size than its
        camera's; IndexError past the end."""
        entry = self._entries[index]
        lens = entry.lens
        image = self._image(entry)
        depth = None
        if entry.depth is not None:
            depth = self._read_depth(entry.depth, lens.camera)
        image, depth = lens.undistort(image, depth)
        camera = lens.undistorted()
        working = resized(camera, self._size)
        if depth is not None:
            depth = regrid(depth, camera, working)
        image = resize_image(image, working.width, working.height)
        return Shot(entry.seq, entry.seconds, image, working, depth, entry.c2w)

    def _image(self, entry: Entry) -> Image:
        """The stored picture; formats that keep it elsewhere than in files say where."""
        return read_image(entry.image, entry.lens.camera)

    def _read_depth(self, path: Path, camera: Camera) -> Depth:
        """In metres, on the pixels of ``camera``."""
        how, (width, height) = self._depth, depth_size(path)
        if how.camera is None and abs(width * camera.height / height / camera.width - 1) > 0.01:
            raise SourceError(
                SourceFault.BROKEN,
                f"The depth in {str(path)!r} is {width}x{height}, of another shape than its "
                f"picture ({camera.width}x{camera.height}): where it lies on it is not known.",
            )
        # Depth of another size without intrinsics of its own is the same view, resized.
        seen_by = how.camera or camera.resized(width, height)
        check_shape(path, width, height, seen_by)
        depth = read_depth(path, how.unit, how.unknown)
        return how.register(depth) if how.register else regrid(depth, seen_by, camera)


def _lacking(entries: Sequence[Entry]) -> Iterator[str]:
    """What some of the pictures do not have, in sentences."""
    unposed = sum(entry.c2w is None for entry in entries)
    blind = sum(entry.depth is None for entry in entries)
    if unposed == len(entries):
        yield "No picture has a pose."
    elif unposed:
        yield f"{unposed} of {len(entries)} pictures have no pose that is finite and rigid."
    if 0 < blind < len(entries):
        yield f"{blind} of {len(entries)} pictures have no depth."


def check_size(size: Size) -> Size:
    """``size`` when it is one. Raises UsageError."""
    if len(size) != 2 or any(not 0 <= int(side) <= MAX_SIDE for side in size):
        raise UsageError(f"A working size is two sides from 0 to {MAX_SIDE}, not {size!r}.")
    return size


def resized(camera: Camera, size: Size) -> Camera:
    """``camera`` for pictures of the working size."""
    width, height = size
    if not width and not height:
        return camera
    width = width or max(1, round(height * camera.width / camera.height))
    height = height or max(1, round(width * camera.height / camera.width))
    return camera.resized(width, height)


def read_image(path: Path, camera: Camera) -> Image:
    """The picture as stored, uint8 [H, W, 3] RGB: a turn that its EXIF asks for is not made, since
    calibrations are of the pixels. Deep values keep their upper byte, alpha is dropped.

    Raises SourceError for a file that is missing, broken, or of another size than ``camera``'s.
    """
    from PIL import Image as Pil

    check_file(path)
    try:
        with Pil.open(path) as picture:
            width, height = picture.size
            check_side(width, height, MAX_SIDE)
            check_shape(path, width, height, camera)
            if picture.mode.startswith("I"):
                deep = np.asarray(picture).clip(0, 65535) >> 8
                return np.repeat(deep.astype(np.uint8)[..., None], 3, axis=2)
            return np.array(picture.convert("RGB"), np.uint8, order="C")
    except SourceError:
        raise
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise broken(path, error) from error


def check_shape(path: Path, width: int, height: int, camera: Camera) -> None:
    """Raise SourceError when a picture is not of its camera's size."""
    if (width, height) != (camera.width, camera.height):
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} is {width}x{height}; its camera was calibrated for "
            f"{camera.width}x{camera.height}.",
        )


def picture_size(path: Path) -> Size:
    """Width and height from the file's head. Raises SourceError."""
    from PIL import Image as Pil

    check_file(path)
    try:
        with Pil.open(path) as picture:
            width, height = picture.size
    except Exception as error:
        raise broken(path, error) from error
    check_side(width, height, MAX_SIDE)
    return width, height


def depth_size(path: Path) -> Size:
    """Width and height of depth from the file's head. Raises SourceError."""
    if path.suffix != ".npy":
        return picture_size(path)
    with reading(path):
        height, width = array_in(path).shape
    check_side(width, height, MAX_SIDE)
    return width, height


def read_depth(path: Path, unit: float, unknown: int = 0) -> Depth:
    """Depth in metres of a PNG of one 16-bit channel with ``unit`` metres a step, or of a ``.npy``
    array [H, W], whose values are metres already when they are floating-point.

    Raises SourceError for a file that is missing, broken or no such picture.
    """
    values = array_in(path) if path.suffix == ".npy" else _png(path)
    if values.ndim != 2 or values.dtype.kind not in "fui" or values.itemsize < 2:
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} is no depth: {values.dtype} {list(values.shape)}, not one channel of "
            "16 bits or more.",
        )
    if values.dtype.kind == "f":
        return np.where(np.isfinite(values) & (values > 0), values, 0).astype(np.float32)
    depth = values.astype(np.float32) * np.float32(unit)
    depth[(values <= 0) | (values == unknown)] = 0
    return depth


def _png(path: Path) -> NDArray[Any]:
    from PIL import Image as Pil

    check_file(path)
    try:
        with Pil.open(path) as picture:
            return np.asarray(picture)
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise broken(path, error) from error


def array_in(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, as a map of it: what its head claims is not allocated. Raises
    SourceError."""
    check_file(path)
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return values
    except Exception as error:  # its head is parsed as Python, and fails as that does
        raise broken(path, error) from error


def broken(path: Path | str, error: Exception) -> SourceError:
    return SourceError(
        SourceFault.BROKEN,
        f"{str(path)!r} cannot be read: it is damaged or not what its name says "
        f"({type(error).__name__}: {error}).",
        hint="Get the file again, or remove it.",
    )


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Let what goes wrong in reading a small file come out as a SourceError that names it."""
    try:
        yield
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
        *(struct.error, RecursionError, MemoryError),
    ) as error:
        raise broken(path, error) from error


def numbers_in(path: Path) -> NDArray[np.float64]:
    """All numbers of a text file, one dimension. Raises SourceError."""
    check_file(path)
    with reading(path):
        return np.array(path.read_text().split(), np.float64)


def rows_in(path: Path) -> list[list[str]]:
    """The words of each line of a text file, without empty lines and ``#`` comments. Raises
    SourceError."""
    check_file(path)
    with reading(path):
        lines = path.read_text().splitlines()
    return [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pose(numbers: ArrayLike) -> NDArray[np.float64] | None:
    """The [4, 4] matrix of 12 or 16 numbers in rows; None when there are not so many, or they are
    not finite and rigid."""
    flat = np.asarray(numbers, np.float64).ravel()
    if flat.size == 12:
        flat = np.concatenate([flat, (0.0, 0.0, 0.0, 1.0)])
    # Numbers beyond any world are refused before they overflow in somebody's product.
    if flat.size != 16 or not (np.abs(flat) < _FARTHEST).all():
        return None
    matrix = flat.reshape(4, 4)
    return matrix if rigid.is_rigid(matrix) else None


def pose_of(wxyz: ArrayLike, place: ArrayLike) -> NDArray[np.float64] | None:
    """The [4, 4] matrix of a quaternion and a place; None when they are none."""
    q = np.asarray(wxyz, np.float64)
    if q.shape != (4,) or not 1e-6 < np.abs(q).max() < _FARTHEST:
        return None
    return pose(np.column_stack([rigid.matrix(q), np.asarray(place, np.float64)]))


def natural(name: str) -> list[int | str]:
    """Sort key in which runs of digits count as numbers: 9 comes before 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Files of ``folder`` whose names are ``pattern``, by its first group, a number; in order."""
    names = re.compile(pattern)
    paths = folder.iterdir() if folder.is_dir() else ()
    found = {int(match[1]): path for path in paths if (match := names.fullmatch(path.name))}
    return dict(sorted(found.items()))
