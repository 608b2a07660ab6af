"""Identities against another implementation, running numbers against plain definitions."""

from __future__ import annotations

import math
from pathlib import Path

import detect_app_parts as parts
import detect_parts
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.apps.detect.arms import ENDED_S, LONGEST, SPANS, Tally, Tracks, shown
from retain.apps.detect.examples import KEPT, Examples, Pictures, decided
from retain.apps.detect.judge import common, identity_f1, open_truth
from retain.datasets.detect.base import IGNORE, found_of, truth_of
from retain.datasets.detect.motion import box_iou
from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.write import write_clips
from retain.pipeline.errors import UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Support


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_idf1_is_that_of_trackeval(seed: int) -> None:
    identity = pytest.importorskip("trackers.eval.identity")
    rng = np.random.default_rng(seed)
    truths, found = detect_parts.random_frames(seed, frames=12, classes=1)
    tracks = [rng.integers(0, 6, len(one)) for one in found]
    for k, one in enumerate(tracks):  # a tracker gives an id once a frame
        _, first = np.unique(one, return_index=True)
        found[k] = found_of(
            *(part[first] for part in (found[k].boxes, found[k].scores, found[k].labels))
        )
        tracks[k] = one[first]
    similarity = [box_iou(t.boxes, f.boxes) for t, f in zip(truths, found, strict=True)]
    theirs = identity.compute_identity_metrics([t.tracks for t in truths], tracks, similarity)
    assert identity_f1(truths, found, tracks) == pytest.approx(theirs["IDF1"])


def test_identities_of_other_classes_clips_and_ignored_rows() -> None:
    box = [[0, 0, 20, 20]]
    truth = truth_of((64, 64), box, [0], [3], [0])
    right, other = found_of(box, [0.9], [0]), found_of(box, [0.9], [1])
    seven = np.array([7])
    assert identity_f1([truth], [right], [seven]) == 1
    assert identity_f1([truth], [other], [seven]) == 0
    # The same numbers in another clip are other things.
    assert identity_f1([truth, truth], [right, right], [seven, seven]) == 1
    assert identity_f1([truth, truth], [right, right], [seven, seven], shift=[0, 4]) == 0.5
    ignored = truth_of((64, 64), box, [0], [3], [IGNORE])
    assert identity_f1([truth, ignored], [right, right], [seven, seven]) == 1
    assert math.isnan(identity_f1([ignored], [right], [seven]))


def test_a_detector_of_other_classes_is_refused() -> None:
    assert common(("car", "person"), ("person", "dog")) == ("person",)
    with pytest.raises(UsageError, match="no class in common: dog against car"):
        common(("car",), ("dog",))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_flicker_counts_boxes_without_a_counterpart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(6):
        corner = rng.integers(0, 3, (int(rng.integers(0, 4)), 2)) * 40
        boxes = np.concatenate([corner, corner + 30], 1)
        frames.append(
            parts.boxes_of(
                boxes.tolist(), [0.9] * len(boxes), rng.integers(0, 2, len(boxes)).tolist()
            )
        )
    tally = Tally(tracked=False)
    alone = looked = 0
    for seq, found in enumerate(frames):
        tally.add(seq, seq / 25, found, shown("bank", found, 0.3), fresh=seq == 3)
        if seq in (0, 3):
            continue
        sets = [
            [
                (*box, label)
                for box, label in zip(one.boxes.tolist(), one.labels.tolist(), strict=True)
            ]
            for one in (frames[seq - 1], found)
        ]
        alone += sum(box not in sets[1] for box in sets[0]) + sum(
            box not in sets[0] for box in sets[1]
        )
        looked += len(sets[0]) + len(sets[1])
    assert tally.flicker == pytest.approx(alone / looked if looked else float("nan"), nan_ok=True)


