"""LLFF's ``poses_bounds.npy`` (Mildenhall et al., SIGGRAPH 2019), as NeRF's real scenes have it.

A row of 17 numbers a picture: 3 rows of 5, camera to world and then height, width and focal length,
and the nearest and farthest distance. Its traps: axes are down, right, backward; pictures belong to
rows by the order of their names; and those in ``images_4`` or ``images_8`` are smaller than stated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    RATE,
    Entry,
    PictureScene,
    Size,
    array_in,
    picture_size,
    pose,
    reading,
)
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.sources.images import list_images

TABLE = "poses_bounds.npy"
_FOLDERS = ("images", "images_4", "images_8")


class Llff(PictureScene):
    """The pictures in ``images`` (or ``images_4``, ``images_8``), in natural order."""

    KEYS = (TABLE, "images")

    def __init__(self, root: str | Path, size: Size = (0, 0)) -> None:
        root = Path(root)
        table = array_in(root / TABLE)
        with reading(root / TABLE):
            rows = table.astype(np.float64).reshape(-1, 17)
        folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), root / "images")
        images = list_images(str(folder))
        if len(images) != len(rows):
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(root / TABLE)!r} has {len(rows)} rows, {str(folder)!r} {len(images)} "
                "pictures.",
                hint="Rows belong to pictures by their order, so the counts must agree.",
            )
        width, height = picture_size(images[0])
        with reading(root / TABLE):
            entries = [
                _entry(seq, image, row[:15].reshape(3, 5), width, height)
                for seq, (image, row) in enumerate(zip(images, rows, strict=True))
            ]
        super().__init__(f"LLFF scene {root.name!r}", entries, metric=False, size=size)

    @staticmethod
    def recognises(path: Path) -> bool:
        return (path / TABLE).is_file()


def _entry(seq: int, image: Path, row: np.ndarray, width: int, height: int) -> Entry:
    stated_height, stated_width, focal = row[:, 4]
    stated = Camera(
        *(focal, focal, stated_width / 2, stated_height / 2),
        *(round(stated_width), round(stated_height)),
    )
    down, right, backward, place = row[:, :4].T
    c2w = pose(np.stack([right, down, -backward, place], axis=1))
    return Entry(seq, seq / RATE, image, Lens(stated.resized(width, height)), c2w=c2w)
