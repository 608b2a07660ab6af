"""``plain`` is COCO's own evaluator; ``vid-mega`` is the public one for ImageNet VID, quirks and
all; and where they differ."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from detect_parts import SIZE, random_frames

from retain.datasets.detect.base import CROWD, IGNORE, Found, Truth, found_of, truth_of
from retain.datasets.detect.evaluate import SIZES, evaluate
from retain.datasets.detect.motion import RANGES
from retain.pipeline.errors import UsageError

NAMES = ("a", "b", "c")


def coco(truths: Sequence[Truth], found: Sequence[Found], spared: Sequence[Any] = ()) -> Any:
    """pycocotools on the same. Truth of ``spared`` (masks) is put outside the area range "all",
    which is how that code is told to ignore without a crowd's other rules."""
    mask = pytest.importorskip("pycocotools.mask")
    assert mask is not None
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = []
    for image, truth in enumerate(truths, 1):
        out = np.zeros(len(truth), bool) if not len(spared) else spared[image - 1]
        for box, label, flags, off in zip(truth.boxes, truth.labels, truth.flags, out, strict=True):
            x, y, w, h = (float(v) for v in (*box[:2], *(box[2:] - box[:2])))
            ignored = off or flags & IGNORE
            one = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label)}
            area = 1e12 if ignored else w * h
            one |= {"bbox": [x, y, w, h], "area": area, "iscrowd": int(flags & CROWD > 0)}
            annotations.append(one)
    results = [
        [image, *map(float, box[:2]), *map(float, box[2:] - box[:2]), float(score), int(label)]
        for image, one in enumerate(found, 1)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        given = COCO()
        given.dataset = {
            "info": {},
            "images": [{"id": k} for k in range(1, len(truths) + 1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(NAMES)],
            "annotations": annotations,
        }
        given.createIndex()
        judge = COCOeval(given, given.loadRes(np.array(results)), "bbox")
        judge.params.imgIds = list(range(1, len(truths) + 1))
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("odd", [False, True])
def test_plain_is_coco(seed: int, odd: bool) -> None:
    truths, found = random_frames(seed, odd=odd)
    report = evaluate(truths, found, NAMES)
    stats = coco(truths, found).stats
    whole = report.whole
    assert [whole.ap, whole.ap50, whole.ap75] == pytest.approx(list(stats[:3]), abs=1e-6)
    sizes = [report.by_size[size].ap for size in SIZES]
    if not odd:  # the oracle's way to ignore is an area of its own
        assert sizes == pytest.approx(
            list(np.where(stats[3:6] < 0, np.nan, stats[3:6])), nan_ok=True, abs=1e-6
        )
    assert whole.boxes == sum(truth.real.sum() for truth in truths)


@pytest.mark.parametrize("speed", RANGES)
def test_plain_by_speed_is_coco_with_the_others_ignored(speed: str) -> None:
    truths, found = random_frames(7)
    rng = np.random.default_rng(0)
    motion = [rng.uniform(0.4, 1, len(truth)) for truth in truths]
    low, high = RANGES[speed]
    spared = [(m < low) | (m > high) for m in motion]
    report = evaluate(truths, found, NAMES, motion=motion)
    assert report.by_speed[speed].ap == pytest.approx(
        coco(truths, found, spared).stats[0], abs=1e-6
    )


def test_only_a_hundred_boxes_count() -> None:
    """And those with the highest scores."""
    truth = truth_of(SIZE, [[10, 10, 50, 50]], [0], [0], [0])
    wild = np.tile([100.0, 100, 120, 120], (100, 1))
    boxes = np.concatenate([wild, [[10, 10, 50, 50]]])
    late = found_of(boxes, [*[0.9] * 100, 0.1], [0] * 101)
    early = found_of(boxes, [*[0.1] * 100, 0.9], [0] * 101)
    assert evaluate([truth], [late], NAMES).whole.ap50 == 0
    assert evaluate([truth], [early], NAMES).whole.ap50 == 1


# Means over three classes of all, slow, medium and fast, from the public code (MEGA, commit
# 6b6d311), run once on the same frames.
MEGA = {
    0: [0.38911627604582616, 0.5138888888888888, 0.48960190136660725, 0.3642106379786491],
    1: [0.2861508250887336, 0.17267808423321176, 0.13730113183484774, 0.3637918898718562],
    2: [0.27566776566467893, 0.39620403321470926, 0.25342627810118895, 0.29128551671003206],
}


def table(truths: Sequence[Truth], seed: int) -> list[Any]:
    rng = np.random.default_rng(seed + 1000)
    return [rng.uniform(0.4, 1, max(1, len(t))).round(2) * (len(t) > 0) for t in truths]


@pytest.mark.parametrize("seed", MEGA)
def test_vid_mega_is_the_public_code(seed: int) -> None:
    truths, found = random_frames(seed, 25, ties=False)
    report = evaluate(truths, found, NAMES, "vid-mega", table(truths, seed))
    got = [
        report.whole.ap50,
        *(report.by_speed[speed].ap50 for speed in ("slow", "medium", "fast")),
    ]
    assert got == pytest.approx(MEGA[seed], abs=1e-12)


def one(box: Sequence[float], **kinds: object) -> Truth:
    return truth_of(SIZE, [box], [0], [0], [0], **kinds)


def ap50(truths: Sequence[Truth], found: Sequence[Found], protocol: str, motion: Any = None) -> Any:
    report = evaluate(truths, found, NAMES, protocol, motion)
    return report.whole.ap50 if motion is None else report.by_speed


def test_whole_pixels_are_counted_twice_in_vid_mega() -> None:
    """IoU 0.486 by edges; with one pixel more, twice, it is 0.52."""
    truth, found = one([0, 0, 37, 37]), found_of([[0, 0, 37, 18]], [1], [0])
    assert ap50([truth], [found], "plain") == 0
    assert ap50([truth], [found], "vid-mega") == pytest.approx(1)


def test_vid_mega_takes_all_points_and_plain_a_hundred_and_one() -> None:
    truths = [one([10, 10, 60, 60])] * 3
    hit, miss = found_of([[10, 10, 60, 60]], [0.9], [0]), found_of()
    assert ap50(truths, [hit, miss, miss], "vid-mega") == pytest.approx(1 / 3)
    assert ap50(truths, [hit, miss, miss], "plain") == pytest.approx(34 / 101)


def test_a_false_box_in_an_empty_frame_weighs_the_share_of_the_range() -> None:
    """Frames: one fast object found with 0.5, and an empty one with a false box of 0.9. In the
    table, 0.5 and the empty frame's 0 are fast: weight 1 of all is taken for 0, and that for 1."""
    truths = [one([10, 10, 60, 60]), truth_of(SIZE)]
    found = [found_of([[10, 10, 60, 60]], [0.5], [0]), found_of([[90, 90, 99, 99]], [0.9], [0])]
    empty = np.zeros(1)
    speeds = ap50(truths, found, "vid-mega", [np.array([0.5]), empty])
    assert speeds["fast"].ap50 == pytest.approx(1 / 2)
    # A slow one in another frame: two of three entries are fast.
    truths, found = [*truths, one([10, 10, 60, 60])], [*found, found_of()]
    speeds = ap50(truths, found, "vid-mega", [np.array([0.5]), empty, np.array([0.95])])
    assert speeds["fast"].ap50 == pytest.approx(1 / (1 + 2 / 3))
    assert ap50(truths, found, "plain", [np.array([0.5]), empty, np.array([0.95])])[
        "fast"
    ].ap50 == pytest.approx(1 / 2)


def test_a_false_box_near_what_is_out_of_range_is_dropped_only_in_vid_mega() -> None:
    truths = [truth_of(SIZE, [[10, 10, 60, 60], [200, 10, 250, 60]], [0, 0], [0, 1], [0, 0])]
    found = [found_of([[200, 40, 250, 90], [10, 10, 60, 60]], [0.9, 0.5], [0, 0])]
    motion = [np.array([0.5, 0.95])]
    assert ap50(truths, found, "vid-mega", motion)["fast"].ap50 == pytest.approx(1)
    assert ap50(truths, found, "plain", motion)["fast"].ap50 == pytest.approx(0.5)


def test_a_tie_weighs_the_share_out_of_range() -> None:
    """A box that touches neither of two objects, one of which is out of range: half a mistake."""
    truths = [truth_of(SIZE, [[10, 10, 60, 60], [200, 10, 250, 60]], [0, 0], [0, 1], [0, 0])]
    found = [found_of([[100, 100, 120, 120], [10, 10, 60, 60]], [0.9, 0.5], [0, 0])]
    fast = ap50(truths, found, "vid-mega", [np.array([0.5, 0.95])])["fast"].ap50
    assert fast == pytest.approx(1 / 1.5)


@pytest.mark.parametrize("protocol", ["plain", "vid-mega"])
def test_ranges_are_closed_at_both_ends(protocol: str) -> None:
    truths, found = [one([10, 10, 60, 60])], [found_of([[10, 10, 60, 60]], [0.5], [0])]
    speeds = ap50(truths, found, protocol, [np.array([0.7])])
    assert speeds["fast"].boxes == speeds["medium"].boxes == 1
    assert speeds["slow"].boxes == 0
    assert np.isnan(speeds["slow"].ap50)


def test_plain_leaves_unknown_speeds_out() -> None:
    truths, found = [one([10, 10, 60, 60])], [found_of([[10, 10, 60, 60]], [0.5], [0])]
    speeds = ap50(truths, found, "plain", [np.array([np.nan])])
    assert [speeds[name].boxes for name in RANGES] == [0, 0, 0]


@pytest.mark.parametrize("protocol", ["plain", "vid-mega"])
def test_frames_nobody_labelled_do_not_count(protocol: str) -> None:
    truths = [one([10, 10, 60, 60]), truth_of(SIZE, labelled=False)]
    found = [found_of([[10, 10, 60, 60]], [0.5], [0]), found_of([[0, 0, 9, 9]], [0.9], [0])]
    assert ap50(truths, found, protocol) == pytest.approx(1)


@pytest.mark.parametrize("protocol", ["plain", "vid-mega"])
def test_nothing_to_find_and_nothing_found(protocol: str) -> None:
    empty, truth = [found_of()], one([10, 10, 60, 60])
    assert np.isnan(ap50([truth_of(SIZE)], empty, protocol))
    assert ap50([truth], empty, protocol) == 0
    assert np.isnan(ap50([], [], protocol))


@pytest.mark.parametrize("protocol", ["plain", "vid-mega"])
def test_order_of_frames_means_nothing(protocol: str) -> None:
    truths, found = random_frames(11, ties=False)
    order = np.random.default_rng(0).permutation(len(truths))
    shuffled = [truths[k] for k in order], [found[k] for k in order]
    assert ap50(*shuffled, protocol) == pytest.approx(ap50(truths, found, protocol), abs=1e-12)


def test_wrong_questions_are_told() -> None:
    truth, found = one([1, 1, 9, 9]), found_of([[1, 1, 9, 9]], [0.5], [3])
    with pytest.raises(UsageError, match="no name: there are 3 classes"):
        evaluate([truth], [found], NAMES)
    with pytest.raises(UsageError, match="protocol is one of plain, vid-mega"):
        evaluate([truth], [found], NAMES, "coco")
    with pytest.raises(UsageError, match="as many frames"):
        evaluate([truth], [], NAMES)
    with pytest.raises(ValueError, match="finite"):
        found_of([[np.nan, 0, 1, 1]], [1], [0])
