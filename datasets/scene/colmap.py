"""COLMAP's sparse models (Schönberger and Frahm, CVPR 2016), binary or text.

``cameras`` and ``images`` (.bin or .txt) lie in ``sparse/0``, ``sparse`` or the folder itself, the
pictures in ``images`` beside them. Its traps: poses are world to camera, quaternions wxyz;
``images.txt`` has two lines a picture, of which the second may be empty. The first pixel's centre
is at 0.5 already. The length of one unit is arbitrary. Points are not read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    RATE,
    Entry,
    PictureScene,
    Size,
    natural,
    pose_of,
    reading,
    rows_in,
)
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault

_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", ".")
_MODELS = (
    *(("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8)),
    *(("OPENCV_FISHEYE", 8), ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4)),
    *(("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12)),
)
"""Name and count of parameters of each model, by its number."""


class Registered(NamedTuple):
    """A picture of the model."""

    name: str
    camera: int
    wxyz: tuple[float, ...]
    t: tuple[float, ...]


class Colmap(PictureScene):
    """The registered pictures of a model, in natural order of their names."""

    KEYS = ("sparse", "images")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        model = _model(root)
        if model is None:
            raise SourceError(SourceFault.NOT_FOUND, f"{str(root)!r} holds no COLMAP model.")
        lenses = read_cameras(model)
        images = root / "images" if (root / "images").is_dir() else root
        listed = sorted(read_images(model), key=lambda one: natural(one.name))
        with reading(model):
            entries = [
                Entry(seq, seq / RATE, images / one.name, lenses[one.camera], c2w=_pose(one))
                for seq, one in enumerate(listed)
            ]
        found = [entry for entry in entries if entry.image.is_file()]
        lost = len(entries) - len(found)
        super().__init__(
            f"COLMAP model of {root.name!r}",
            found,
            notes=[f"{lost} of {len(entries)} registered pictures are not there."] * bool(lost),
            metric=False,
            size=size,
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        return _model(path) is not None


def _model(root: Path) -> Path | None:
    """The folder of the model under ``root``."""
    return next(
        (
            root / place
            for place in _PLACES
            for end in ("bin", "txt")
            if (root / place / f"cameras.{end}").is_file()
            and (root / place / f"images.{end}").is_file()
        ),
        None,
    )


def _pose(one: Registered) -> np.ndarray | None:
    w2c = pose_of(one.wxyz, one.t)
    return None if w2c is None else rigid.inverse(w2c)


def read_cameras(model: Path) -> Mapping[int, Lens]:
    """The lenses of a model by their number. Raises SourceError."""
    path = model / "cameras.bin"
    if path.is_file():
        with reading(path), path.open("rb") as file:
            return dict(_binary_cameras(file))
    path = model / "cameras.txt"
    lenses = {}
    with reading(path):
        for number, name, width, height, *words in rows_in(path):
            numbers = [float(word) for word in words]
            lenses[int(number)] = lens_of(name, int(width), int(height), numbers)
    return lenses


def _binary_cameras(file: BinaryIO) -> Iterator[tuple[int, Lens]]:
    (count,) = _take(file, "<Q")
    for _ in range(count):
        number, kind, width, height = _take(file, "<iiQQ")
        name, length = dict(enumerate(_MODELS))[kind]
        yield number, lens_of(name, width, height, list(_take(file, f"<{length}d")))


def lens_of(name: str, width: int, height: int, numbers: list[float]) -> Lens:
    """A lens of one of COLMAP's models. Raises SourceError for one that cannot be undistorted,
    ValueError for numbers that do not fit it."""
    match name, numbers:
        case (("SIMPLE_PINHOLE" | "SIMPLE_RADIAL" | "RADIAL"), [f, cx, cy, *bent]):
            focal, bent = (f, f), [*bent, *[0.0] * (4 - len(bent))] if bent else []
        case (("PINHOLE" | "OPENCV" | "FULL_OPENCV"), [fx, fy, cx, cy, *bent]):
            focal = (fx, fy)
        case "OPENCV_FISHEYE", [fx, fy, cx, cy, *bent]:
            focal = (fx, fy)
        case (("SIMPLE_RADIAL_FISHEYE" | "RADIAL_FISHEYE"), [f, cx, cy, *bent]):
            focal, bent = (f, f), [*bent, *[0.0] * (4 - len(bent))]
        case _:
            raise SourceError(
                SourceFault.CODEC,
                f"Pictures of COLMAP's camera model {name} cannot be undistorted here.",
                hint="Run COLMAP's image_undistorter first and give its folder.",
            )
    if len(numbers) != dict(_MODELS)[name]:
        raise ValueError(f"{name} has {dict(_MODELS)[name]} parameters, not {len(numbers)}")
    return Lens(Camera(*focal, cx, cy, width, height), tuple(bent), "FISHEYE" in name)


def read_images(model: Path) -> Iterator[Registered]:
    """The registered pictures of a model. Raises SourceError."""
    path = model / "images.bin"
    if path.is_file():
        with reading(path), path.open("rb") as file:
            yield from _binary_images(file)
        return
    path = model / "images.txt"
    with reading(path):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        for line in filter(None, lines[::2]):
            _, *numbers, camera, name = line.split(maxsplit=9)
            q, t = numbers[:4], numbers[4:]
            yield Registered(name, int(camera), tuple(map(float, q)), tuple(map(float, t)))


def _binary_images(file: BinaryIO) -> Iterator[Registered]:
    (count,), whole = _take(file, "<Q"), os.fstat(file.fileno()).st_size
    for _ in range(count):
        _, *numbers, camera = _take(file, "<i7di")
        name = bytearray()
        while (byte := _take(file, "<c")[0]) != b"\0":
            name += byte
        (points,) = _take(file, "<Q")
        if 24 * points > whole - file.tell():
            raise ValueError(f"it ends within the points of {bytes(name)!r}")
        file.seek(24 * points, 1)
        yield Registered(name.decode(), camera, tuple(numbers[:4]), tuple(numbers[4:]))


def _take(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
