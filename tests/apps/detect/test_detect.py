"""`retain detect` from a source to a folder, with a stage that knows the answer in place of a
network."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import detect_app_parts as parts
import media
import numpy as np
import pytest
import torch
from command_parts import Retain, Said
from PIL import Image

from retain.apps.detect import run as job
from retain.apps.detect.judge import judge, open_truth
from retain.datasets.detect.source import ClipSource, has_boxes
from retain.models.mamba import weights
from retain.models.mamba.gated import Gated, GatedConfig

FRAMES, RATE = 30, 25
OBJECTS = "objects://?seed=5&clips=2&frames=12&width=96&height=72"


@pytest.fixture
def detect(retain: Retain, monkeypatch: pytest.MonkeyPatch) -> Retain:
    """Run `retain detect`, without a network."""
    monkeypatch.setattr(job, "STAGE", "detect_app_parts:Squares")

    def run(*words: object, runner: str = "inline") -> Said:
        return retain("detect", "--no-page", "--runner", runner, *words)

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.write_video(
        tmp_path_factory.mktemp("clip") / "squares.mp4",
        FRAMES,
        size=parts.SIZE,
        rate=RATE,
        draw=parts.picture,
    )


@dataclass(frozen=True)
class Result:
    """A run's folder, exit code and what it said."""

    out: Path
    code: int
    said: str


def result_of(source: str, out: Path, **options: Any) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "STAGE", "detect_app_parts:Squares")
        said = io.StringIO()
        asked = job.DetectOptions(source=source, out=out, page=False, runner="inline", **options)
        with contextlib.redirect_stdout(said):
            done = job.detect(asked, job.tell)
    return Result(out, done.exit_code, said.getvalue())


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result_of(str(clip), tmp_path_factory.mktemp("whole") / "out", host="cut")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return result_of(OBJECTS, tmp_path_factory.mktemp("judged") / "out", host=OBJECTS)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_what_a_run_leaves(whole: Result) -> None:
    assert whole.code == 0
    assert {path.name for path in whole.out.iterdir()} == {
        "detections.json", "overlay.mp4", "report.html", "results.jsonl", "summary.json",
        "tracks.txt",
    }  # fmt: skip
    assert [path.name for path in whole.out.parent.iterdir()] == ["out"]
    assert "the memory began anew 1x: another scene" in whole.said
    for arm in ("detector", "detector + ids", "memory", "memory + ids"):
        assert re.search(rf"^  {re.escape(arm)}  ", whole.said, re.MULTILINE)


def test_lines_hold_every_box_with_what_it_was_read_from(whole: Result) -> None:
    told = lines(whole.out)
    assert [line["seq"] for line in told] == list(range(FRAMES))
    missed = told[parts.MISSED - 1]["results"]
    assert [row["label"] for row in missed["plain"]] == ["disc"]
    square = missed["boxes"][0]
    assert square["memory"] == pytest.approx(0.8)
    assert square["supports"][0] == [parts.MISSED - 2, list(parts.square(parts.MISSED - 2)), 0.7]
    assert told[12]["results"]["recall"]["reset"] == "another scene"


def test_the_arms_differ_where_the_detector_alone_errs(whole: Result) -> None:
    arms = summary(whole.out)["arms"]
    assert arms["plain"]["boxes_per_frame"] == pytest.approx(2 - 1 / parts.MISSED)
    assert arms["bank"]["boxes_per_frame"] == 2
    assert arms["plain"]["flicker"] > arms["bank"]["flicker"] == 0
    assert arms["plain"]["ms"] < arms["bank"]["ms"]
    # A cut at frame 12 ends all tracks, and what a tracker misses is a gap.
    assert arms["bank+track"]["tracks"] == arms["plain+track"]["tracks"] == 4
    assert arms["bank+track"]["gaps"] == 0 < arms["plain+track"]["gaps"]
    assert summary(whole.out)["resets"] == {"another scene": 1}
    assert summary(whole.out)["boxes_from_memory"] == FRAMES // parts.MISSED


