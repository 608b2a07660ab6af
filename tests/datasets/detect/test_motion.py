"""Motion IoU against a plain loop and the table's layout; ghosts after a cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retain.datasets.detect.base import found_of, truth_of
from retain.datasets.detect.ghosts import Joined, ghosts_per_frame
from retain.datasets.detect.motion import box_iou, motion_iou, read_motion_table
from retain.datasets.detect.objects import ObjectVideo
from retain.pipeline.errors import SourceError, UsageError

SIZE = (320, 240)


def test_motion_iou_is_the_mean_over_the_neighbours_of_the_same_track() -> None:
    clip = ObjectVideo(2, frames=30)
    frames = [clip.truth(k) for k in range(30)]
    got = motion_iou(frames, window=4)
    for k, truth in enumerate(frames):
        for row, track in enumerate(truth.tracks):
            near = [
                frames[j].boxes[frames[j].tracks == track]
                for j in range(max(0, k - 4), min(30, k + 5))
                if j != k
            ]
            want = box_iou(truth.boxes[row : row + 1], np.concatenate(near))
            assert got[k][row] == pytest.approx(want.mean())


def test_a_still_object_is_slow_and_a_leaping_one_fast() -> None:
    frames = [
        truth_of(SIZE, [[9, 9, 29, 29], [20 * k, 9, 20 * k + 20, 29]], [0, 0], [0, 1], [0, 0])
        for k in range(8)
    ]
    values = np.array(motion_iou(frames))
    assert (values[:, 0] == 1).all()
    assert (values[:, 1] == 0).all()


def test_what_has_no_neighbours_has_no_motion() -> None:
    """Alone, too far away, or of no known track."""
    box = [[9, 9, 29, 29]]
    there, empty = truth_of(SIZE, box, [0], [0], [0]), truth_of(SIZE)
    unknown = truth_of(SIZE, box, [0], [-1], [0])
    assert np.isnan(motion_iou([there, empty, empty, there], window=2)[0][0])
    assert motion_iou([there, empty, empty, there], window=3)[0][0] == 1
    assert np.isnan(motion_iou([unknown, unknown])[0][0])


@pytest.mark.parametrize("nested", [False, True])
def test_the_published_table_in_both_of_its_forms(nested: bool, tmp_path: Path) -> None:
    """A frame without boxes has one row with nothing in it, which stands for 0."""
    from scipy.io import savemat

    frames = [[0.25, 0.9], [0.0], [1.0]]
    cells = np.empty((3, 1), object)
    for k, values in enumerate(frames):
        if not nested:
            cells[k, 0] = np.empty((1, 0)) if k == 1 else np.array(values)[:, None]
            continue
        inner = np.empty((len(values), 1), object)
        for row, value in enumerate(values):
            inner[row, 0] = np.array([[value]]) if k != 1 else np.empty((0, 0))
        cells[k, 0] = inner
    savemat(tmp_path / "motion.mat", {"motion_iou": cells})
    np.savez(tmp_path / "motion.npz", values=[0.25, 0.9, 0.0, 1.0], offsets=[0, 2, 3, 4])
    for name in ("motion.mat", "motion.npz"):
        assert [list(one) for one in read_motion_table(tmp_path / name)] == frames


@pytest.mark.parametrize("name", ["a.mat", "a.npz"])
def test_a_damaged_table_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing of the kind")
    with pytest.raises(SourceError, match="damaged or not what its name says"):
        read_motion_table(tmp_path / name)


def test_joined_clips_have_cuts_and_tracks_of_their_own() -> None:
    clips = [ObjectVideo(seed, frames=4) for seed in (0, 1, 2)]
    both = Joined([Joined(clips[:2]), clips[2]])
    assert (len(both), both.cuts) == (12, (4, 8))
    assert np.array_equal(both[5].image, clips[1][1].image)
    tracks = [
        set(np.concatenate([both.truth(k).tracks for k in part]))
        for part in (range(4), range(4, 8), range(8, 12))
    ]
    assert len(set.union(*tracks)) == sum(map(len, tracks))
    for sample in both:
        seen = set(np.unique(sample.mask)) - {0}
        assert seen <= {int(track) + 1 for track in tracks[sample.seq // 4]}
    with pytest.raises(IndexError):
        both[12]
    with pytest.raises(UsageError, match="same classes"):
        Joined([])


def test_ghosts_are_old_classes_where_nothing_is() -> None:
    old, new = truth_of(SIZE, [[9, 9, 59, 59]], [0], [0], [0]), truth_of(SIZE)
    same = truth_of(SIZE, [[99, 99, 159, 159]], [0], [0], [0])
    ghost = found_of([[9, 9, 59, 59]], [0.5], [0])
    faint, other = found_of([[9, 9, 59, 59]], [0.3], [0]), found_of([[9, 9, 59, 59]], [0.9], [1])
    real = found_of([[99, 99, 159, 150]], [0.5], [0])
    truths = [old, old, new, new, new, same, same]
    found = [ghost, ghost, ghost, faint, other, real, ghost]
    assert ghosts_per_frame(truths, found, [2]) == pytest.approx(2 / 5)
    assert ghosts_per_frame(truths, found, [2], frames=1) == 1
    assert np.isnan(ghosts_per_frame(truths, found, []))
