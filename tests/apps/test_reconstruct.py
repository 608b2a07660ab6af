"""`retain reconstruct` and `retain render` through the command line, on rooms a hand wide."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from command_parts import Retain, exit_code
from PIL import Image as Pil
from reconstruct_parts import FAST, ROOM, frames, lines, poses, reconstruct
from runtime_parts import Recorder
from scene_parts import SMALL, room
from waiting import until

from retain.apps.reconstruct import outcome
from retain.apps.reconstruct.run import ReconstructOptions, build_graph
from retain.apps.reconstruct.show import read_path
from retain.datasets.splats.formats import read_splats
from retain.kernels.geometry import rigid
from retain.models.scene.mapper import read_map
from retain.pipeline.errors import UsageError
from retain.pipeline.run import start


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    out = tmp_path_factory.mktemp("done") / "out"
    with pytest.MonkeyPatch.context() as patch:
        words = ("reconstruct", "--no-page", "--runner", "inline", ROOM, *FAST, "--out", out)
        assert exit_code(patch, *words, "--export", "ply,splat,html") == 0
    return out


def test_everything_is_there_and_nothing_else(done: Path) -> None:
    assert {path.name for path in done.iterdir()} == {
        "held-out", "map.safetensors", "report.html", "results.jsonl", "scene.html", "scene.json",
        "scene.ply", "scene.splat", "summary.json", "trajectory.txt",
    }  # fmt: skip
    assert [path.name for path in done.parent.iterdir()] == ["out"]  # no folder half made


def test_the_summary_says_what_the_lines_and_the_map_say(done: Path) -> None:
    summary, said = json.loads((done / "summary.json").read_text()), poses(done)
    assert summary["frames"] == len(said) == 14
    assert summary["complete"]
    assert summary["errors"] == []
    assert summary["poses"] == "given"
    assert summary["states"] == {"tracked": 14}
    assert summary["keyframes"] == sum(pose["keyframe"] for pose in said)
    assert summary["held_out"] == sum(pose["held_out"] for pose in said) == 2
    assert summary["memory_bytes_most"] == max(pose["nbytes"] for pose in said)
    assert summary["memory_bytes_most"] <= summary["memory_budget"] == 128_000_000
    assert 14 < summary["psnr_db"] < 60
    assert 0 < summary["ssim"] < 1
    assert 0.5 < summary["covered"] <= 1
    assert 0 < summary["depth_l1_median_m"] < 0.2
    assert summary["ate_m"] is None  # the poses were given
    assert summary["refined_steps"] == 3
    gaussians, _ = read_map(str(done / "map.safetensors"))
    assert summary["gaussians"] == len(gaussians) == len(read_splats(done / "scene.ply"))
    assert summary["gaussians"] / summary["raw_blocks"] == summary["gaussians_to_raw_blocks"]
    assert summary["raw_blocks"] == (14 - 2) * 48 * 36


def test_the_trajectory_is_one_of_tum(done: Path) -> None:
    """Seconds, position, quaternion with its real part last; as TUM's own tools read it."""
    shots = room(14, SMALL)
    text = (done / "trajectory.txt").read_text().splitlines()
    rows = np.array([line.split() for line in text if not line.startswith("#")], float)
    assert rows.shape == (14, 8)
    assert (np.diff(rows[:, 0]) > 0).all()
    assert np.allclose(np.linalg.norm(rows[:, 4:], axis=1), 1, atol=1e-6)
    for row, pose, shot in zip(rows, read_path(done / "trajectory.txt"), shots, strict=True):
        assert shot.c2w is not None
        assert row[0] == pytest.approx(shot.seconds, abs=1e-5)
        np.testing.assert_allclose(pose, shot.c2w, atol=1e-5)


def test_the_report_is_one_file_that_shows_it_all(done: Path) -> None:
    page = (done / "report.html").read_text()
    for wanted in ("Held-out PSNR", "SSIM", "Gaussians", "Depth error", "Memory", "none lost",
                   "difference", "The path from above", "keyframes", "refine"):  # fmt: skip
        assert wanted in page, wanted
    assert page.count('alt="truth"') == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # nothing from elsewhere
    for broken in ("nan", "None ", "inf "):
        assert broken not in re.sub(r"<script.*?</script>|data:[^\"]*", "", page, flags=re.S)


def test_frames_held_out_are_kept_as_they_were(done: Path) -> None:
    shots = room(14, SMALL)
    held = [line["seq"] for line in lines(done) if line["results"]["pose"]["held_out"]]
    for seq in held:
        image = np.asarray(Pil.open(done / "held-out" / f"{seq:06d}.png"))
        assert np.array_equal(image, shots[seq].image)
        depth = np.asarray(Pil.open(done / "held-out" / f"{seq:06d}.depth.png"), np.float64) / 1000
        truth = shots[seq].depth
        assert truth is not None
        assert np.abs(depth - truth).max() < 0.002


