"""`retain eval set`: data sets as they lie on disk, judged as their papers judge them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detect_parts import Renamed
from media import write_video

from retain.apps.evaluate_sets import davis, detection, echo, protocols, scene
from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, chosen
from retain.datasets.detect.base import IGNORE, truth_of
from retain.datasets.detect.open import open_clips
from retain.datasets.detect.write import write_clips
from retain.datasets.echo import metrics
from retain.datasets.echo.camus import Camus
from retain.datasets.echo.clip import CAVITY, EchoClip
from retain.datasets.echo.echonet import EchoNet
from retain.datasets.echo.export import Fault, write_camus, write_echonet
from retain.datasets.echo.phantom import PhantomConfig, make_clip
from retain.datasets.scene.room import Room
from retain.datasets.scene.write import write_scene
from retain.models.object.evaluate import score
from retain.models.object.features import Features
from retain.models.object.tracker import TrackerOptions
from retain.pipeline.errors import StateError, UsageError


@pytest.fixture(scope="module")
def clips() -> list[EchoClip]:
    config = PhantomConfig(size=112, frames=10)
    return [
        replace(
            make_clip(9_100_000 + k, config), name=f"clip{k}", patient=f"p{k // 2}",
            view=("2CH", "4CH")[k % 2], split="test",
        )
        for k in range(4)
    ]  # fmt: skip


def tables(path: Path, out: Path, **more: object) -> dict[str, Table]:
    options = SetOptions(path=str(path), out=out, **more)  # type: ignore[arg-type]
    assert protocols.evaluate(options) == 0
    held = json.loads((out / "tables.json").read_text())
    return {one["title"]: Table(**one) for one in held}


def test_echonet_is_judged_on_traced_frames(
    clips: list[EchoClip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_echonet(tmp_path / "set", clips, {"clip3": Fault.NO_TRACING})
    found = tables(tmp_path / "set", tmp_path / "out")
    dice, ef = found.values()
    assert "EchoNet-Dynamic, test" in dice.title
    both = {row[0]: row[1:] for row in dice.rows}
    assert both["Dice, both"][3:] == [3, 2]  # videos, and phases without a tracing
    # The same by hand, of one video.
    clip = next(EchoNet(tmp_path / "set").clips("test"))
    seen = echo.segmented(clip, "", "cavity", "cpu")
    wanted = metrics.dice(seen[clip.ed] == CAVITY, clip.masks[clip.ed] == CAVITY)
    facts = next(
        held["facts"]
        for path in (tmp_path / "out/items").iterdir()
        if (held := json.loads(path.read_text()))["item"].startswith(clip.name)
    )
    assert facts["cavity ED"]["dice"] == pytest.approx(wanted)
    assert wanted > 0.7
    assert ef.rows[0][1] == 3
    assert "Not for diagnosis" in capsys.readouterr().out


def test_camus_is_judged_per_structure_in_millimetres(
    clips: list[EchoClip], tmp_path: Path
) -> None:
    write_camus(tmp_path / "set", clips)
    scores, clinical = tables(tmp_path / "set", tmp_path / "out").values()
    assert "CAMUS, test" in scores.title
    rows = {row[0]: row[1:] for row in scores.rows}
    assert set(rows) == {
        f"{name}, {phase}" for name in ("cavity", "myocardium", "atrium") for phase in ("ED", "ES")
    }
    assert rows["cavity, ED"][0] > 0.7
    assert 0 < rows["cavity, ED"][4] < rows["cavity, ED"][2]  # mean distance below HD95
    assert rows["cavity, ED"][6:] == [4, 0]
    lines = {row[0]: row[1:] for row in clinical.rows}
    assert lines["EF, biplane disks"][0] == 2  # patients with both views
    # What is found of the reference's own masks is the reference.
    reader = Camus(tmp_path / "set")
    one = next(reader.clips("test"))
    runs = echo._pixels(one.masks[one.ed] == CAVITY)
    assert np.array_equal(echo._mask(runs, one.masks.shape[1:]), one.masks[one.ed] == CAVITY)


def test_a_run_goes_on_and_other_options_are_refused(
    clips: list[EchoClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_echonet(tmp_path / "set", clips)
    first = tables(tmp_path / "set", tmp_path / "out", limit=2)
    assert any("--limit" in note for table in first.values() for note in table.notes)
    done: list[str] = []
    plain = echo.segmented
    monkeypatch.setattr(
        echo, "segmented", lambda clip, *more: done.append(clip.name) or plain(clip, *more)
    )
    whole = tables(tmp_path / "set", tmp_path / "out")
    assert done == ["clip2", "clip3"]
    assert whole == tables(tmp_path / "set", tmp_path / "out")
    with pytest.raises(StateError, match="other options"):
        tables(tmp_path / "set", tmp_path / "out", weights="mini-all")


def test_a_clip_without_a_fan_scores_nothing_and_says_why(
    clips: list[EchoClip], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(100, 120, clips[0].frames.shape, np.uint8)
    write_echonet(tmp_path / "set", [clips[0], replace(clips[1], frames=noise)])
    dice = next(iter(tables(tmp_path / "set", tmp_path / "out").values()))
    assert {row[0]: row[1:] for row in dice.rows}["Dice, ED"][0] < 0.6
    facts = [json.loads(path.read_text())["facts"] for path in (tmp_path / "out/items").iterdir()]
    assert sorted(bool(one["why"]) for one in facts) == [False, True]


@pytest.mark.slow
def test_a_scene_is_judged_by_its_path_and_unseen_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "FINISH", 5)
    monkeypatch.setattr(scene, "WIDTH", 96)
    for seed in (1, 2):
        write_scene(Room(seed, frames=16, width=96, height=72), tmp_path / f"set/r{seed}", "tum")
    (table,) = tables(tmp_path / "set", tmp_path / "out").values()
    assert table.title.startswith("tum: 2 sequences")
    rows = {row[0]: dict(zip(table.head[1:], row[1:], strict=True)) for row in table.rows}
    assert set(rows) == {"r1", "r2", "mean"}
    assert rows["r1"]["frames"] == 16
    assert 0 < rows["r1"]["ATE cm"] < 10
    assert rows["r1"]["PSNR dB"] > 15
    assert rows["mean"]["ATE cm"] == pytest.approx(
        (rows["r1"]["ATE cm"] + rows["r2"]["ATE cm"]) / 2
    )


def test_davis_is_judged_by_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(davis, "OPTIONS", TrackerOptions(side=72))
    made = open_clips("objects://?seed=40&clips=2&frames=6&width=96&height=72")
    write_clips([made[0], made[1]], tmp_path, "davis")
    clips = open_clips(str(tmp_path))
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    first = clips[0].name
    (tmp_path / "ImageSets/2017/val.txt").write_text(f"{first}\n")
    (table,) = tables(tmp_path, tmp_path / "out").values()
    assert "2017 val" in table.title
    assert [row[0] for row in table.rows] == [first, "all 1"]
    numbers = dict(zip(table.head[1:], table.rows[-1][1:], strict=True))
    by_hand = score(clips[0], davis.OPTIONS, Features()).all
    assert numbers["J mean"] == pytest.approx(by_hand.j.mean)
    assert numbers["F recall"] == pytest.approx(by_hand.f.recall)
    assert numbers["J&F"] == pytest.approx((numbers["J mean"] + numbers["F mean"]) / 2)
    assert table.rows[0][1:7] == table.rows[1][1:7]


def test_boundaries_are_judged_at_ten_distances(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 255, (6, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
                     for _ in range(2))  # fmt: skip
    write_video(
        tmp_path / "seen.mp4", 60, size=(128, 96), rate=10,
        draw=lambda k: before if k < 30 else after,
    )  # fmt: skip
    clip = {
        "fps": 10.0, "video_duration": 6.0, "num_frames": 60, "f1_consis_avg": 0.8,
        "f1_consis": [0.8], "substages_timestamps": [[3.0]],
    }  # fmt: skip
    gone = {**clip, "substages_timestamps": [[1.0]]}
    (tmp_path / "k400_mr345_val.pkl").write_bytes(pickle.dumps({"seen": clip, "gone": gone}, 4))
    (table,) = tables(tmp_path, tmp_path / "out").values()
    assert table.head[1:] == [f"{k / 20:.2f}" for k in range(1, 11)] + ["mean"]
    assert table.rows[0][1:] == [1.0] * 11
    assert any("1 are not there" in note for note in table.notes)
    assert not any("another number" in note for note in table.notes)
    (tmp_path / "gone.mp4").write_bytes(b"nothing")
    options = SetOptions(path=str(tmp_path), out=tmp_path / "out1")
    assert protocols.evaluate(options) == 3  # the other one is judged
    (tmp_path / "gone.mp4").unlink()
    half = pickle.dumps({"seen": {**clip, "num_frames": 120, "fps": 20.0}}, 4)
    (tmp_path / "k400_mr345_val.pkl").write_bytes(half)
    (table,) = tables(tmp_path, tmp_path / "out2").values()
    assert any("seen, have another number of frames" in note for note in table.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no annotations"):
        tables(tmp_path / "empty", tmp_path / "out4", protocol="gebd")
    (tmp_path / "seen.mp4").write_bytes(b"nothing")
    with pytest.raises(UsageError):
        tables(tmp_path, tmp_path / "out3")


def renamed(places: tuple[str, ...]) -> list[Renamed]:
    made = open_clips("objects://?seed=40&clips=2&frames=8")
    return [Renamed(made[k], places) for k in range(2)]


def test_vid_is_judged_by_speed_in_the_classes_both_know(tmp_path: Path) -> None:
    names = ("car", "airplane", "bird", "whale", "dog", "watercraft", "train", "turtle")
    write_clips(renamed(names), tmp_path, "imagenet-vid")
    (table,) = tables(tmp_path, tmp_path / "out").values()
    assert [row[0] for row in table.rows] == ["the detector alone", "with its memory"]
    assert any("Of 30 classes 3 are known" in note for note in table.notes)
    for row in table.rows:
        assert row[6] > 0
        assert 0 <= row[1] <= 100


def test_mot_is_scored_by_its_own_evaluator(tmp_path: Path) -> None:
    pytest.importorskip("trackeval", reason="assets.txt is not installed")
    names = ("car", "pedestrian", "bicycle", "motorbike", "crowd", "occluder", "reflection",
             "occluder full")  # fmt: skip
    write_clips(renamed(names), tmp_path, "mot")
    (table,) = tables(tmp_path, tmp_path / "out").values()
    assert len(table.rows) == 2 * 2 + 2
    assert table.rows[-1][0] == "all 2: with its memory"
    # The truth, called what it is, is without fault.
    from retain.datasets.detect.mot import Mot

    clip = Mot(tmp_path)[0]
    seen = [clip.truth(k) for k in range(len(clip))]
    perfect = [
        [[*map(float, box), 1.0, label, track]
         for box, label, track in zip(t.boxes, t.labels, t.tracks, strict=True)]
        for t in seen
    ]  # fmt: skip
    wanted = clip.names.index("pedestrian")
    scores = [m.eval_sequence(
                  detection.mot_data(seen, perfect, wanted, detection._distracting(clip)))
              for m in detection._track_eval()]  # fmt: skip
    if any((t.real & (t.labels == wanted)).any() for t in seen):
        assert detection._mot_numbers(scores) == (100.0, 100.0, 100.0, 100.0, 100.0, 0, 0, 0)


def test_boxes_on_people_who_do_not_count_are_neither_right_nor_wrong() -> None:
    boxes = [[0, 0, 10, 20], [50, 0, 60, 20]]
    truth = truth_of((100, 50), boxes, [0, 6], [1, 2], [0, IGNORE])
    rows = [[0, 0, 10, 20, 0.9, 0, 7], [50, 0, 60, 20, 0.9, 0, 8], [80, 0, 90, 20, 0.9, 0, 9],
            [0, 0, 10, 20, 0.9, 0, -1]]  # fmt: skip
    data = detection.mot_data([truth], [rows], 0, [6])
    assert data["num_gt_dets"] == 1
    assert data["num_tracker_dets"] == 2  # the right one and the one on nothing
    assert data["tracker_ids"][0].tolist() == [0, 1]
    np.testing.assert_allclose(data["similarity_scores"][0], [[1.0, 0.0]])


def test_boxes_on_cars_and_people_marked_zero_are_wrong_as_in_the_benchmark() -> None:
    """Against TrackEval's own preprocessing, class by class."""
    pytest.importorskip("trackeval", reason="assets.txt is not installed")
    from trackeval.datasets import MotChallenge2DBox

    from retain.datasets.detect.mot import CLASSES

    rng = np.random.default_rng(0)
    for benchmark in ("MOT17", "MOT20"):
        rows = []
        for label in [0, 0, *range(len(CLASSES))]:
            x, y = rng.integers(0, 400, 2)
            rows.append((label, [x, y, x + 20, y + 40], int(label == 0 and len(rows) != 1)))
        boxes = np.array([box for _, box, _ in rows], np.float32)
        labels = np.array([label for label, _, _ in rows])
        counts = np.array([count for _, _, count in rows])
        found = np.concatenate([boxes + 1, [[600, 0, 620, 40]]]).astype(np.float32)

        theirs = MotChallenge2DBox.__new__(MotChallenge2DBox)
        theirs.benchmark, theirs.do_preproc = benchmark, True
        theirs.class_name_to_class_id = {n.replace(" ", "_"): k + 1 for k, n in enumerate(CLASSES)}
        theirs.class_name_to_class_id["non_mot_vehicle"] = (
            CLASSES.index("non motorized vehicle") + 1
        )
        theirs.valid_class_numbers = list(range(1, len(CLASSES) + 1))
        truth = truth_of((640, 480), boxes, labels, range(len(boxes)), IGNORE * (counts == 0))
        clip = Renamed(open_clips("objects://?seed=40&clips=1&frames=8")[0], CLASSES)
        clip.name, clip.names = f"{benchmark}-01", CLASSES
        wanted = theirs.get_preprocessed_seq_data({
            "gt_ids": [np.arange(len(boxes))], "tracker_ids": [np.arange(len(found))],
            "gt_dets": [boxes], "tracker_dets": [found], "gt_classes": [labels + 1],
            "tracker_classes": [np.ones(len(found), int)],
            "tracker_confidences": [np.ones(len(found))],
            "similarity_scores": [detection.box_iou(boxes, found)],
            "gt_extras": [{"zero_marked": counts}], "num_timesteps": 1, "seq": "x",
        }, "pedestrian")  # fmt: skip
        ours = detection.mot_data(
            [truth], [[[*box, 1.0, 0, k] for k, box in enumerate(found.tolist())]], 0,
            detection._distracting(clip),
        )  # fmt: skip
        assert ours["num_gt_dets"] == wanted["num_gt_dets"]
        assert ours["num_tracker_dets"] == wanted["num_tracker_dets"]
        np.testing.assert_allclose(ours["similarity_scores"][0], wanted["similarity_scores"][0])


