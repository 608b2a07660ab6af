"""AutoShot / SHOT (Zhu et al., CVPRW 2023): shots of 200 short videos, and scores of detectors.

The authors' repository holds two kinds of pickle, both read by ``pickles.read_pickle``:

    ground truth   {video: int [N, 2]}    first and last frame of every shot, counted from 0
    scores         {video: float [T] or [T, 1]}    per frame, that a shot ends with it

``evaluate`` is their protocol: scores above a threshold to transitions, matched at 2 frames, counts
pooled over videos. They report F1 0.8405 (P 0.847, R 0.834) at 0.296.
``python -m retain.datasets.boundaries.autoshot GROUND_TRUTH SCORES [THRESHOLD]`` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.boundaries.base import Clip, Counts, match, mean_f1, total
from retain.datasets.boundaries.pickles import read_pickle
from retain.datasets.boundaries.transnet import transitions
from retain.datasets.boundaries.videos import clip_of, find_videos, shot_boundaries, tell_missing
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError

TOLERANCE = 2
THRESHOLD = 0.296


def read_autoshot(truth: str | Path, videos: str | Path | None = None) -> list[Clip]:
    """A clip for every video of the ground-truth pickle, in its order.

    Clips without a video say so in ``missing``. Raises SourceError when the file is not such a
    pickle.
    """
    held = find_videos(videos)
    clips = []
    for name, value in _table(truth).items():
        shots: NDArray[Any] = value if isinstance(value, np.ndarray) else np.empty(0)
        if not (shots.ndim == 2 and shots.shape[1] == 2 and len(shots) and _whole(shots)):
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(truth)!r}: {name!r} has no first and last frames of shots [N, 2].",
                hint="Give the ground truth, not a detector's scores.",
            )
        pairs = [(int(a), int(b)) for a, b in shots]
        boundaries = shot_boundaries(pairs, f"{str(truth)!r}: {name!r}")
        clips.append(clip_of(name, held.get(name), boundaries, pairs[-1][1] + 1))
    tell_missing(clips, truth)
    return clips


def read_scores(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Per-frame scores float32 [T] by video. Raises SourceError when the file holds none."""
    scores = {}
    for name, value in _table(path).items():
        row: NDArray[Any] = value if isinstance(value, np.ndarray) else np.empty((0, 0, 0))
        if row.ndim == 2 and row.shape[1] == 1:
            row = row[:, 0]
        if row.ndim != 1 or row.dtype.kind not in "fiub" or not np.isfinite(row).all():
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(path)!r}: {name!r} has no score for each frame, [T] or [T, 1].",
                hint="Give a detector's scores, not the ground truth.",
            )
        scores[name] = row.astype(np.float32)
    return scores


def evaluate(
    clips: list[Clip],
    scores: Mapping[str, NDArray[np.float32]],
    threshold: float = THRESHOLD,
    tolerance: int = TOLERANCE,
) -> dict[str, Counts]:
    """Counts of every clip; pool them with ``base.total``. Raises UsageError when scores lack."""
    lacking = [clip.name for clip in clips if clip.name not in scores]
    if lacking:
        raise UsageError(
            f"There are no scores for {len(lacking)} of {len(clips)} videos, first {lacking[0]!r}."
        )
    return {
        clip.name: match(clip.boundaries, transitions(scores[clip.name], threshold), tolerance)
        for clip in clips
    }


def _table(path: str | Path) -> dict[str, Any]:
    table = read_pickle(path)
    if not isinstance(table, dict) or not table or not all(isinstance(k, str) for k in table):
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} holds no table of videos by name, so nothing to read.",
        )
    return table


def _whole(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iuf" and bool((values == np.floor(values)).all())


def main(arguments: Sequence[str]) -> None:
    """Print F1 of one file of scores by the published protocol."""
    if len(arguments) not in (2, 3):
        raise UsageError("Give the pickle of the ground truth and the pickle of scores.")
    threshold = float(arguments[2]) if len(arguments) == 3 else THRESHOLD
    counts = list(
        evaluate(read_autoshot(arguments[0]), read_scores(arguments[1]), threshold).values()
    )
    pooled = total(counts)
    sys.stdout.write(
        f"{len(counts)} videos at {threshold:g}: F1 {pooled.f1:.4f}, P {pooled.precision:.4f}, "
        f"R {pooled.recall:.4f}; mean of F1 by video {mean_f1(counts):.4f}\n"
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RetainError as error:
        sys.exit(str(error))
