"""The Kinetics-GEBD protocol on cases made by hand, and its annotation file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retain.datasets.boundaries.base import Clip, Counts
from retain.datasets.boundaries.gebd import (
    RELATIVE,
    Annotated,
    evaluate,
    judge_clip,
    main,
    mean_f1,
    read_found,
    read_gebd,
)
from retain.pipeline.errors import SourceError, UsageError


def clip(
    *annotators: list[float], name: str = "a", duration: float = 10.0, agreement: float = 0.9
) -> Annotated:
    bare = Clip(name, 25.0, 250, [], lambda: iter(()))
    return Annotated(bare, duration, agreement, list(annotators))


@pytest.mark.parametrize(
    ("relative", "found", "expected"),
    [
        (0.05, [2.5, 5.5], (2, 0, 0)),  # half a second of ten: just within
        (0.05, [2.51, 5.0], (1, 1, 1)),
        (0.10, [2.51, 5.0], (2, 0, 0)),
        (0.05, [2.0, 2.1, 5.0], (2, 1, 0)),
        (0.05, [], (0, 0, 2)),
        (0.05, [2.0, 5.0, 10.4, -0.1], (2, 0, 0)),  # outside the clip: not counted at all
        (0.05, [11.0], (0, 0, 2)),
    ],
)
def test_distance_is_relative_to_duration(
    relative: float, found: list[float], expected: tuple[int, int, int]
) -> None:
    assert judge_clip(clip([2.0, 5.0]), found, relative) == expected


def test_true_boundaries_choose_in_their_order() -> None:
    # 4.0 takes 4.4, the nearest to it, and leaves 3.2 for 4.5, which is too far: one hit, where
    # another matching would have two.
    assert judge_clip(clip([4.0, 4.9]), [4.4, 3.5], 0.05) == (1, 1, 1)
    assert judge_clip(clip([4.9, 4.0]), [4.4, 3.5], 0.05) == (2, 0, 0)


def test_the_annotator_that_suits_best_counts() -> None:
    people = clip([1.0, 2.0, 3.0, 4.0], [5.0], [5.0, 8.0])
    assert judge_clip(people, [5.1], 0.05) == (1, 0, 0)
    assert judge_clip(people, [5.1, 8.2], 0.05) == (2, 0, 0)
    assert judge_clip(people, [7.0], 0.05) == (0, 1, 4)  # all equal: the first
    assert judge_clip(people, [], 0.05) == (0, 0, 4)


def test_an_annotator_who_saw_nothing_is_no_hit() -> None:
    assert judge_clip(clip([], [5.0]), [5.0], 0.05) == (1, 0, 0)
    assert judge_clip(clip([], [5.0]), [1.0], 0.05) == (0, 1, 0)
    assert judge_clip(clip([], [5.0]), [], 0.05) == (0, 0, 0)


def test_pooled_over_clips_that_agree_and_are_answered() -> None:
    clips = [
        clip([2.0], name="a"),
        clip([2.0], name="b", agreement=0.3),
        clip([2.0], name="c", agreement=0.29),
        clip([2.0], name="d"),
    ]
    result = evaluate(clips, {"a": [2.0], "b": [9.0], "c": [9.0]})
    assert result == (Counts(1, 1, 1), 2, 1, 1)
    with pytest.raises(UsageError, match="1 whose annotators disagree, 3 without an answer"):
        evaluate(clips, {"elsewhere": [1.0]})


def test_mean_over_ten_distances() -> None:
    assert pytest.approx([0.05 * k for k in range(1, 11)]) == RELATIVE
    # 2.2 s off in ten: found from 0.25 on, that is at six of the ten distances.
    assert mean_f1([clip([2.0])], {"a": [4.2]}) == pytest.approx(0.6)


def published(gt: dict[str, Any], pred: dict[str, list[float]], threshold: float) -> Counts:
    """The challenge's evaluator in other words: a table of distances that loses columns."""
    hits = true = seen = 0
    for name, one in gt.items():
        if one["f1_consis_avg"] < 0.3 or name not in pred:
            continue
        dets = [d for d in pred[name] if 0 <= d <= one["video_duration"]]
        if not dets:
            true += len(one["substages_timestamps"][0])
            continue
        best = (-1.0, 0, 0)
        for truth in one["substages_timestamps"]:
            apart = np.abs(np.array(truth, float)[:, None] - np.array(dets, float)[None])
            tp = 0
            for row in range(len(truth)):
                if apart.shape[1] == 0:
                    break
                column = int(np.argmin(apart[row]))
                if apart[row, column] <= threshold * one["video_duration"]:
                    tp += 1
                    apart = np.delete(apart, column, 1)
            recall = tp / len(truth) if truth else 1.0
            precision = tp / len(dets)
            both = precision + recall
            f1 = 2 * precision * recall / both if both else 0.0
            if f1 > best[0]:
                best = (f1, tp, len(truth))
        hits, true, seen = hits + best[1], true + best[2], seen + len(dets)
    return Counts(hits, seen - hits, true - hits)