def test_estimated_poses_are_judged_by_the_given_ones(retain: Retain) -> None:
    fast = ("--width", "160", "--limit", "10", "--refine", "0", "--finish", "0")
    said = reconstruct(retain, ROOM, *fast, "--poses", "estimated", "--out", "out")
    assert said.code == 0, said.err
    assert re.search(r"path: ATE \d+\.\d cm against the given poses\n", said.out)
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["poses"] == "estimated"
    assert 0 < summary["ate_m"] < 0.05
    assert summary["ate_scale_free"] is False
    assert "Path error (ATE)" in Path("out/report.html").read_text()


@pytest.mark.timeout(300)
def test_processes_give_what_one_process_gives_bit_for_bit(done: Path, retain: Retain) -> None:
    said = reconstruct(retain, ROOM, *FAST, "--out", "out", "--record", "r.rec", runner="local")
    assert said.code == 0, said.err
    assert poses(Path("out")) == poses(done)
    assert read_bytes("out") == read_bytes(done)
    # And so does its recording, played again.
    assert reconstruct(retain, "r.rec", *FAST, "--out", "again").code == 0
    assert poses(Path("again")) == poses(done)
    assert read_bytes("again") == read_bytes(done)
    assert not psutil.Process().children()


def read_bytes(folder: Path | str) -> list[np.ndarray]:
    gaussians, _ = read_map(str(Path(folder) / "map.safetensors"))
    return [getattr(gaussians, name).tobytes() for name in ("means", "colors", "scales", "quats")]


def test_a_run_goes_on_from_a_snapshot(retain: Retain, tmp_path: Path, done: Path) -> None:
    """What comes after it is what an uninterrupted run gives."""
    options = ReconstructOptions(
        source=ROOM, name="room", width=96, limit=14, refine=1, page=False, pace=1.0
    )
    graph, told = build_graph(options, live=False, page=False), Recorder()
    state = tmp_path / "snapshot"
    with start(graph, runner="inline", sinks={"results": told}) as run:
        until(lambda: len(told.seqs) > 2)
        run.snapshot(state)
        run.stop(drain=False)
    said = reconstruct(retain, ROOM, *FAST, "--out", "rest", "--resume", state)
    assert said.code == 0, said.err
    seqs = [line["seq"] for line in lines(Path("rest"))]
    assert seqs == list(range(seqs[0], 14))
    assert seqs[0] > 2
    assert poses(Path("rest")) == poses(done)[seqs[0] :]
    other = reconstruct(retain, ROOM, *FAST, "--cell", "0.05", "--out", "other", "--resume", state)
    assert other.code == 1
    assert "Traceback" not in other.err
    assert not Path("other").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("runner", ["inline", "local"])
def test_ctrl_c_while_it_streams_keeps_what_there_is(tmp_path: Path, runner: str) -> None:
    command = [sys.executable, "-m", "retain.apps.cli", "reconstruct", ROOM, "--no-page"]
    command += ["--width", "96", "--refine", "0", "--finish", "2", "--out", "out"]
    command += ["--runner", runner, "--realtime"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        until(lambda: any(p.stat().st_size for p in tmp_path.glob(".out.*/results.jsonl")), 110)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=200)
    assert running.returncode == 130, err
    assert "mapped" in out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert not summary["complete"]
    assert 0 < summary["frames"] < 150
    assert "It was stopped by hand." in (tmp_path / "out/report.html").read_text()
    assert len(read_map(str(tmp_path / "out/map.safetensors"))[0])


