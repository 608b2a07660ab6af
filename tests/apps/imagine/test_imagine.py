"""`retain imagine` from a source to its folder."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import av
import imagine_parts as parts
import numpy as np
import pytest
from command_parts import exit_code

from retain.apps import demo
from retain.apps.catalogs import CATALOGS
from retain.apps.imagine import run
from retain.apps.imagine.curve import ROOM, History, Moment, Moments, Point, curve_svg
from retain.apps.imagine.errors import Errors
from retain.pipeline.errors import UsageError
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.run import start

WORLD = "worlds://ball?clips=6&scale=4"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parts.weights(tmp_path_factory.mktemp("weights"))


def went(out: Path, weights: str, source: str = WORLD, **options: Any) -> run.Imagined:
    asked = run.ImagineOptions(
        source=source, out=out, weights=weights, page=False, runner="inline", samples=2, **options
    )
    return run.imagine(asked, run.tell)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())  # type: ignore[no-any-return]


def shown(out: Path) -> list[np.ndarray]:
    with av.open(str(out / "imagine.mp4")) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_novelty_of_every_clip(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert went(out, weights).exit_code == 0
    told = [line["results"]["novelty"] for line in lines(out) if line["results"]]
    assert [one["first"] for one in told] == [0, 8, 16, 24, 32, 40]
    assert told[0]["score"] is None
    assert told[5]["score"] == told[5]["guided"] - told[5]["alone"]
    assert len(told[5]["references"]) == 3
    assert len(lines(out)) == len(shown(out)) == 48
    assert summary(out)["clips"] == 6
    assert summary(out)["clips_without_references"] == 1
    said = capsys.readouterr()
    assert "6 clips, 1 of them before there were references" in said.out
    assert "small generated worlds" in said.err.replace("\n", " ")
    report = (out / "report.html").read_text()
    assert '<svg class="novelty"' in report
    assert "12x12 grey" in report
    assert "of 6,912 numbers are left" in report, "48x48 RGB"


def test_predictions_stand_beside_what_came(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    went(out, weights, what="predict", ahead="0.75s")
    made = {line["seq"]: line["results"] for line in lines(out) if "prediction" in line["results"]}
    assert [seq for seq in made if seq % 8 == 1] == [1, 9, 17, 25, 33, 41]
    one = made[9]["prediction"]
    assert one["synthetic"] == [True] * 6
    assert one["seqs"] == [10, 11, 12, 13, 14, 15]
    assert len(base64.b64decode(one["frames"])) == np.prod(one["shape"]) == 6 * 144
    assert one["references"][0]["first"] == 0
    assert made[9]["plain"]["references"] == []
    facts = summary(out)
    assert facts["judged"] == 5 * 6, "the first clip had no references"
    assert facts["made_without_references"] == 6
    assert set(facts["rmse"]) == {"guided", "plain", "held"}
    assert "with references" in capsys.readouterr().out
    report = (out / "report.html").read_text()
    assert "last frame held" in report
    assert report.count("<img") >= 4 * 5
    pictures = shown(out)
    assert len(pictures) == 6 * 6 + 6, "what came, and after the end what did not"
    magenta = (pictures[0][2:4, :, 0] > 200) & (pictures[0][2:4, :, 1] < 110)
    assert 0.3 < magenta.mean() < 0.5, "two panels of five are marked as made"


def test_frames_left_out_are_filled_and_judged(weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    went(out, weights, what="fill", drop=0.3)
    made = [line["results"]["prediction"] for line in lines(out) if line["results"]]
    filled = [
        s for one in made for s, new in zip(one["seqs"], one["synthetic"], strict=True) if new
    ]
    assert len(filled) == len(set(filled)) == summary(out)["judged"] == summary(out)["frames_made"]
    assert set(summary(out)["rmse"]) == {"guided", "plain", "linear"}
    assert "linear interpolation" in (out / "report.html").read_text()


def test_the_same_run_gives_the_same_lines(weights: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        went(tmp_path / name, weights, "worlds://ball?clips=2", what="predict", ahead="4")
    assert (tmp_path / "a/results.jsonl").read_bytes() == (
        tmp_path / "b/results.jsonl"
    ).read_bytes()


def test_references_of_another_place_guide_from_the_start(weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    went(
        out, weights, what="predict", ahead="6", past=False,
        references="worlds://ball?clips=4&first=50",
    )  # fmt: skip
    assert summary(out)["made_without_references"] == 0
    named = {r["stream"] for line in lines(out) if "prediction" in line["results"]
             for r in line["results"]["prediction"]["references"]}  # fmt: skip
    assert named == {"worlds://ball?clips=4&first=50"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"source": "worlds://ball?clips=1", "limit": 5}, "5 frames, none of them 8 in a row"),
        ({"source": WORLD, "limit": 1, "what": "fill"}, "no hole that could be filled"),
        ({"references": WORLD}, "The references are the source itself"),
        ({"references": "worlds://ball?seed=0&first=5&clips=2"}, "the source itself, or hold it"),
        ({"past": False}, "There are no references: the stream's past is left out"),
        ({"drop": 0.2}, "needs --fill"),
        ({"what": "predict", "ahead": "soon"}, "takes frames, such as 12, or seconds"),
        ({"what": "predict", "ahead": "infs"}, "takes frames, such as 12, or seconds"),
        ({"what": "predict", "ahead": "1000"}, "1 to 256 frames"),
        ({"source": "worlds://bal"}, "no address of worlds"),
        ({"source": "worlds://ball?clip=3"}, "no 'clip'. Did you mean 'clips'?"),
        ({"source": "worlds://ball?clips=-3"}, "'clips' of worlds cannot be '-3'"),
        ({"references": "worlds://ball?rate=x"}, "'rate' of worlds cannot be 'x'"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(
    weights: str, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError) as told:
        went(tmp_path / "out", weights, **options)
    assert sentence in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["a.avi", "linked.avi", "pictures", "pictures/*.png"])
def test_a_source_among_the_references_is_refused(
    weights: str, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("videos", "pictures"):
        Path(folder).mkdir()
    Path("a.avi").write_bytes(b"")
    Path("linked.avi").symlink_to("a.avi")
    Path("videos/other.avi").symlink_to(tmp_path / "a.avi")
    Path("pictures/1.png").write_bytes(b"")
    references = "pictures" if "pictures" in source else "videos"
    with pytest.raises(UsageError, match="the source itself"):
        went(tmp_path / "out", weights, source=source, references=references)


def test_the_words_of_the_command_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[run.ImagineOptions] = []

    class Done:
        exit_code = 0

    monkeypatch.setattr(run, "imagine", lambda options, tell: asked.append(options) or Done())
    for words in (
        ["clip.mp4"],
        ["clip.mp4", "--continue", "2s", "--no-past", "--references", "dir"],
        ["clip.mp4", "--fill", "--drop", "0.2"],
    ):
        assert exit_code(monkeypatch, "imagine", *words) == 0
    assert [one.what for one in asked] == ["novelty", "predict", "fill"]
    assert (asked[1].ahead, asked[1].past, asked[1].references) == ("2s", False, "dir")
    assert asked[2].drop == 0.2
    assert exit_code(monkeypatch, "imagine", "clip.mp4", "--fill", "--continue", "2") == 2


def test_the_demo_foresees_a_world(
    weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"out": tmp_path / "out", "page": False, "runner": "inline"}
    code = demo.demo_imagine(asked, clips=4, change=3, weights=weights)
    assert code == 0
    assert "last frame held" in capsys.readouterr().out
    assert summary(tmp_path / "out")["judged"] == 18


def test_the_graph_of_the_documentation_runs(weights: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "docs/examples/imagine.yaml"
    results = tmp_path / "results.jsonl"
    changes = {"camera.limit": "12", "imagine.weights": weights, "log.path": str(results)}
    report = start(load_graph(path, CATALOGS, changes), runner="inline").wait(60)
    assert report.ok, report.errors
    told = [json.loads(line)["results"] for line in results.read_text().splitlines()]
    assert [set(one) for one in told if one] == [
        {"prediction", "plain"}, {"novelty", "prediction", "plain"}, {"prediction", "plain"},
    ]  # fmt: skip


def test_it_is_said_when_something_simple_is_better() -> None:
    errors = Errors()
    errors.add(1, {"guided": 9.0, "plain": 16.0, "held": 4.0}, guided=True)
    errors.add(2, {"guided": 9.0, "plain": 16.0, "held": 4.0}, guided=False)
    assert errors.mean("guided") == 3
    assert "Holding the last frame is nearer" in errors.beaten()
    assert errors.facts()["made_without_references"] == 1
    errors.add(1, {"guided": 0.0, "plain": 0.0, "held": 40.0}, guided=True)
    assert errors.beaten() == ""
    assert errors.by_distance("held") == [(1, np.sqrt(22))]


def test_frames_filled_without_references_are_not_told_as_guided() -> None:
    errors = Errors()
    found = {"guided": 9.0, "plain": 9.0, "linear": 16.0}
    errors.add(1, found, guided=False, needed=False)
    assert [row[0] for row in errors.rows()[1:]] == ["without references", "linear interpolation"]
    assert errors.alone() == "There were no references for any of them."
    assert not errors.groups
    errors.add(1, found, guided=True, needed=False)
    assert "with references" in [row[0] for row in errors.rows()]
    assert "For 1 of them there were no references" in errors.alone()
    assert errors.facts()["made_without_references"] == len(errors.groups) == 1


def test_what_references_are_worth_has_an_interval() -> None:
    errors = Errors()
    for n in range(20):
        assert (errors.gain() == "") == (n < 10)
        for ahead in (1, 2, 3):
            errors.add(ahead, {"guided": 1.0 + n % 3, "plain": 4.0 * (1 + n % 3)}, guided=True)
    assert "by -50 % (95 % interval -50 to -50, 20 stretches" in errors.gain()


def test_the_history_is_bounded_and_keeps_peaks() -> None:
    history = History()
    for n in range(5000):
        history.add(Point(float(n), n, 5.0 if n == 1234 else 0.1, 1.0, n == 1234))
    assert len(history.points) <= ROOM
    assert [p.seq for p in history.points if p.new] == [1234]
    assert "circle" not in curve_svg(history.points, [])
    assert curve_svg(history.points[:1], []) == ""


def test_moments_that_overlap_are_one() -> None:
    moments = Moments()
    for seq, score in ((10, 1.0), (14, 3.0), (17, 2.0), (40, 1.5)):
        moments.add(Moment(float(seq), seq - 7.0, seq, score, 0.5, b""))
    assert [one.seq for one in moments.best] == [14, 40]