def life(tracks: Tracks, track: int, seqs: list[int], memory: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    for seq in seqs:
        found = parts.boxes_of(
            [[0, 0, 9, 9]], [0.9], [0], [1.0 if seq in memory else 0.0], tracks=[track]
        )
        tracks.add(seq, seq / 25, found, np.array([0]))


def test_tracks_are_counted_with_their_gaps() -> None:
    tracks = Tracks()
    life(tracks, 1, [*range(10), *range(15, 20)], memory={3, 4})
    life(tracks, 2, [20, 21])
    tracks.finish()
    tracks.finish()
    assert (tracks.count, tracks.missing) == (2, 5)
    assert tracks.gaps == pytest.approx(5 / 22)
    assert tracks.mean_s == pytest.approx((19 + 1) / 25 / 2)
    spans = tracks.longest[0].spans
    assert [(round(25 * a), round(25 * b), m) for a, b, m in spans] == [
        (0, 2, False), (2, 4, True), (4, 9, False), (15, 19, False),
    ]  # fmt: skip


def test_a_long_run_keeps_little() -> None:
    tracks = Tracks()
    for k in range(400):
        life(tracks, k, [k * 200, k * 200 + 1])
    assert len(tracks._open) <= 1 + ENDED_S
    assert len(tracks.longest) <= LONGEST
    life(tracks, 999, list(range(200_000, 201_000, 2)))
    tracks.finish()
    assert max(len(one.spans) for one in tracks.longest) <= SPANS
    assert tracks.count == 401


def with_memory(memory: float, score: float = 0.9, seq: int = 5) -> tuple[object, ...]:
    support = (Support(seq - 1, (seq - 1) / 25, parts.square(seq - 1), 1.0),)
    found = parts.boxes_of([parts.square(seq)], [score], [0], [memory], [support])
    return found, parts.boxes_of([], [], [])


def test_what_memory_decided_is_what_the_detector_alone_misses() -> None:
    found, nothing = with_memory(0.8)
    assert decided(found, nothing, 0.3) == (0, pytest.approx(0.72))  # type: ignore[arg-type]
    weaker = parts.boxes_of([parts.square(5)], [0.4], [0])
    assert decided(found, weaker, 0.3)[1] == pytest.approx(0.4)  # type: ignore[arg-type]
    assert decided(found, found, 0.3) == (-1, 0.0)  # type: ignore[arg-type]
    assert decided(with_memory(0.8, score=0.2)[0], nothing, 0.3) == (-1, 0.0)  # type: ignore[arg-type]
    assert decided(nothing, None, 0.3) == (-1, 0.0)  # type: ignore[arg-type]


def test_examples_are_few_apart_and_the_best() -> None:
    examples = Examples(0.3)
    for seq in range(0, 500, 5):
        found, plain = with_memory(0.5 + seq / 1000, seq=seq + 1)
        examples.add(Packet(parts.frame(seq)))
        examples.add(Packet(parts.frame(seq + 1), {"boxes": found, "plain": plain}))  # type: ignore[dict-item]
    kept = examples.kept
    assert len(kept) == KEPT
    assert [int(one.seconds) for one in kept] == [19, 18, 17, 16, 15, 14], "gains rise with time"
    assert all(int(25 * one.seconds + 0.5) % 25 == 21 for one in kept), "the best of each second"
    assert all(one.crops for one in kept)


def test_pictures_forget_the_oldest() -> None:
    pictures = Pictures(room=3)
    for seq in range(5):
        pictures.add(parts.frame(seq))
    crops = [pictures.crop(Support(seq, 0.0, parts.square(seq), 1.0)) for seq in range(5)]
    assert [crop is not None for crop in crops] == [False, False, True, True, True]
    middle = crops[4][40:56, 40:56].mean((0, 1))  # type: ignore[index]
    assert middle[0] > 180 > 90 > middle[1]
    assert pictures.crop(Support(4, 0.0, (500, 500, 510, 510), 1.0)) is None


def test_davis_goes_by_classes_that_detectors_know(tmp_path: Path) -> None:
    clip = ObjectVideo(3, frames=2, width=64, height=48)
    clip.name = "dog"
    write_clips([clip], tmp_path, "davis")
    assert "dog" in open_truth(str(tmp_path)).names
    assert open_truth("objects://?clips=1").names == ObjectVideo.names
