"""The mask that says what to follow: read from a file, checked, its objects counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.detect.davis import objects_in
from retain.datasets.detect.files import read_indices
from retain.pipeline.errors import UsageError

Label = NDArray[np.uint8]

MOST = 8
"""Objects that are followed at once."""


@dataclass(frozen=True, slots=True)
class Given:
    """Who is where in the first frame."""

    label: Label
    """uint8 [H, W]: 0, or 1, 2, ... in the order of ``numbers``."""
    numbers: tuple[int, ...]
    """Of the objects in the file's palette, rising; a drawing in white is object 1."""
    name: str

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"object {number}" for number in self.numbers)

    def check(self, height: int, width: int) -> None:
        """Raises UsageError unless the mask is of a frame of this size."""
        if self.label.shape != (height, width):
            raise UsageError(
                f"The mask {self.name!r} is {self.label.shape[1]}x{self.label.shape[0]} pixels, "
                f"the first frame is {width}x{height}.",
                hint="The mask must be drawn on the first frame, at its size.",
            )


def read_given(path: str | Path) -> Given:
    """The mask in a PNG: indices of a palette, or white on black.

    Raises SourceError for a file that is missing or broken, UsageError for a mask that shows no
    object or more than ``MOST``.
    """
    values = objects_in(read_indices(Path(path)))
    numbers = objects_of(values)
    name = Path(path).name
    if not numbers:
        raise UsageError(
            f"The mask {name!r} shows no object: not one pixel is marked.",
            hint="Mark the object in the first frame, white on black or by a palette's index.",
        )
    if len(numbers) > MOST:
        raise UsageError(f"The mask {name!r} marks {len(numbers)} objects; at most {MOST} can be.")
    return Given(renumbered(values, numbers), numbers, name)


def objects_of(mask: Label) -> tuple[int, ...]:
    """Numbers of the objects in ``mask``, rising."""
    return tuple(int(number) for number in np.unique(mask) if number)


def renumbered(mask: Label, numbers: tuple[int, ...]) -> Label:
    """``mask`` with ``numbers`` as 1, 2, ... and everything else as 0."""
    table = np.zeros(256, np.uint8)
    table[list(numbers)] = np.arange(1, len(numbers) + 1)
    return np.asarray(table[mask], np.uint8)
