"""What the readers of echo data sets share: problems with names, folders, labels, the ED-ES cut."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.clip import ATRIUM, EchoClip
from retain.pipeline.errors import RetainError, UsageError

log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
SPLITS = ("train", "val", "test")


class Trouble(StrEnum):
    """What is wrong with an item of a data set. Stable names: they appear in reports."""

    MISSING = "missing"
    """A file the item needs is not there."""
    BROKEN = "broken"
    """A file that cannot be read, or only in part."""
    PIXELS = "pixels"
    """Pictures that are no 8-bit grey."""
    LABELS = "labels"
    """A mask with values that are no label, such as 255."""
    SIZE = "size"
    """Pictures and masks, or the parts of a file, that do not fit each other."""
    INFO = "info"
    """A description that is absent, incomplete or contradicts the pictures."""
    PHASES = "phases"
    """End-diastole and end-systole that are not what they are called."""
    NO_TRACING = "no tracing"
    NO_VIDEO = "no video"
    """A tracing without its video."""
    POINTS = "points"
    """A tracing with an unusual or unusable number of points."""
    DUPLICATE = "duplicate"
    """Something there twice: a tracing, a row, a patient in two splits."""


class Problem(NamedTuple):
    """One thing that is wrong with one item."""

    item: str
    kind: Trouble
    what: str
    lost: bool
    """Whether the item could not be given at all; else it came, with this as a note."""


class DatasetError(RetainError):
    """An item that cannot be read; ``problem`` names it."""

    def __init__(self, item: str, kind: Trouble, what: str, *, hint: str = "") -> None:
        super().__init__(f"{item}: {what}", hint=hint)
        self.problem = Problem(item, kind, f"{what} {hint}".strip(), lost=True)


class Problems(list[Problem]):
    """The problems met so far, in order. Each is logged as it comes."""

    def note(self, item: str, kind: Trouble, what: str) -> str:
        """Adds a problem that does not cost the item; returns it as a note for the clip."""
        self._add(Problem(item, kind, what, lost=False))
        return what

    def lose(self, error: DatasetError) -> None:
        """Adds a problem that costs the item."""
        self._add(error.problem)

    def _add(self, problem: Problem) -> None:
        log.warning("%s: %s", problem.item, problem.what)
        self.append(problem)


def check_split(split: str | None) -> None:
    """Raises UsageError for a word that is no split."""
    if split is not None and split not in SPLITS:
        raise UsageError(f"split is one of {', '.join(SPLITS)} or None, not {split!r}.")


def wrong_folder(root: Path, name: str, expected: str) -> UsageError:
    """The error for a folder that does not hold a data set: what was expected, what was found."""
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        return UsageError(f"{str(root)!r} {kind}.", hint=f"{name} is a folder with {expected}.")
    found = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    return UsageError(
        f"{str(root)!r} does not look like {name}: expected {expected}; found {shown or 'nothing'}."
    )


def to_grey(item: str, pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Pixels of any type as uint8. Raises DatasetError when they are not whole numbers 0..255."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8)
    values = np.asarray(pixels, np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 255):
        raise DatasetError(
            item,
            Trouble.PIXELS,
            f"its pixels go from {values.min():g} to {values.max():g}.",
            hint="Grey levels 0 to 255 are expected; nothing is rescaled by guess.",
        )
    return np.asarray(values.round(), np.uint8)


def to_labels(item: str, mask: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A mask of any type as labels 0..3. Raises DatasetError for any other value.

    255 is not taken for "unlabelled": in files it mostly means a structure drawn in white, and
    reading it as background is what makes a Dice stick at a constant.
    """
    with np.errstate(invalid="ignore"):  # NaN becomes something, and then differs from itself
        labels = np.asarray(mask).astype(np.uint8, casting="unsafe")
    if (labels == mask).all() and labels.max(initial=0) <= ATRIUM:
        return labels
    values = np.unique(mask)
    shown = ", ".join(f"{value:g}" for value in values[:6]) + (", …" if len(values) > 6 else "")
    binary = len(values) == 2 and values[0] == 0
    raise DatasetError(
        item,
        Trouble.LABELS,
        f"its mask holds the values {shown}; labels are 0 background, 1 cavity, 2 myocardium, "
        "3 atrium.",
        hint=f"If {values[1]:g} is the cavity, save it as 1." if binary else "",
    )


def ed_to_es(clip: EchoClip) -> EchoClip:
    """The part of a clip from end-diastole to end-systole, both included, end-diastole first.

    Reversed, and marked ``flipped``, where end-systole came first. Raises ValueError when one of
    the two is unknown.
    """
    if min(clip.ed, clip.es) < 0 or clip.ed == clip.es:
        raise ValueError(f"{clip.name}: end-diastole or end-systole is unknown")
    step = 1 if clip.ed < clip.es else -1
    stop = clip.es + step
    part = slice(clip.ed, stop if stop >= 0 else None, step)
    return replace(
        clip,
        frames=np.ascontiguousarray(clip.frames[part]),
        masks=np.ascontiguousarray(clip.masks[part]),
        ed=0,
        es=abs(clip.es - clip.ed),
        flipped=clip.flipped != (step < 0),
    )
