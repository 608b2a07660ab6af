"""What every reader and generator of videos with boxes gives: clips of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.frame import Image

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height in pixels."""

OCCLUDED = 1
"""Partly hidden by something else."""
GENERATED = 2
"""The box was interpolated, not drawn by a person."""
CROWD = 4
"""A region with many of a kind, any number of which may be found (COCO's ``iscrowd``)."""
IGNORE = 8
"""Neither to be found nor to be missed: unusable or distracting."""
NO_TRACK = -1


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one frame, without its pixels. All arrays have N rows."""

    size: Size
    boxes: Floats
    """[N, 4] x1, y1, x2, y2 in pixels, as the data set writes them: some reach past the frame."""
    labels: Ints
    """[N] places in the clip's ``names``."""
    tracks: Ints
    """[N] the same number for the same object in all frames of the clip; -1 where unknown."""
    flags: Mask
    """[N] OCCLUDED | GENERATED | CROWD | IGNORE."""
    scores: Floats | None = None
    """[N] confidence, where boxes are a detector's rather than the truth (MOT's det.txt)."""
    labelled: bool = True
    """False: nobody looked at this frame; that it has no rows means nothing."""

    def __post_init__(self) -> None:
        rows = len(self.boxes)
        columns = (self.labels.shape, self.tracks.shape, self.flags.shape)
        if self.boxes.shape != (rows, 4) or set(columns) != {(rows,)}:
            raise ValueError("Truth needs boxes [N, 4] and one label, track and flag for each")

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def real(self) -> NDArray[np.bool_]:
        """[N] whether a detector is expected to find it: neither CROWD nor IGNORE."""
        return np.asarray((self.flags & (CROWD | IGNORE)) == 0)

    def only(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Truth:
        """The truth of some rows, by mask or by number."""
        return Truth(
            self.size,
            self.boxes[rows],
            self.labels[rows],
            self.tracks[rows],
            self.flags[rows],
            None if self.scores is None else self.scores[rows],
            self.labelled,
        )


def truth_of(
    size: Size,
    boxes: object = (),
    labels: object = (),
    tracks: object = (),
    flags: object = (),
    scores: object = None,
    labelled: bool = True,
) -> Truth:
    """A Truth from anything array-like."""
    return Truth(
        size,
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(labels, np.int64).reshape(-1),
        np.asarray(tracks, np.int64).reshape(-1),
        np.asarray(flags, np.uint8).reshape(-1),
        None if scores is None else np.asarray(scores, np.float32).reshape(-1),
        labelled,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A detector's boxes in one frame, in any order. Raises ValueError for rows that do not fit."""

    boxes: Floats
    """[N, 4] x1, y1, x2, y2 pixels of the original frame."""
    scores: Floats
    """[N]."""
    labels: Ints
    """[N]."""

    def __post_init__(self) -> None:
        rows = len(self.boxes)
        columns = (self.scores, self.labels)
        if self.boxes.shape != (rows, 4) or any(column.shape != (rows,) for column in columns):
            raise ValueError("Found needs boxes [N, 4] and one score and label for each")
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")

    def __len__(self) -> int:
        return len(self.boxes)


def found_of(boxes: object = (), scores: object = (), labels: object = ()) -> Found:
    """A Found from anything array-like."""
    return Found(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32).reshape(-1),
        np.asarray(labels, np.int64).reshape(-1),
    )


Kind = Literal["none", "motion", "defocus", "dark", "bars"]


@dataclass(frozen=True, slots=True)
class Degradation:
    """How a frame was spoilt, where that is known."""

    kind: Kind = "none"
    strength: float = 0.0
    """0 nothing, 1 the worst; see ``degrade``."""
    place: int = 0
    """Which frame of its burst, from 0."""

    def __bool__(self) -> bool:
        return self.kind != "none"


CLEAN = Degradation()


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame with what is known of it."""

    seq: int
    """Its number in the video, from 0; lists may have left out others between."""
    seconds: float
    image: Image
    """uint8 [H, W, 3] RGB."""
    truth: Truth
    mask: Mask | None = None
    """[H, W]: 0 or 1 + the track that is seen there, where silhouettes are known."""
    degradation: Degradation = CLEAN


class Clip(Protocol):
    """A video with boxes that can be read in any order.

    ``names`` are the classes; ``notes`` say what was left out or repaired, a sentence each.
    """

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def rate(self) -> float:
        """Frames per second."""
        ...

    @property
    def cuts(self) -> tuple[int, ...]:
        """Frames that begin another scene; the first frame is none."""
        ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    @property
    def numbers(self) -> Sequence[int]:
        """``Sample.seq`` of each frame, rising."""
        ...

    def __len__(self) -> int: ...

    def truth(self, index: int) -> Truth:
        """What is known of a frame; no pixels are read. Raises SourceError for a broken file."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Raises SourceError for a file that is missing or broken; IndexError past the end."""
        ...


class Clips(Protocol):
    """The clips of a data set, in a fixed order, all with the same classes."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip:
        """Raises IndexError past the end."""
        ...


def truths(clip: Clip) -> list[Truth]:
    """Of all frames, in order."""
    return [clip.truth(index) for index in range(len(clip))]
