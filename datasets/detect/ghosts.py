"""What a memory carries over a scene cut: objects that are no longer there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from retain.datasets.detect.base import Clip, Found, Sample, Truth, truth_of
from retain.datasets.detect.motion import box_iou
from retain.pipeline.errors import UsageError

FRAMES = 5
SCORE = 0.3
_NEAR = 0.3


class Joined:
    """Clips one after the other as one Clip, with hard cuts between them.

    Tracks of later clips are renumbered. Raises UsageError without clips or when their classes
    differ.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, clips: Sequence[Clip]) -> None:
        if not clips or any(clip.names != clips[0].names for clip in clips):
            raise UsageError("Clips to join must be at least one, all with the same classes.")
        self._clips = clips
        self.name = "+".join(clip.name for clip in clips)
        self.names, self.rate = clips[0].names, clips[0].rate
        self._starts = np.cumsum([0, *map(len, clips)])
        self.numbers = range(int(self._starts[-1]))
        tracks = [
            max((clip.truth(k).tracks.max(initial=-1) for k in range(len(clip))), default=-1)
            for clip in clips
        ]
        self._first_tracks = np.cumsum([0, *(int(most) + 1 for most in tracks)])

    @property
    def cuts(self) -> tuple[int, ...]:
        own = (
            start + cut
            for start, clip in zip(self._starts, self._clips, strict=False)
            for cut in clip.cuts
        )
        return tuple(sorted({int(k) for k in (*self._starts[1:-1], *own)}))

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def truth(self, index: int) -> Truth:
        which, inside = self._where(index)
        return self._renumbered(self._clips[which].truth(inside), which)

    def __getitem__(self, index: int) -> Sample:
        """Without a mask where its tracks have numbers that its 8 bits cannot hold."""
        index = range(len(self))[index]
        which, inside = self._where(index)
        one = self._clips[which][inside]
        truth = self._renumbered(one.truth, which)
        shift, mask = int(self._first_tracks[which]), one.mask
        if mask is not None and shift:
            fits = int(mask.max()) + shift < 256
            mask = np.where(mask > 0, mask + shift, 0).astype(np.uint8) if fits else None
        return Sample(index, index / self.rate, one.image, truth, mask, one.degradation)

    def _where(self, index: int) -> tuple[int, int]:
        index = range(len(self))[index]
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return which, index - int(self._starts[which])

    def _renumbered(self, truth: Truth, which: int) -> Truth:
        shift = np.where(truth.tracks >= 0, self._first_tracks[which], 0)
        return truth_of(
            truth.size,
            truth.boxes,
            truth.labels,
            truth.tracks + shift,
            truth.flags,
            truth.scores,
            truth.labelled,
        )


def ghosts_per_frame(
    truths: Sequence[Truth],
    found: Sequence[Found],
    cuts: Sequence[int],
    frames: int = FRAMES,
    score: float = SCORE,
) -> float:
    """Ghosts per frame in the ``frames`` after each cut (fewer, where another cut follows).

    A ghost is a box with more than ``score``, of a class that was there in the ``frames`` before
    the cut, which lies on nothing of that class now (IoU below 0.3). A detector without a memory
    has some too, wherever it errs: compare with it. NaN without cuts.
    """
    count = total = 0
    ends = [*cuts, len(truths)][1:]
    for cut, end in zip(cuts, ends, strict=True):
        before = [truths[k].labels for k in range(max(0, cut - frames), cut)]
        old = np.unique(np.concatenate(before)) if before else np.empty(0, np.int64)
        for k in range(cut, min(cut + frames, end)):
            total += 1
            count += sum(
                _is_ghost(truths[k], found[k], row)
                for row in np.flatnonzero((found[k].scores > score) & np.isin(found[k].labels, old))
            )
    return count / total if total else float("nan")


def _is_ghost(truth: Truth, found: Found, row: int) -> bool:
    same = truth.boxes[truth.labels == found.labels[row]]
    return bool((box_iou(found.boxes[row : row + 1], same) < _NEAR).all())
