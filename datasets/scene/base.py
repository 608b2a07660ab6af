"""What every reader and generator of scenes gives: shots, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Image


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a scene, with what is known beside it."""

    seq: int
    """Its number in the sequence as stored; a gap means shots that could not be used."""
    seconds: float
    image: Image
    """uint8 [H, W, 3] RGB, undistorted."""
    camera: Camera
    """Of ``image``: same width and height."""
    depth: NDArray[np.float32] | None = None
    """[H, W] metres along z, registered to ``image``; 0 where unknown."""
    c2w: NDArray[np.float64] | None = None
    """[4, 4] camera to world, OpenCV axes, metres (SfM formats: their own unit)."""
    labels: NDArray[np.uint8] | None = None
    """[H, W] class of each pixel, 0 for none, where the truth is known."""
    codes: NDArray[np.float32] | None = None
    """[K, 16] the language code of each class, unit length; row 0 is zero."""
    names: tuple[str, ...] = ()
    """Of the K classes."""


class Scene(Protocol):
    """A sequence of shots that can be read in any order.

    ``description`` is for people. ``notes`` says what was left out or repaired, one sentence each
    (poses that are not finite, missing files, ...).
    """

    @property
    def description(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def metric(self) -> bool:
        """Whether lengths are metres."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Shot:
        """Raises SourceError for a file that is missing or broken; IndexError past the end."""
        ...