def test_sequences_of_one_name_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scene_ in ("chess", "fire"):
        write_scene(Room(1, frames=2, width=32, height=24), tmp_path / scene_ / "seq-01", "tum")
    monkeypatch.setattr(scene, "_facts", lambda place, out: {"error": f"{place.parent.name}"})
    kept = Kept(tmp_path / "out", SetOptions(path=str(tmp_path)))
    with pytest.raises(UsageError, match="No scene"):
        list(scene.scene(SetOptions(path=str(tmp_path)), kept, lambda *told: None))
    assert not list((tmp_path / "out/items").iterdir())  # tried again the next time
    facts = dict.fromkeys(scene._FACTS, 1.0) | {"states": {}, "ms_per_frame": {}}
    monkeypatch.setattr(
        scene, "_facts", lambda place, out: facts | {"gaussians": len(str(place.parent.name))}
    )
    (table,) = scene.scene(SetOptions(path=str(tmp_path)), kept, lambda *told: None)
    assert [(row[0], row[9]) for row in table.rows[:2]] == [("chess/seq-01", 5), ("fire/seq-01", 4)]
    kept.close()


@pytest.mark.parametrize("when", ["stream", "finish"])
def test_a_scene_that_was_broken_off_is_not_kept(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(Room(1, frames=2, width=32, height=24), tmp_path / "set", "tum")

    def stopped(options: object, tell: object) -> object:
        options.out.mkdir(parents=True)  # type: ignore[attr-defined]
        (options.out / "summary.json").write_text('{"refined_steps": 20}')  # type: ignore[attr-defined]
        return scene.job.Finished(
            out=tmp_path, exit_code=scene.INTERRUPTED if when == "stream" else 0, journal=None
        )

    monkeypatch.setattr(scene.job, "reconstruct", stopped)
    with pytest.raises(KeyboardInterrupt):
        tables(tmp_path / "set", tmp_path / "out")
    assert not list((tmp_path / "out/items").iterdir())


def test_a_table_of_nothing_is_none(clips: list[EchoClip], tmp_path: Path) -> None:
    write_echonet(tmp_path / "set", clips[:1])
    with pytest.raises(UsageError, match="No clip") as told:
        tables(tmp_path / "set", tmp_path / "out", split="train")
    assert "--split" in told.value.hint
    for path in (tmp_path / "set/Videos").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="No clip") as told:
        tables(tmp_path / "set", tmp_path / "out2")
    assert "clip0" in told.value.hint


