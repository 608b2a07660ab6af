"""The command line as a person meets it: results, one clear sentence, and the right exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import media
import psutil
import pytest
from command_parts import Retain
from waiting import until

from retain.apps.watch import WatchOptions, watch
from retain.memory.snapshot import load
from retain.pipeline.errors import UsageError

WATCH = ("watch", "--runner", "inline", "--no-page", "--encoder", "pixels")


def bad_sources(folder: Path) -> dict[str, tuple[object, str]]:
    """name -> (SOURCE, words the sentence must hold)."""
    empty = folder / "empty.mp4"
    empty.touch()
    words = folder / "text.mp4"
    words.write_text("This is no video.\n" * 50)
    bare = folder / "bare"
    bare.mkdir()
    (bare / "notes.txt").write_text("no picture")
    whole = media.write_video(folder / "whole.mp4", 30)
    return {
        "missing": (folder / "no such.mp4", "There is no file"),
        "empty": (empty, "empty"),
        "text": (words, "not a video"),
        "audio only": (media.write_audio(folder / "tune.m4a"), "no video"),
        "index cut off": (media.cut(folder / "cut.mp4", whole), "cut.mp4"),
        "no pictures": (bare, "bare"),
        "no match": (folder / "*.png", "*.png"),
        "no camera": (97, "camera"),
        "scheme": ("gopher://host/film", "gopher"),
        "synthetic": ("synthetic://sceens", "scenes"),
        "nobody there": ("http://127.0.0.1:9/x.mp4", "127.0.0.1"),
    }


@pytest.mark.parametrize("name", [
    "missing", "empty", "text", "audio only", "index cut off", "no pictures", "no match",
    "no camera", "scheme", "synthetic", "nobody there",
])  # fmt: skip
def test_a_bad_source_is_one_sentence_and_leaves_nothing(
    retain: Retain, work: Path, tmp_path: Path, name: str
) -> None:
    source, words = bad_sources(tmp_path)[name]
    said = retain(*WATCH, source)
    assert said.code in (1, 2)
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 3, said.err
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_list_of_files_comes_through_standard_input(
    retain: Retain, tmp_path: Path, runner: str
) -> None:
    clip = media.write_video(tmp_path / "clip.mp4", 10)
    command = [sys.executable, "-m", "retain.apps.cli", *WATCH, "-", "--out", "out", "--fps", "0"]
    command += ["--runner", runner]
    said = subprocess.run(command, input=f"{clip}\n{clip}\n".encode(), capture_output=True)
    assert said.returncode == 0, said.stderr
    assert json.loads(Path("out/summary.json").read_text())["frames"] == 20
    said = subprocess.run([*command, "--out", "none"], input=b"", capture_output=True)
    assert said.returncode == 1
    assert b"named no files" in said.stderr
    assert not Path("none").exists()


@pytest.mark.parametrize("runner", ["inline", "local"])
@pytest.mark.parametrize("wrong", ["--bytes=10", "--policy=best", "--encoder=nosuch"])
def test_a_wrong_option_is_wrong_usage_whoever_notices(
    retain: Retain, runner: str, wrong: str
) -> None:
    said = retain(*WATCH, "synthetic://still", wrong, "--limit", 3, "--runner", runner)
    assert said.code == 2, said.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["truncated", "scrambled"])
def test_a_damaged_file_gives_what_there_is_and_says_so(
    retain: Retain, tmp_path: Path, name: str
) -> None:
    whole = media.write_video(tmp_path / "w.mp4", 60, options={"g": "10"}, draw=media.noisy)
    source = media.faststart(tmp_path / "whole.mp4", whole)
    if name == "truncated":
        source = media.cut(tmp_path / "cut.mp4", source)
    else:
        source = media.scramble(tmp_path / "noise.mp4", source, 4000)
    said = retain(*WATCH, source, "--fps", 0, "--out", "out")
    assert said.code == 1
    assert "is damaged" in said.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["complete"] is False
    assert 0 < summary["frames"] < 60
    assert "is damaged" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    "name", ["1x1", "odd size", "10 bit", "grey 16", "alpha", "rotated", "variable rate"]
)
def test_odd_videos_are_watched(retain: Retain, tmp_path: Path, name: str) -> None:
    (tmp_path / "media").mkdir()
    source, frames, _ = media.healthy(tmp_path / "media")[name]
    said = retain(*WATCH, source, "--fps", 0, "--out", "out")
    assert said.code == 0, said.err
    assert json.loads(Path("out/summary.json").read_text())["frames"] == frames
    assert_plays_in_a_browser(Path("out/summary.mp4"))


def assert_plays_in_a_browser(path: Path) -> None:
    """H.264, 4:2:0, even sides, index before data, and every frame decodes."""
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        assert video.codec_context.name == "h264"
        assert video.codec_context.pix_fmt == "yuv420p"
        assert video.width % 2 == video.height % 2 == 0
        assert sum(1 for _ in file.decode(video)) == video.frames > 0


def test_what_a_watch_leaves(retain: Retain) -> None:
    said = retain(*WATCH, "synthetic://scenes?seconds=20&seed=3", "--out", "out")
    assert said.code == 0, said.err
    files = {path.name for path in Path("out").iterdir()}
    assert files == {
        "memory.safetensors", "report.html", "results.jsonl", "summary.json", "summary.mp4",
    }  # fmt: skip
    written = lines(Path("out/results.jsonl"))
    assert len(written) == 41
    assert {"seq", "results"} <= written[0].keys()
    assert load(Path("out/memory.safetensors")).stream == "scenes"
    report = Path("out/report.html").read_text()
    assert not [
        word for word in ('src="http', "src='http", 'href="http', "@import") if word in report
    ]
    assert_plays_in_a_browser(Path("out/summary.mp4"))


def lines(path: Path) -> list[dict[str, dict[str, object]]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


RUNS = "whole", "first", "second"


def test_a_resumed_watch_goes_on_as_if_it_had_never_stopped(retain: Retain) -> None:
    source = "synthetic://scenes?seconds=30&seed=5"
    few = ("--entries", 10)
    retain(*WATCH, source, *few, "--out", "whole")
    retain(*WATCH, source, *few, "--limit", 25, "--out", "first")
    said = retain(*WATCH, source, *few, "--resume", "first/memory.safetensors", "--out", "second")
    assert said.code == 0, said.err
    whole, first, second = (lines(Path(name, "results.jsonl")) for name in RUNS)
    assert first == whole[:25]
    routes = [line["results"]["route"] for line in second]
    assert routes == [line["results"]["route"] for line in whole[25:]]
    assert [line["seq"] for line in second] == [line["seq"] for line in whole[25:]]
    memories = [Path(name, "memory.safetensors").read_bytes() for name in RUNS]
    assert memories[2] == memories[0]
    assert memories[1] != memories[0]
    said = retain(*WATCH, source, *few, "--resume", "whole/memory.safetensors", "--out", "third")
    assert said.code == 1
    assert "all of which the resumed memory has seen" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fps", "-1"), "--fps"),
        (("--mode", "bold"), "--mode"),
        (("--encoder", "mobilnet"), "mobilenetv2"),
        (("--resume", "absent.safetensors"), "absent.safetensors"),
        (("--policy", "resevoir"), "reservoir"),
        (("--out", "."), "there already"),
        (("--out", "file/out"), "file"),
        (("--bytes", "10"), "byte"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    retain: Retain, arguments: tuple[str, ...], words: str
) -> None:
    Path("file").touch()
    said = retain(*WATCH, "synthetic://scenes?seconds=4", *arguments)
    assert said.code in (1, 2)
    assert words in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_policy_of_choice(retain: Retain) -> None:
    source = "synthetic://scenes?seconds=30&seed=5"
    held = {}
    for policy in ("reservoir", "stride"):
        few = ("--entries", 6, "--policy", policy)
        assert retain(*WATCH, source, *few, "--out", policy).code == 0
        held[policy] = Path(policy, "memory.safetensors").read_bytes()
    assert held["reservoir"] != held["stride"]


GRAPH = """
graph: g
nodes:
  cam: {{source: any, with: {{source: "synthetic://scenes?frames=5"}}}}
  out: {{sink: {sink}}}