def test_counts_as_the_published_evaluator(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table, found = {}, {}
    for k in range(200):
        people = [np.sort(rng.uniform(0, 10, rng.integers(0, 6))).tolist() for _ in range(4)]
        table[f"v{k}"] = {
            "fps": 30.0,
            "video_duration": 10.0,
            "num_frames": 300,
            "f1_consis_avg": float(rng.uniform(0.1, 1)),
            "substages_timestamps": people,
            "path_video": f"somewhere/class/v{k}.mp4",
        }
        if k % 9:
            found[f"v{k}"] = rng.uniform(-1, 11, rng.integers(0, 7)).tolist()
    (tmp_path / "gebd.json").write_text(json.dumps(table))
    (tmp_path / "gebd.pkl").write_bytes(pickle.dumps(table, 4))
    for name in ("gebd.json", "gebd.pkl"):
        clips = read_gebd(tmp_path / name)
        for relative in (0.05, 0.2, 0.5):
            assert evaluate(clips, found, relative).counts == published(table, found, relative)
    assert clips[3].clip.missing == "v3.mp4"


def annotation(**changes: Any) -> dict[str, Any]:
    good = {
        "fps": 10.0,
        "video_duration": 4.0,
        "num_frames": 40,
        "f1_consis_avg": 0.5,
        "f1_consis": [0.4, 0.6],
        "substages_timestamps": [[1.0], [2.06, 5.0]],
    }
    return {"v": {k: v for k, v in (good | changes).items() if v is not None}}


def test_frames_are_those_of_the_most_agreeing_annotator(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(annotation()))
    (one,) = read_gebd(tmp_path / "a.json")
    assert one.clip.boundaries == [(20, 20), (39, 39)]
    assert (one.clip.fps, one.clip.length, one.duration_s) == (10.0, 40, 4.0)
    assert one.annotators == [[1.0], [2.06, 5.0]]


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": None},
        {"fps": 0},
        {"video_duration": "long"},
        {"video_duration": float("nan")},
        {"substages_timestamps": []},
        {"substages_timestamps": [[{"start_time": 1.0, "end_time": 1.2}]]},
        {"substages_timestamps": 3},
        {"num_frames": float("inf")},
    ],
)
def test_wrong_annotations_are_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(annotation(**changes)))
    with pytest.raises(SourceError, match=r"a\.json.*'v' is no annotation"):
        read_gebd(tmp_path / "a.json")


def test_wrong_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(SourceError, match="no JSON"):
        read_gebd(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(SourceError, match="no table"):
        read_gebd(tmp_path / "b.json")
    with pytest.raises(SourceError, match="cannot be read"):
        read_gebd(tmp_path / "c.json")
    (tmp_path / "d.json").write_text('{"v": 3}')
    with pytest.raises(SourceError, match="'v' is no annotation"):
        read_gebd(tmp_path / "d.json")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(annotation()))
    (tmp_path / "found.json").write_text(json.dumps({"v": [1.1]}))
    main([str(tmp_path / "a.json"), str(tmp_path / "found.json")])
    assert capsys.readouterr().out == (
        "1 clips (0 dropped, 0 unanswered): F1 at 0.05 1.0000, mean of ten distances 1.0000\n"
    )
    (tmp_path / "found.json").write_text(json.dumps({"v": ["soon"]}))
    with pytest.raises(SourceError, match="no lists of seconds"):
        read_found(tmp_path / "found.json")
    with pytest.raises(UsageError, match="Give the annotation"):
        main([])
