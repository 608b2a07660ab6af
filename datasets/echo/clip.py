"""One echo clip with what is known about it: what every reader and the phantom give."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BACKGROUND, CAVITY, MYOCARDIUM, ATRIUM, UNLABELLED = 0, 1, 2, 3, 255
"""Mask values, as CAMUS has them; 255 marks what nobody labelled, never background."""

LABELS = ("cavity", "myocardium", "atrium")
"""Names of labels 1, 2, 3."""


@dataclass(frozen=True, slots=True)
class EchoClip:
    """A clip in time order, end-diastole first where ``ed`` < ``es``.

    Raises ValueError when shapes or dtypes do not fit or a mask holds a value that is no label.
    """

    name: str
    frames: NDArray[np.uint8]
    """[T, H, W], grey."""
    masks: NDArray[np.uint8]
    """[T, H, W], values 0..3, or 255 where unlabelled."""
    spacing_mm: tuple[float, float]
    """Millimetres per pixel (y, x); (nan, nan) when the source does not say."""
    fps: float = float("nan")
    patient: str = ""
    view: str = ""
    """``4CH`` or ``2CH``; empty when unknown."""
    ed: int = -1
    es: int = -1
    """Indices of end-diastole and end-systole; -1 when unknown."""
    ef: float = float("nan")
    """Reference ejection fraction, per cent."""
    edv_ml: float = float("nan")
    esv_ml: float = float("nan")
    split: str = ""
    """``train``, ``val`` or ``test``; empty when the source has none."""
    flipped: bool = False
    """True when the source stored it end-systole first and the reader reversed it."""
    notes: tuple[str, ...] = field(default=())
    """What was odd about it, in words (a tracing was missing, a duplicate was dropped, ...)."""

    def __post_init__(self) -> None:
        frames, masks = self.frames, self.masks
        if frames.dtype != np.uint8 or frames.ndim != 3 or 0 in frames.shape:
            raise ValueError(f"frames must be uint8 [T, H, W], got {frames.dtype} {frames.shape}")
        if masks.dtype != np.uint8 or masks.shape != frames.shape:
            raise ValueError(f"masks must be uint8 {frames.shape}, got {masks.dtype} {masks.shape}")
        if ((masks > ATRIUM) & (masks != UNLABELLED)).any():
            raise ValueError(f"masks hold values that are no label: {np.unique(masks).tolist()}")
        if not -1 <= max(self.ed, self.es) < len(frames):
            raise ValueError(f"ed={self.ed}, es={self.es} do not index {len(frames)} frames")

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """[T]: frames with a full label."""
        known: NDArray[np.bool_] = ~(self.masks == UNLABELLED).any(axis=(1, 2))
        return known
