"""ScanNet (Dai et al., CVPR 2017) as its exporter writes it out.

``color/0.jpg`` (1296x968), ``depth/0.png`` (640x480, millimetres), ``pose/0.txt`` (camera to
world), ``intrinsic/intrinsic_color.txt`` and ``intrinsic_depth.txt`` (4x4, counting pixels from
the centre of the first). Its traps: poses that are ``-inf``, colour and depth of different sizes,
and exports whose colour was made as small as depth while the matrices were left. Its terms:
research only, after signing.
"""

from __future__ import annotations

from pathlib import Path

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    RATE,
    DepthFile,
    Entry,
    PictureScene,
    Size,
    numbered,
    numbers_in,
    picture_size,
    pose,
    reading,
)
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault

COLOUR, DEPTH = "intrinsic/intrinsic_color.txt", "intrinsic/intrinsic_depth.txt"


class ScanNet(PictureScene):
    """An exported scan. ``Shot.seq`` is the number in the files' names, its time that at 30 a
    second; depth lies on the pixels of colour, whose camera is at the same place."""

    KEYS = ("color", "depth", "pose", COLOUR)

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        images = numbered(root / "color", r"(\d+)\.(?:jpe?g|png)")
        depths = numbered(root / "depth", r"(\d+)\.png")
        poses = numbered(root / "pose", r"(\d+)\.txt")
        if not images:
            raise SourceError(SourceFault.EMPTY, f"{str(root / 'color')!r} holds no pictures.")
        seen_by = _camera(root / DEPTH, next(iter(depths.values()))) if depths else None
        camera, notes = _colour(root, next(iter(images.values())), seen_by)
        entries = [
            Entry(
                seq=number,
                seconds=number / RATE,
                image=image,
                lens=Lens(camera),
                depth=depths.get(number),
                c2w=pose(numbers_in(poses[number])) if number in poses else None,
            )
            for number, image in images.items()
        ]
        depth = DepthFile(0.001, 65535, seen_by)
        super().__init__(f"ScanNet {root.name!r}", entries, notes=notes, depth=depth, size=size)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / "color").is_dir() and (path / COLOUR).is_file()


def _colour(root: Path, image: Path, seen_by: Camera | None) -> tuple[Camera, list[str]]:
    """The colour camera, and what was repaired about it."""
    camera = _camera(root / COLOUR, image)
    if _central(camera):
        return camera, []
    if seen_by is not None and (seen_by.width, seen_by.height) == (camera.width, camera.height):
        what = f"{COLOUR} is not of pictures of {camera.width}x{camera.height}"
        return seen_by, [f"{what}: those of depth, which has that size, were taken."]
    raise SourceError(
        SourceFault.BROKEN,
        f"{str(root / COLOUR)!r} is not of pictures of {camera.width}x{camera.height}: the centre "
        f"({camera.cx:g}, {camera.cy:g}) lies far from theirs.",
        hint="Were the pictures resized? Bring the first two rows of the matrix to their size.",
    )


def _camera(path: Path, picture: Path) -> Camera:
    """The camera of a 3x3 or 4x4 matrix for pictures of the size of ``picture``."""
    numbers, (width, height) = numbers_in(path), picture_size(picture)
    with reading(path):
        side = {9: 3, 16: 4}[numbers.size]
        K = numbers.reshape(side, side)
        return Camera(K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5, width, height)


def _central(camera: Camera) -> bool:
    """Whether the centre is within a fifth of the picture's size of its middle."""
    x, y = camera.cx / camera.width - 0.5, camera.cy / camera.height - 0.5
    return max(abs(x), abs(y)) < 0.2