def test_a_stream_that_was_stopped_is_not_refined_first(tmp_path: Path) -> None:
    from retain.apps.reconstruct.run import ReconstructOptions, _write_outputs

    report = SimpleNamespace(stopped="drained", errors=())
    journal = SimpleNamespace(reached=False)
    options = ReconstructOptions(source="room://", whole=True)
    with pytest.raises(KeyboardInterrupt):
        _write_outputs(options, None, tmp_path, report, journal, 1.0)  # type: ignore[arg-type]


def test_weights_that_are_none_or_have_changed_are_refused(
    clips: list[EchoClip], tmp_path: Path
) -> None:
    write_echonet(tmp_path / "set", clips[:1])
    with pytest.raises(UsageError, match="minni"):
        tables(tmp_path / "set", tmp_path / "out", weights="minni")
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    options = SetOptions(path=str(tmp_path), weights=str(file))
    Kept(tmp_path / "kept", options).close()
    Kept(tmp_path / "kept", options).close()
    file.write_bytes(b"two")
    with pytest.raises(StateError, match="weights"):
        Kept(tmp_path / "kept", options)
    with pytest.raises(UsageError, match="no network to choose"):
        chosen(SetOptions(path=str(tmp_path), protocol="gebd", weights="x"), protocols.PROTOCOLS)


def test_part_of_davis_is_judged_and_a_split_that_is_not_there_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(davis, "OPTIONS", TrackerOptions(side=72))
    made = open_clips("objects://?seed=40&clips=1&frames=6&width=96&height=72")
    write_clips([made[0]], tmp_path, "davis")
    with pytest.raises(UsageError, match="no split 'train'"):
        tables(tmp_path, tmp_path / "out", split="train")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    listed = tmp_path / "ImageSets/2017/val.txt"
    listed.write_text(f"{made[0].name}\ngone\n")
    (table,) = tables(tmp_path, tmp_path / "out2").values()
    assert "1 of 2 sequences are not there: gone." in table.notes
    listed.write_text("gone\n")
    with pytest.raises(UsageError, match="None of the 1"):
        tables(tmp_path, tmp_path / "out3")
