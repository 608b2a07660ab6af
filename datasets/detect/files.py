"""What the readers share: clips whose pictures and labels are files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from retain.datasets.detect.base import Mask, Sample, Size, Truth
from retain.datasets.scene.pictures import broken
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import MAX_SIDE, Image
from retain.pipeline.sources.common import check_file
from retain.pipeline.sources.rgb import check_side

UNKNOWN: Size = (0, 0)
"""The labels do not say how large the picture is."""
FARTHEST = 1e7
"""Pixels from the origin that a corner of a box can be."""


class FileClip:
    """A Clip of files. Pictures and labels are read when they are asked for.

    images  one for each frame; None where only labels are there
    known   gives the Truth of a frame, which may raise SourceError
    numbers of the frames in their video, rising; none: they are all there
    masks   silhouettes of a frame, where there are any
    """

    cuts: tuple[int, ...] = ()

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        images: Sequence[Path | None],
        known: Callable[[int], Truth],
        *,
        rate: float,
        notes: Sequence[str] = (),
        numbers: Sequence[int] | None = None,
        masks: Callable[[int], Mask | None] | None = None,
    ) -> None:
        self.name, self.names, self.rate, self.notes = name, tuple(names), rate, tuple(notes)
        self.images = images
        self.numbers = range(len(images)) if numbers is None else numbers
        self._known, self._masks = known, masks

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def truth(self, index: int) -> Truth:
        """Raises SourceError when labels cannot be read; IndexError past the end."""
        return self._known(range(len(self))[index])

    def __getitem__(self, index: int) -> Sample:
        """Raises SourceError when the picture or its labels are missing, broken, or of different
        sizes; IndexError past the end."""
        index = range(len(self))[index]
        path, truth = self.images[index], self.truth(index)
        if path is None:
            raise SourceError(
                SourceFault.NOT_FOUND,
                f"Frame {index} of {self.name!r} has no picture: only its boxes are there.",
                hint="Put the pictures where the data set has them, or ask for truth(index).",
            )
        image = read_picture(path, truth.size)
        mask = None if self._masks is None else self._masks(index)
        seq = self.numbers[index]
        return Sample(seq, seq / self.rate, image, truth, mask)


class FileClips:
    """The clips of a data set, in a fixed order. Raises SourceError when there are none."""

    def __init__(
        self, what: str, names: Sequence[str], clips: Sequence[FileClip], notes: Sequence[str] = ()
    ) -> None:
        if not clips:
            raise SourceError(
                SourceFault.EMPTY, " ".join([f"{what} holds not one usable clip.", *notes])
            )
        self.description = f"{what}, {len(clips)} clips"
        self.names, self.notes = tuple(names), tuple(notes)
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> FileClip:
        """Raises IndexError past the end."""
        return self._clips[index]


def read_picture(path: Path, size: Size = UNKNOWN) -> Image:
    """uint8 [H, W, 3] RGB as stored: a turn that EXIF asks for is not made, since boxes were drawn
    on the stored pixels.

    Raises SourceError for a file that is missing, broken, or of another size than its labels say:
    its boxes would lie in wrong places.
    """
    from PIL import Image as Pil

    check_file(path)
    try:
        with Pil.open(path) as picture:
            check_side(*picture.size, MAX_SIDE)
            if size not in (UNKNOWN, picture.size):
                raise SourceError(
                    SourceFault.BROKEN,
                    f"{str(path)!r} is {picture.size[0]}x{picture.size[1]}, its boxes are for "
                    f"{size[0]}x{size[1]}.",
                    hint="The pictures were resized, or belong to other labels.",
                )
            if picture.mode.startswith("I"):  # 16 bits: their upper half, as elsewhere
                deep = np.asarray(picture).clip(0, 65535) >> 8
                return np.repeat(deep.astype(np.uint8)[..., None], 3, axis=2)
            return np.array(picture.convert("RGB"), np.uint8, order="C")
    except SourceError:
        raise
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise broken(path, error) from error


def read_indices(path: Path) -> Mask:
    """[H, W] the values of a mask's pixels: indices of a palette, grey levels, or, of a mask that
    was saved in colour, the indices that PASCAL VOC's palette has those colours for.

    Raises SourceError for a file that is missing, broken, deep, or in other colours.
    """
    from PIL import Image as Pil

    check_file(path)
    try:
        with Pil.open(path) as picture:
            check_side(*picture.size, MAX_SIDE)
            if picture.mode in ("P", "L", "1"):
                return np.array(picture if picture.mode != "1" else picture.convert("L"), np.uint8)
            if picture.mode not in ("RGB", "RGBA", "LA"):
                raise ValueError(f"a mask of mode {picture.mode}")
            return _indices_of(np.array(picture.convert("RGB"), np.uint8))
    except SourceError:
        raise
    except Exception as error:  # decoders meet damage with exceptions of every kind
        raise broken(path, error) from error


def _indices_of(colours: Image) -> Mask:
    """Bit j of channel c of a colour, from the top, is bit 3 j + c of the index."""
    if (colours == colours[..., :1]).all() and np.isin(colours, (0, 255)).all():
        return colours[..., 0]
    indices = np.zeros(colours.shape[:2], np.uint8)
    back = np.zeros_like(colours)
    for j in range(3):
        for c in range(3 if j < 2 else 2):
            bit = colours[..., c] >> (7 - j) & 1
            indices |= bit << (3 * j + c)
            back[..., c] |= bit << (7 - j)
    if (back != colours).any():
        raise ValueError("its colours are not those of a palette of objects")
    return indices


def check_dimensions(width: object, height: object) -> Size:
    """Two sides of a picture. Raises ValueError."""
    size = int(str(width)), int(str(height))
    if not all(0 < side <= MAX_SIDE for side in size):
        raise ValueError(f"a picture cannot be {width}x{height}")
    return size


def corner(value: object) -> float:
    """A coordinate of a box. Raises ValueError when it is none."""
    number = float(str(value))
    if not abs(number) < FARTHEST:
        raise ValueError(f"a box cannot reach to {value}")
    return number
