"""What kind of world, how large its pictures, which split of the laws.

Everything is written for a box of 12 units that a clip shows for 8 units of time. A larger ``side``
shows the same motion with more pixels, more ``frames`` show the same time more finely; parameters
and centres come out in pixels and frames. Source: the study of DiT-Mem (arXiv 2511.19229) on
worlds whose law two frames do not tell; the idea of such splits is phyworld's (arXiv 2411.02385).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from retain.pipeline.errors import UsageError, nearest

Kind = Literal["ball", "balls", "pendulum", "rolling"]
Split = Literal["train", "test", "odd"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SPLITS: tuple[Split, ...] = get_args(Split)
BOX = 12.0
"""Units of length along a side."""
SPAN = 8.0
"""Units of time: a clip of T frames shows one every ``SPAN / T``."""
SUBSTEPS = 4
"""Per frame."""

PARAMS: dict[Kind, tuple[str, ...]] = {
    "ball": ("gx", "gy", "restitution", "drag"),
    "balls": ("mass_ratio", "restitution"),
    "pendulum": ("g_over_l", "damping"),
    "rolling": ("friction",),
}
"""What a world hides. gx, gy in px/frame², g_over_l in 1/frame², drag and damping in 1/frame."""

ODD: dict[Kind, tuple[str, ...]] = {
    "ball": ("sector", "strong", "up", "flip"),
    "balls": ("strong",),
    "pendulum": ("strong", "up", "flip"),
    "rolling": ("strong",),
}
"""Laws that neither ``train`` nor ``test`` holds. sector: gravity within 30 degrees of straight up;
strong: 1.0 to 1.3 times the largest magnitude; up: straight up; flip: gravity turns round half-way.
"""
MIXED = "mixed"


@dataclass(frozen=True)
class WorldConfig:
    """What ``draw`` makes.

    kind    ball, balls, pendulum or rolling
    side    pixels of the square frames
    frames  of a clip
    split   ``train`` and ``test`` share a prior and no seeds; ``odd`` holds other laws
    odd     which of ``ODD[kind]``, or all of them in turn; only the split ``odd`` reads it
    jitter  how far a clip's radius is from the kind's, as a share; looks differ between clips

    Raises UsageError for values that are none.
    """

    kind: Kind = "ball"
    side: int = 12
    frames: int = 8
    split: Split = "train"
    odd: str = MIXED
    jitter: float = 0.1

    def __post_init__(self) -> None:
        _known("kind of world", self.kind, KINDS)
        _known("split of worlds", self.split, SPLITS)
        if self.odd != MIXED:
            _known(f"odd law for the kind {self.kind!r}", self.odd, ODD[self.kind])
        if not (12 <= self.side <= 1024 and 8 <= self.frames <= 256):
            raise UsageError(
                f"Worlds of {self.side} pixels and {self.frames} frames cannot be drawn.",
                hint="A side is 12 to 1024 pixels, a clip 8 to 256 frames.",
            )
        if not 0 <= self.jitter <= 0.2:
            raise UsageError(f"The jitter of worlds is from 0 to 0.2, not {self.jitter}.")

    @property
    def scale(self) -> float:
        """Pixels per unit of length."""
        return self.side / BOX

    @property
    def pace(self) -> float:
        """Units of time per frame."""
        return SPAN / self.frames


def _known(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"There is no {what} called {value!r}.", hint=nearest(value, known))
