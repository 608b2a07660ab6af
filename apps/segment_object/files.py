"""Masks as DAVIS writes them, the truth beside a given mask, and the colours objects have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.davis import objects_in
from retain.datasets.detect.files import read_indices
from retain.datasets.scene.pictures import natural
from retain.pipeline.errors import SourceError, SourceFault, UsageError

Label = NDArray[np.uint8]
Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (98, 171, 255),
    (242, 171, 75),
    (140, 214, 120),
    (222, 130, 214),
    (245, 110, 110),
    (108, 214, 208),
    (233, 219, 96),
    (176, 158, 255),
)
"""Of objects on a picture: bright, unlike those of the palette of mask files."""


def palette() -> list[int]:
    """768 numbers: the RGB of each index, as PASCAL VOC and DAVIS have them.

    Bit j of channel c, from the top, is bit 3 j + c of the index.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for j in range(8):
        for c in range(3):
            colours[:, c] |= ((index >> (3 * j + c) & 1) << (7 - j)).astype(np.uint8)
    return [int(value) for value in colours.ravel()]


_PALETTE = palette()


def write_mask(path: Path, label: Label) -> None:
    """``label`` (uint8 [H, W], indices of objects) as a palette PNG."""
    from PIL import Image

    picture = Image.frombytes("P", label.shape[::-1], label.tobytes())
    picture.putpalette(_PALETTE)
    picture.save(path, compress_level=4)


def mask_files(given: Path) -> tuple[Path, list[Path]]:
    """The mask of the first frame, and those of all frames where they are there.

    ``given`` is a PNG, or a folder of them in the order of the frames, as DAVIS has one for each
    sequence: the first is given, all are the truth. Raises SourceError for a folder without any,
    UsageError for a file that is no PNG.
    """
    if given.is_dir():
        files = sorted(given.glob("*.png"), key=lambda path: natural(path.name))
        if not files:
            raise SourceError(
                SourceFault.EMPTY,
                f"The folder {str(given)!r} has no PNG in it, so no object is marked.",
            )
        return files[0], files
    if given.exists() and given.suffix.lower() != ".png":
        raise UsageError(
            f"The mask {given.name!r} is no PNG.",
            hint="A mask is a PNG: white on black, or with a palette.",
        )
    return given, []


def truth_of(path: Path) -> Label:
    """uint8 [H, W]: the objects of a frame, by their indices."""
    return objects_in(read_indices(path))