edges:
  - cam -> {to}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GRAPH.format(sink="cuont", to="out"), "count"),
        (GRAPH.format(sink="count", to="otu"), "'out'"),
        (GRAPH.format(sink="count", to="out: {polcy: latest}"), ""),
        (GRAPH.format(sink="count", to="out -> cam"), "cam"),
        ("nodes: [", "line"),
        ("", "g.yaml"),
    ],
)
def test_a_wrong_graph_names_the_place(retain: Retain, text: str, words: str) -> None:
    Path("g.yaml").write_text(text)
    for command in ("run", "graph"):
        said = retain(command, "g.yaml")
        assert said.code == 2
        assert words in said.err
        assert "g.yaml" in said.err
        assert "Traceback" not in said.err


def test_a_graph_runs_and_is_shown(retain: Retain) -> None:
    Path("g.yaml").write_text(GRAPH.format(sink="count", to="out"))
    assert "valid" in retain("graph", "g.yaml", "--check").out
    said = retain("run", "g.yaml", "--runner", "inline", "--set", "cam.limit=3")
    assert said.code == 0, said.err
    assert "cam" in said.out


def test_help_needs_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "av", "fastapi", "zmq", "numba", "scipy", "numpy")
    code = (
        "import sys; sys.argv = ['retain', '--help']\n"
        "from retain.apps import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "watch" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ["watch", "segment", "demo", "doctor", "run", "graph", "bench"])
def test_every_command_has_help(retain: Retain, command: str) -> None:
    said = retain(command, "--help")
    assert said.code == 0
    assert f"retain {command}" in said.out


def test_the_doctor_is_well_here_and_speaks_json(retain: Retain) -> None:
    said = retain("doctor", "--json")
    document = json.loads(said.out)
    assert said.code == 0
    assert document["ok"] is True
    names = {check["name"] for check in document["checks"]}
    assert {"python", "PyAV", "torch", "ZeroMQ ipc", "/dev/shm"} <= names


def test_the_doctor_gives_a_fix_for_what_is_missing(
    retain: Retain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps import doctor

    monkeypatch.setattr(doctor, "MIN_SHM", 1 << 60)
    said = retain("doctor")
    assert said.code == 1
    assert "/dev/shm" in said.out
    assert "--shm-size" in said.out


def test_waiting_threads_do_not_spin_for_long(
    retain: Retain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    retain("--version")
    assert "GOMP_SPINCOUNT" not in os.environ  # whoever says how threads wait is heard
    monkeypatch.delenv("OMP_WAIT_POLICY")
    retain("--version")
    assert os.environ["GOMP_SPINCOUNT"] == "2000"


def test_the_doctor_sees_that_torchvision_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from retain.apps import doctor

    assert doctor._torchvision("reinstall").state == "ok"

    def refuse(path: str) -> None:
        raise OSError("undefined symbol")

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    found = doctor._torchvision("reinstall")
    assert (found.state, found.fix) == ("broken", "reinstall")
    assert "undefined symbol" in found.found
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(()))
    found = doctor._torchvision("reinstall")
    assert (found.state, found.found) == ("broken", "its compiled part is not there")


@pytest.mark.timeout(300)  # seconds on a free machine, minutes on a crowded one
def test_the_demo_ends_by_itself_and_says_what_next(retain: Retain) -> None:
    said = retain("demo", "--no-page", "--out", "demo")
    assert said.code == 0, said.err
    assert "retain watch YOUR.mp4" in said.out
    assert Path("demo/report.html").stat().st_size > 10_000
    assert_plays_in_a_browser(Path("demo/summary.mp4"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_that_is_interrupted_leaves_complete_results(tmp_path: Path, how: int) -> None:
    command = [sys.executable, "-m", "retain.apps.cli", "watch", "synthetic://scenes?live=1"]
    command += ["--encoder", "pixels", "--fps", "0", "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        partial = until(lambda: next(tmp_path.glob(".out.*/results.jsonl"), None))
        until(lambda: partial.stat().st_size > 0)
        family = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(how)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["stopped"] == "drained"
    assert summary["frames"] == len(lines(tmp_path / "out/results.jsonl"))
    assert "stopped by hand" in (tmp_path / "out/report.html").read_text()
    assert not [process for process in family if process.is_running()]


def test_a_watch_that_is_ended_at_once_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "retain.apps.cli", "watch", "synthetic://scenes?live=1"]
    with subprocess.Popen(
        [*command, "--out", "out"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as running:
        until(lambda: next(tmp_path.glob(".out.*"), None))
        running.terminate()
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_no_text_is_refused_at_once(tmp_path: Path) -> None:
    source = str(tmp_path / os.fsdecode(b"lat\xefin.mp4"))
    media.write_video(Path(source), 5)
    with pytest.raises(UsageError, match="not UTF-8"):
        watch(WatchOptions(source=source, out=tmp_path / "out", page=False), lambda done: None)
    with pytest.raises(UsageError, match="not UTF-8"):  # as a list in JSON may hold it
        watch(WatchOptions(source="a\ud800.mp4", out=tmp_path / "out", page=False), lambda d: None)