def test_ctrl_c_while_it_refines_ends_the_refining_only(
    retain: Retain, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = outcome.finish

    def impatient(mapper: Any, steps: int, seed: int, tell: Any) -> int:
        def told(done: int) -> None:
            tell(done)
            os.kill(os.getpid(), signal.SIGINT)

        return finish(mapper, steps, seed, told)

    monkeypatch.setattr(outcome, "finish", impatient)
    monkeypatch.setattr(outcome, "CHUNK", 2)
    said = reconstruct(retain, ROOM, *FAST, "--finish", "50", "--out", "out")
    assert said.code == 0, said.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["refined_steps"] == 2
    assert summary["complete"]
    assert Path("out/report.html").is_file()


def test_nothing_is_ever_written_over(retain: Retain, done: Path) -> None:
    Path("out").mkdir()
    said = reconstruct(retain, ROOM, *FAST, "--out", "out")
    assert said.code == 2
    assert "is there already" in said.err
    Path("tour.mp4").write_bytes(b"mine")
    said = retain("render", done, "--out", "tour.mp4")
    assert said.code == 2
    assert "is there already" in said.err
    assert Path("tour.mp4").read_bytes() == b"mine"


def test_a_map_is_shown_along_the_cameras_path(retain: Retain, done: Path) -> None:
    said = retain("render", done, "--out", "tour.mp4", "--width", "96")
    assert said.code == 0, said.err
    assert "tour.mp4" in said.out
    shown = frames("tour.mp4")
    assert len(shown) == 14
    truth = room(14, SMALL)[7].image.astype(float)
    assert np.abs(shown[7].astype(float) - truth).mean() < 25


def test_a_map_is_shown_all_around(
    retain: Retain, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps.reconstruct import show

    monkeypatch.setattr(show, "ORBIT_S", 0.2)
    assert retain("render", done, "--out", "o.mp4", "--width", "64", "--path", "orbit").code == 0
    assert len(frames("o.mp4")) == 6


def test_a_map_is_shown_along_a_path_in_a_file(retain: Retain, done: Path) -> None:
    text = (done / "trajectory.txt").read_text().splitlines()
    Path("path.txt").write_text("\n".join(text[:4]))
    said = retain("render", done, "--out", "p.mp4", "--width", "64", "--path", "path.txt")
    assert said.code == 0, said.err
    assert len(frames("p.mp4")) == 3


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "1 2 3\n", "a b c d e f g h\n", "0 0 0 0 0 0 0 0\n", "0 nan 0 0 0 0 0 1"],
)
def test_a_file_that_is_no_path_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "path.txt").write_text(text)
    with pytest.raises(UsageError, match="is no path"):
        read_path(tmp_path / "path.txt")
    with pytest.raises(UsageError, match="is no path"):
        read_path(tmp_path)


def test_a_word_lights_up_what_it_names(retain: Retain, done: Path) -> None:
    Path("path.txt").write_text("\n".join((done / "trajectory.txt").read_text().splitlines()[:2]))
    still = ("--width", "96", "--path", "path.txt")
    known = json.loads((done / "scene.json").read_text())["names"]
    assert "wall" in known
    assert retain("render", done, "--out", "q.mp4", *still, "--query", "wall").code == 0
    (shown,) = frames("q.mp4")
    warm = (shown[..., 0].astype(int) - shown[..., 2]) > 40
    labels = room(1, SMALL)[0].labels
    assert labels is not None
    wall = labels == known.index("wall")
    assert warm[wall].mean() > 0.7
    assert warm[~wall].mean() < 0.3


def test_a_word_that_is_not_known_is_answered_with_those_that_are(
    retain: Retain, done: Path
) -> None:
    said = retain("render", done, "--out", "q.mp4", "--query", "wal")
    assert said.code == 2
    assert "wall" in said.err
    assert not Path("q.mp4").exists()


def test_render_of_what_is_no_result_is_said(retain: Retain, done: Path) -> None:
    said = retain("render", ".", "--out", "q.mp4")
    assert said.code == 2
    assert "no folder of `retain reconstruct`" in said.err
    said = retain("render", done, "--out", "no/such/folder/q.mp4", "--width", "64")
    assert "Traceback" not in said.err
    assert said.code in (0, 2)
    said = retain("render", done, "--out", "q.mp4", "--path", "nowhere.txt")
    assert said.code == 2
    assert "nowhere.txt" in said.err


def test_a_video_that_breaks_off_leaves_no_file(
    retain: Retain, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps.reconstruct import show

    picture, count = show._picture, iter(range(100))

    def breaks(*arguments: Any) -> Any:
        if next(count) == 3:
            raise KeyboardInterrupt
        return picture(*arguments)

    monkeypatch.setattr(show, "_picture", breaks)
    said = retain("render", done, "--out", "tour.mp4", "--width", "64")
    assert said.code == 130
    assert not list(Path().iterdir())


def test_keyframes_that_the_map_forgot_leave_poses_as_they_were() -> None:
    from retain.apps.reconstruct.record import HeldOut
    from retain.kernels.geometry.camera import Camera

    local, c2w = rigid.exp([0, 0, 0.1, 1.0, 0, 0]), rigid.exp([0, 0.2, 0, 0, 2.0, 0])
    held = HeldOut(3, 0.1, 7, local, c2w, Camera(9, 9, 4, 3, 8, 6), Path())
    assert np.array_equal(outcome.corrected(held, {7: np.eye(4)}), local)
    assert np.array_equal(outcome.corrected(held, {}), c2w)