def test_coco_opens_what_was_written(whole: Result, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    opened = coco.COCO(str(whole.out / "detections.json"))
    assert [one["name"] for one in opened.loadCats(opened.getCatIds())] == list(parts.NAMES)
    assert len(opened.getImgIds()) == FRAMES
    first = opened.loadAnns(opened.getAnnIds(imgIds=[1]))
    x0, y0, x1, y1 = parts.square(0)
    assert first[0]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert first[0]["score"] == pytest.approx(0.9)
    results = opened.loadRes(list(opened.anns.values()))
    assert len(results.anns) == len(opened.anns) == 2 * FRAMES
    capsys.readouterr()


def test_mot_counts_from_one(whole: Result) -> None:
    rows = [line.split(",") for line in (whole.out / "tracks.txt").read_text().splitlines()]
    assert {len(row) for row in rows} == {10}
    frame, track, x, y, width, height, *_ = map(float, rows[0])
    # An id is given in the second frame a thing is seen in.
    assert (frame, track) == (2, 1)
    assert (x, y, width, height) == (parts.square(1)[0] + 1, 21, 30, 30)
    assert {int(row[1]) for row in rows} == {1, 2, 3, 4}


def test_the_overlay_shows_both_and_keeps_time(whole: Result) -> None:
    data = (whole.out / "overlay.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(whole.out / "overlay.mp4")) as file:
        video = file.streams.video[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.width > 2 * 480 - 1 > 360, "small clips are enlarged, two beside each other"
        frames = list(file.decode(video))
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert times == pytest.approx([k / RATE for k in range(FRAMES)], abs=1e-3)
    shown = frames[parts.MISSED - 1].to_ndarray(format="rgb24").astype(int)
    left, right = shown[:, : video.width // 2], shown[:, video.width // 2 :]
    pink = [
        (part[..., 0] > 180) & (part[..., 1] < 110) & (part[..., 2] > 130) for part in (left, right)
    ]
    assert pink[0].sum() < 20 < pink[1].sum(), "what memory gave is marked"


def test_the_report_stands_alone_and_shows_what_memory_did(whole: Result) -> None:
    text = (whole.out / "report.html").read_text()
    assert not re.search(r"https?://|url\(|@import", text)
    assert text.count("<script") == 1
    assert "detector + ids" in text
    assert text.count('<svg class="lives"') == 1
    assert text.count('class="anew"') == 1
    assert text.count('class="recalled"') >= FRAMES // parts.MISSED
    cards = re.findall(r'<article class="card">.*?</article>', text, re.DOTALL)
    assert cards
    assert all("80 % of the box comes from memory" in card for card in cards)
    assert all("data:image/jpeg" in card and "· 70 %" in card for card in cards)
    assert "no truth" in text


def test_with_a_truth_it_is_judged(judged: Result) -> None:
    arms = {arm: one["truth"] for arm, one in summary(judged.out)["arms"].items()}
    assert arms["bank"]["ap50"] == pytest.approx(1.0)
    assert arms["plain"]["ap50"] < 1
    assert arms["plain"]["lost"] > arms["bank"]["lost"] == 0
    assert arms["bank"]["never"] == 0
    assert arms["bank"]["idf1"] is None
    assert arms["plain+track"]["idf1"] <= arms["bank+track"]["idf1"] <= 1
    assert "AP50" in judged.said
    assert "true boxes in 24 frames" in (judged.out / "report.html").read_text()
    told = lines(judged.out)
    assert [(line["clip"], line["frame"]) for line in told] == [
        (clip, frame) for clip in (0, 1) for frame in range(12)
    ]


def test_classes_that_were_not_asked_for_are_not_missed(judged: Result) -> None:
    names = summary(judged.out)["classes"]
    told = [line["results"]["boxes"] for line in lines(judged.out)]
    some = max(names, key=lambda name: sum(row["label"] == name for rows in told for row in rows))
    clips = open_truth(OBJECTS)
    part = judge(judged.out / "results.jsonl", clips, names, 0.3, [some])
    whole = judge(judged.out / "results.jsonl", clips, names, 0.3)
    assert part.objects == sum(row["label"] == some for rows in told for row in rows)
    assert 0 < part.objects < whole.objects
    assert part.arms["bank"].never == 0


def test_clips_play_one_after_the_other_with_a_gap_between() -> None:
    source = ClipSource(OBJECTS, stream="s")
    info = source.open()
    assert (info.declared_frames, info.width, info.height, info.kind) == (24, 96, 72, "finite")
    frames = list(source.frames())
    assert [frame.seq for frame in frames] == list(range(24))
    assert [frame.seq for frame in frames if frame.discontinuity] == [12]
    assert np.diff([frame.pts for frame in frames]).min() > 0
    assert len(list(ClipSource(OBJECTS, limit=5).frames())) == 5
    assert has_boxes(OBJECTS)
    assert not any(map(has_boxes, ("0", "-", "rtsp://camera", "nothing.mp4", "")))


def test_switches_leave_things_out(detect: Retain, clip: Path) -> None:
    said = detect(
        clip, "--host", "squares", "--out", "out", "--track", "none", "--no-compare", "--no-coco"
    )
    assert said.code == 0, said.err
    assert {path.name for path in Path("out").iterdir()} == {
        "overlay.mp4", "report.html", "results.jsonl", "summary.json",
    }  # fmt: skip
    assert list(summary(Path("out"))["arms"]) == ["bank"]
    assert "boxes have no ids" in Path("out/report.html").read_text()


def test_both_runners_give_the_same(detect: Retain, clip: Path) -> None:
    for runner in ("inline", "local"):
        said = detect(clip, "--host", "squares", "--out", runner, runner=runner)
        assert said.code == 0, said.err
    for name in ("results.jsonl", "detections.json", "tracks.txt"):
        assert Path("inline", name).read_bytes() == Path("local", name).read_bytes(), name


def test_nothing_found_is_a_result(detect: Retain, clip: Path) -> None:
    said = detect(clip, "--host", "empty", "--out", "out")
    assert said.code == 0, said.err
    assert "0 boxes" in said.out
    assert json.loads(Path("out/detections.json").read_text())["annotations"] == []
    assert Path("out/tracks.txt").read_text() == ""
    report = Path("out/report.html").read_text()
    assert "no box that owes its score to memory" in report
    assert "Nothing was found for long enough" in report


def test_a_single_picture_has_no_ids_and_says_so(detect: Retain, clip: Path) -> None:
    words = "--track none counts all"
    said = detect(clip, "--host", "squares", "--limit", 1, "--out", "one")
    assert said.code == 0, said.err
    assert "0 boxes" in said.out
    assert words in said.out
    assert "none is drawn" in Path("one/report.html").read_text()
    assert json.loads(Path("one/detections.json").read_text())["annotations"]
    more = ["--host", "squares", "--limit", 1, "--track", "none", "--out", "all"]
    assert words not in detect(clip, *more).out
    assert words not in detect(clip, "--host", "empty", "--limit", 1, "--out", "empty").out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nothing.mp4"], 1, "nothing.mp4"),
        (["note.txt", "--host", "squares"], 1, "note.txt"),
        (["CLIP", "--host", "odd"], 2, "There is no detector 'odd'. Did you mean 'small'?"),
        (["CLIP", "--names", "none.txt"], 2, "There is no file 'none.txt'"),
        (["objects://?sed=3"], 2, "Did you mean 'seed'?"),
        (["objects://?degraded=much"], 2, "much"),
        (["objects://?clips=99999999999"], 2, "at most 1,000,000 frames"),
        ([OBJECTS, "--host", "squares"], 2, "no class in common: square, disc against"),
    ],
)
def test_what_cannot_work_is_one_sentence(
    detect: Retain, clip: Path, arguments: list[str], code: int, sentence: str
) -> None:
    Path("note.txt").write_text("not a video")
    said = detect(*(str(clip) if word == "CLIP" else word for word in arguments))
    assert said.code == code, said.err
    assert sentence in said.err.replace("\n", " ")
    assert "Traceback" not in said.err
    assert said.out == ""
    assert [path.name for path in Path().iterdir()] == ["note.txt"]


def test_it_is_said_that_the_small_detector_knows_little(detect: Retain, clip: Path) -> None:
    assert "knows nothing but the generated objects" in detect(clip, "--out", "a").err
    assert "knows nothing" not in detect(OBJECTS, "--host", OBJECTS, "--out", "b").err


def test_frames_of_another_size_fit_into_the_first_ones_place(detect: Retain) -> None:
    folder = Path("frames")
    folder.mkdir()
    for seq in range(6):
        size = parts.SIZE if seq < 3 else (120, 160)
        Image.fromarray(parts.picture(seq, size)).save(folder / f"{seq}.png")
    said = detect(folder, "--host", "squares", "--out", "out")
    assert said.code == 0, said.err
    assert [line["size"] for line in lines(Path("out"))] == [[160, 120]] * 3 + [[120, 160]] * 3
    with av.open("out/overlay.mp4") as file:
        assert len({(f.width, f.height) for f in file.decode(video=0)}) == 1


def test_a_video_that_breaks_leaves_what_there_was(detect: Retain) -> None:
    whole = media.write_video(
        Path("torn.avi"), FRAMES, codec="mpeg4", size=parts.SIZE, draw=parts.picture
    )
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    said = detect("torn.avi", "--host", "squares", "--out", "out")
    assert said.code == 1
    assert 0 < len(lines(Path("out"))) < FRAMES
    assert "This run is incomplete" in Path("out/report.html").read_text()
    assert summary(Path("out"))["complete"] is False


@pytest.mark.parametrize("kind", ["no weights", "another network", "another detector's read-out"])
def test_weights_that_do_not_fit_are_one_sentence(
    detect: Retain, clip: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With the real stage."""
    monkeypatch.setattr(job, "STAGE", "retain.models.mamba.stage:Detect")
    if kind == "no weights":
        Path("host.pth").write_bytes(b"PK")
    elif kind == "another network":
        torch.save({"model": {"fc.weight": torch.zeros(3, 3)}}, "host.pth")
    else:
        readout = Gated(GatedConfig(8, 160))
        weights.save(Path("bank.safetensors"), {"gated": readout}, parts.Colours(), {})
    bank = ["--bank", "bank.safetensors"] if "read-out" in kind else ["--host", "host.pth"]
    before = sorted(Path().iterdir())
    said = detect(clip, *bank, "--out", "out")
    assert said.code in (1, 2)
    assert said.out == ""
    last = said.err.strip().splitlines()
    assert "Traceback" not in said.err
    assert any(word in said.err for word in ("host.pth", "trained for another detector")), last
    assert sorted(Path().iterdir()) == before
