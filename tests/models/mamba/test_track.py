"""Ids for boxes: the tracker, its state, and the stage around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import detect_app_parts as parts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.models.mamba import tracker as module
from retain.models.mamba.track import Track
from retain.models.mamba.tracker import METHODS, Tracker
from retain.pipeline.errors import MissingExtra, StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Support

Step = tuple[np.ndarray, np.ndarray]
BOTH = pytest.mark.parametrize("method", METHODS)


def walk(seed: int, frames: int, missing: float = 0.25) -> list[Step]:
    """Three things that move evenly, each missed now and then."""
    rng = np.random.default_rng(seed)
    out = []
    for k in range(frames):
        boxes = np.array(
            [[10 + 3 * k, 20, 40 + 3 * k, 60], [300 - 2 * k, 130, 340 - 2 * k, 180],
             [100, 200 + k, 130, 240 + k]], np.float32,
        )  # fmt: skip
        keep = rng.random(3) >= missing
        noise = rng.normal(0, 0.5, (int(keep.sum()), 4))
        scores = rng.uniform(0.3, 1, int(keep.sum()))
        out.append(((boxes[keep] + noise).astype(np.float32), scores.astype(np.float32)))
    return out


def run(tracker: Tracker, steps: Sequence[Step], first: int = 0) -> list[list[int]]:
    return [tracker.update(*step, (first + k) / 25).tolist() for k, step in enumerate(steps)]


@BOTH
def test_things_that_move_evenly_keep_their_numbers(method: module.Method) -> None:
    told = run(Tracker(method), walk(0, 60, missing=0.0))
    assert told[-1] == told[5]
    assert sorted(told[5]) == [1, 2, 3]


@BOTH
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1000), at=st.integers(0, 39))
def test_a_restored_tracker_goes_on_as_the_one_that_was_saved(
    method: module.Method, seed: int, at: int
) -> None:
    steps = walk(seed, 40)
    whole = Tracker(method)
    told = run(whole, steps[:at])
    other = Tracker(method)
    other.restore(whole.snapshot())
    assert run(whole, steps[at:], at) == run(other, steps[at:], at)
    mine, theirs = whole.snapshot(), other.snapshot()
    assert mine.header == theirs.header
    for name in {*mine.tensors, *theirs.tensors}:
        np.testing.assert_array_equal(mine.tensors[name], theirs.tensors[name])
    assert len(told) == at


@BOTH
def test_numbers_are_never_given_twice(method: module.Method) -> None:
    tracker = Tracker(method)
    first = {track for row in run(tracker, walk(1, 10, 0.0)) for track in row}
    tracker.cut()
    second = {track for row in run(tracker, walk(1, 10, 0.0)) for track in row}
    assert not (first & second) - {-1}
    assert min(second - {-1}) > max(first)


@BOTH
def test_nothing_is_kept_of_tracks_that_ended(method: module.Method) -> None:
    tracker = Tracker(method)
    box = np.array([[0, 0, 20, 20]], np.float32)
    for k in range(300):  # each frame something new, somewhere else
        tracker.update(box + 40 * (k % 50), np.array([0.9], np.float32), k / 2)
    assert tracker.held <= 10


@BOTH
def test_a_track_ends_by_the_clock_and_not_by_frames(method: module.Method) -> None:
    box, sure = np.array([[10, 10, 60, 60]], np.float32), np.array([0.9], np.float32)
    none = np.empty((0, 4), np.float32), np.empty(0, np.float32)
    for rate in (5, 25):
        for gap, same in ((0.6, True), (1.6, False)):
            tracker = Tracker(method, lost_s=1.0)
            told = [tracker.update(box, sure, k / rate).tolist() for k in range(4)]
            for k in range(4, 4 + round(gap * rate)):
                tracker.update(*none, k / rate)
            after = [
                tracker.update(box, sure, 4 / rate + gap + k / rate).tolist() for k in range(3)
            ]
            assert (after[-1] == told[-1]) is same, (rate, gap)


def test_weak_boxes_continue_tracks_but_begin_none() -> None:
    box = np.array([[10, 10, 60, 60], [100, 100, 150, 150]], np.float32)
    tracker = Tracker("byte", min_score=0.5)
    for k in range(4):
        told = tracker.update(box, np.array([0.9, 0.3], np.float32), k / 25)
    assert told.tolist() == [1, -1]
    assert tracker.update(box, np.array([0.3, 0.3], np.float32), 4 / 25).tolist() == [1, -1]
    assert tracker.update(box, np.array([0.05, 0.3], np.float32), 5 / 25).tolist() == [-1, -1]


def test_time_may_stand_still_or_run_back() -> None:
    box, sure = np.array([[10, 10, 60, 60]], np.float32), np.array([0.9], np.float32)
    tracker = Tracker()
    told = [tracker.update(box, sure, at).tolist() for at in (1.0, 1.0, 1.04, 0.0, 0.04)]
    assert told == [[-1], [1], [1], [-1], [2]]


def test_a_box_that_stands_still_keeps_its_track_unless_it_is_found_elsewhere() -> None:
    box, sure = np.array([[10, 10, 60, 60]], np.float32), np.array([0.9], np.float32)
    still = np.array([True])
    tracker = Tracker()
    for k in range(3):
        tracker.update(box, sure, k / 25)
    assert tracker.update(box, 0.8 * sure, 3 / 25, still).tolist() == [1]
    assert tracker.update(box, 0.6 * sure, 4 / 25, still).tolist() == [1]
    assert tracker.update(box, 0.2 * sure, 4.5 / 25, still).tolist() == [-1], "too weak to be told"
    both = np.concatenate([box + 2, box])
    told = tracker.update(both, np.array([0.9, 0.5], np.float32), 5 / 25, np.array([False, True]))
    assert told.tolist() == [1, -1]


def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="'ocsort'"):
        Tracker("ocsrt")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="min_score"):
        Tracker(min_score=0.0)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"retain\[track\].*--track none"):
        Tracker()


def test_a_package_that_keeps_other_things_is_not_half_saved() -> None:
    tracker = Tracker()
    run(tracker, walk(0, 5, 0.0))
    tracker._own.tracks[0].appearance = np.zeros(3)
    with pytest.raises(StateError, match="not known here"):
        tracker.snapshot()


# The stage.


def packet(seq: int, found: Boxes, **more: object) -> Packet:
    return Packet(parts.frame(seq), {"boxes": found, **more})  # type: ignore[dict-item]


def moving(seq: int) -> Boxes:
    return parts.boxes_of([parts.square(seq)], [0.9], [0])


def tracks(out: Packet | None, name: str = "boxes") -> list[int]:
    assert out is not None
    ids: list[int] = out.get(name, Boxes).tracks.tolist()
    return ids


def test_boxes_with_and_without_memory_are_tracked_apart() -> None:
    stage = Track()
    for seq in range(6):
        plain = moving(seq) if seq != 1 else parts.boxes_of([], [], [])
        out = stage.process(packet(seq, moving(seq), plain=plain))
        assert (tracks(out), tracks(out, "plain")) == {
            0: ([-1], [-1]), 1: ([1], []), 2: ([1], [-1]),
        }.get(seq, ([1], [1]))  # fmt: skip
    assert stage.stats() == {"boxes_tracks": 1, "boxes_held": 1, "plain_tracks": 1, "plain_held": 1}


@pytest.mark.parametrize("how", ["gap", "reset"])
def test_tracks_end_where_the_memory_begins_anew(how: str) -> None:
    stage = Track()
    for seq in range(3):
        stage.process(packet(seq, moving(seq)))
    recall = Recall("another scene" if how == "reset" else "", 0, 0, 0, 1, {})
    frame = parts.frame(3, broken=how == "gap")
    for later in (frame, parts.frame(4)):
        out = stage.process(Packet(later, {"boxes": moving(later.seq), "recall": recall}))
        recall = Recall("", 0, 0, 0, 1, {})
    assert tracks(out) == [2]


def test_a_carried_box_keeps_its_track() -> None:
    stage = Track()
    for seq in range(3):
        stage.process(packet(seq, moving(seq)))
    here = parts.square(2)
    old = (Support(2, 2 / 25, here, 1.0),)
    out = stage.process(packet(3, parts.boxes_of([here], [0.7], [0], [1.0], [old])))
    assert tracks(out) == [1]


def test_a_resumed_stage_passes_over_what_it_has_seen_and_goes_on(tmp_path: Path) -> None:
    packets = [packet(seq, moving(seq), plain=moving(seq)) for seq in range(20)]
    whole = Track()
    told = [tracks(whole.process(one)) for one in packets]
    first = Track()
    for one in packets[:9]:
        first.process(one)
    first.save(str(tmp_path / "state"))
    second = Track(resume=str(tmp_path / "state"))
    out = [second.process(one) for one in packets]
    assert out[:9] == [None] * 9
    assert [tracks(one) for one in out[9:]] == told[9:]
    with pytest.raises(StateError, match="method"):
        Track("ocsort", resume=str(tmp_path / "state"))


def test_a_loaded_state_takes_the_place_of_all_that_was_there(tmp_path: Path) -> None:
    first = Track()
    first.process(packet(0, moving(0)))
    first.save(str(tmp_path / "state"))
    other = Track()
    for seq in range(6):
        other.process(packet(seq, moving(seq), plain=moving(seq)))
    other.load(str(tmp_path / "state"))
    assert other.stats() == first.stats()


def test_the_stage_says_what_it_misses(tmp_path: Path) -> None:
    stage = Track()
    with pytest.raises(StateError, match="no tracks"):
        stage.save(str(tmp_path / "state"))
    with pytest.raises(UsageError, match="without boxes"):
        stage.process(Packet(parts.frame(0)))
    stage.process(packet(1, moving(1)))
    with pytest.raises(UsageError, match="'main' and of 'other'"):
        stage.process(Packet(parts.frame(2, stream="other"), {"boxes": moving(2)}))
