"""The pipeline's source of scenes: every frame with its view, the same under every runner."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import write_video
from runtime_parts import Recorder
from scene_folders import HEIGHT, WIDTH, realestate, rgbd, truth, tum, write_png

from retain.datasets.scene.base import Shot
from retain.datasets.scene.open import open_scene
from retain.datasets.scene.source import SceneSource, paced
from retain.datasets.scene.views import counted, resized_shot, shot_of, step_for, view_of
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import Record
from retain.pipeline.results import View
from retain.pipeline.run import Runner, start
from retain.pipeline.stage import GivesPackets, Source


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(rgbd(tmp_path / "office", truth(7)))


def views(source: SceneSource) -> list[tuple[Frame, View]]:
    source.open()
    try:
        return [(packet.frame, packet.get("view", View)) for packet in source.packets()]
    finally:
        source.close()


def test_it_is_a_source_that_gives_packets(folder: str) -> None:
    source = SceneSource(folder, stream="cam")
    assert isinstance(source, Source)
    assert isinstance(source, GivesPackets)
    info = source.open()
    assert (info.kind, info.width, info.height, info.declared_frames) == ("finite", 24, 16, 7)
    assert info.repeats
    assert info.fps == pytest.approx(30)
    assert info.duration_s == pytest.approx(6 / 30)


def test_frames_carry_the_scene(folder: str) -> None:
    t = truth(7)
    assert t.depths is not None
    for i, (frame, view) in enumerate(views(SceneSource(folder, stream="cam"))):
        assert (frame.stream, frame.seq, frame.meta["shot"]) == ("cam", i, i)
        assert frame.pts * frame.time_base == round(Fraction(i / 30) * 10**6) * Fraction(1, 10**6)
        assert np.array_equal(frame.image, t.images[i])
        assert view.camera == (t.camera.fx, t.camera.fy, t.camera.cx, t.camera.cy)
        assert view.depth is not None
        assert view.depth.dtype == np.uint16
        assert view.unit == 1e-4
        assert np.allclose(view.depth * view.unit, t.depths[i], atol=3e-4)
        assert np.array_equal(view.depth == 0, t.depths[i] == 0)
        assert view.c2w is not None
        assert np.array_equal(view.c2w, t.poses[i])


def test_every_limit_and_size(folder: str) -> None:
    source = SceneSource(folder, every=3, limit=2, width=12)
    assert source.open().declared_frames == 3
    found = views(source)
    assert [(f.seq, f.meta["shot"], f.width, f.height) for f, _ in found] == [
        (0, 0, 12, 8),
        (1, 3, 12, 8),
    ]
    assert found[0][1].depth is not None
    assert found[0][1].depth.shape == (8, 12)
    assert source.stats()["delivered"] == 2


def test_frames_per_second_thin_by_the_scenes_own_times(folder: str) -> None:
    found = views(SceneSource(folder, fps=10))
    assert [frame.meta["shot"] for frame, _ in found] == [0, 3, 6]
    assert [frame.seq for frame, _ in found] == [0, 1, 2]


def test_numbers_with_gaps_are_counted_anew_and_kept_in_meta(folder: str) -> None:
    for number in (1, 2, 5):
        Path(folder, f"rgb/{number:06d}.png").unlink()
    found = [frame for frame, _ in views(SceneSource(folder))]
    assert [frame.seq for frame in found] == [0, 1, 2, 3]
    assert [frame.meta["shot"] for frame in found] == [0, 3, 4, 6]
    assert [round(frame.seconds * 30) for frame in found] == [0, 3, 4, 6]


def test_stamps_near_a_billion_seconds_keep_their_microseconds(tmp_path: Path) -> None:
    found = views(SceneSource(str(tum(tmp_path, truth()))))
    assert [frame.pts for frame, _ in found] == [
        1305031102175304,
        1305031102208637,
        1305031102241971,
    ]


def test_a_shot_that_cannot_be_read_is_passed_over_and_told_at_the_end(
    folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = Path(folder, "rgb/000002.png")
    bad.write_bytes(bad.read_bytes()[:-200])
    source, found = SceneSource(folder), []
    with pytest.raises(SourceError, match="1 of 7 shots of .* cannot be read: 2") as caught:
        found.extend(source.packets())
    assert caught.value.fault is SourceFault.BROKEN
    assert caught.value.decoded == 6
    assert [p.frame.meta["shot"] for p in found] == [0, 1, 3, 4, 5, 6]
    assert [p.frame.seq for p in found] == list(range(6))
    assert "000002.png" in caplog.text


def test_depth_of_a_scene_without_metres_keeps_its_digits(tmp_path: Path) -> None:
    shot = Shot(0, 0.0, np.zeros((2, 2, 3), np.uint8), Camera(2, 2, 1, 1, 2, 2))
    near = replace(shot, depth=np.array([[0, 1e-4], [2e-4, 3e-4]], np.float32))
    assert view_of(near, floor=0.0).unit < 1e-8
    place = realestate(tmp_path, truth())
    assert all(view.depth is None for _, view in views(SceneSource(str(place))))


@given(st.floats(1e-3, 1e4), st.floats(1e-6, 1))
def test_depth_survives_its_counting(farthest: float, part: float) -> None:
    depth = np.array([[farthest, farthest * part, 0]], np.float32)
    steps, unit = counted(depth)
    back = steps.astype(np.float64) * unit
    assert steps[0, 2] == 0
    assert (steps[0, :2] > 0).all(), "what is known stays known"
    assert np.abs(back - depth)[0, 0] <= 0.51 * unit + 1e-6 * farthest
    assert unit >= 1e-4
    assert unit == 1e-4 or step_for(farthest) * 65535 < 2.6 * farthest, "no coarser than need be"


def test_a_view_gives_the_shot_back() -> None:
    t = truth(1)
    assert t.depths is not None
    shot = Shot(4, 0.5, t.images[0], t.camera, t.depths[0], t.poses[0])
    frame = Frame("s", 4, 500, Fraction(1, 1000), t.images[0])
    back = shot_of(frame, view_of(shot))
    assert back.depth is not None
    assert (back.seq, back.seconds, back.camera) == (4, 0.5, t.camera)
    assert np.allclose(back.depth, t.depths[0], atol=1e-6)
    labels = np.repeat(np.arange(HEIGHT, dtype=np.uint8)[:, None], WIDTH, axis=1)
    small = resized_shot(replace(back, labels=labels), (12, 0))
    assert small.labels is not None
    assert small.labels.dtype == np.uint8
    assert np.array_equal(small.labels[:, 0] // 2, np.arange(8))
    assert small.image.shape == (8, 12, 3)
    assert small.camera == t.camera.resized(12, 8)


def test_closing_ends_it_between_two_frames(folder: str) -> None:
    source = SceneSource(folder)
    packets = source.packets()
    next(packets)
    source.close()
    assert list(packets) == []


def test_a_pace_waits_for_the_scenes_times_and_can_be_cut_short() -> None:
    class Waits(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            self.asked.append(timeout)
            if len(self.asked) == 3:
                self.set()
            return self.is_set()

    image = np.zeros((2, 2, 3), np.uint8)
    frames = [Frame("s", k, 1000 * k, Fraction(1), image, t_arrival_ns=5) for k in range(9)]
    closed = Waits()
    given = list(paced(map(Packet, frames), 2.0, closed))
    assert [packet.frame.seq for packet in given] == [0, 1]
    assert given[0].frame.t_arrival_ns > 5
    assert closed.asked[0] == 0
    assert 400 < closed.asked[1] <= 500
    assert 900 < closed.asked[2] <= 1000


@pytest.mark.parametrize(
    "options",
    [{"every": 0}, {"width": -1}, {"camera": "1,2,3"}, {"camera": "a,b,c,d"}, {"field": 180}],
)
def test_options_that_make_no_sense(folder: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SceneSource(folder, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_it_runs_under_both_runners_and_through_a_recording(
    folder: str, tmp_path: Path, runner: Runner
) -> None:
    """The packets that arrive, and those that a recording of them plays, are the scene's."""
    wanted = views(SceneSource(folder, "cam", width=12, limit=5))
    path = tmp_path / "run.retain"
    graph = Graph()
    target = "retain.datasets.scene.source:SceneSource"
    graph.source(
        "source", target, source=folder, stream="cam", fps=0.0, limit=5, pace=0.0, width=12
    )
    graph.stage("record", "retain.pipeline.recorder:Record", path=str(path), max_mb=4)
    graph.sink("out")
    graph.connect("source", "record")
    graph.connect("record", "out")
    out = Recorder()
    report = start(graph, runner=runner, sinks={"out": out}).wait(60)
    assert report is not None
    assert not report.errors
    assert [p[:2] for p in out.packets] == [(f.seq, int(f.image.sum())) for f, _ in wanted]
    for frame, view in wanted:
        same(view, next(p[2]["view"] for p in out.packets if p[0] == frame.seq))
    replayed = views(SceneSource(str(path)))
    assert len(replayed) == 5
    for (frame, view), (again, other) in zip(wanted, replayed, strict=True):
        assert (again.stream, again.seq, again.pts) == (frame.stream, frame.seq, frame.pts)
        assert np.array_equal(again.image, frame.image)
        same(view, other)


def same(one: View, two: object) -> None:
    assert isinstance(two, View)
    assert (one.camera, one.unit) == (two.camera, two.unit)
    assert one.depth is not None
    assert two.depth is not None
    assert np.array_equal(one.depth, two.depth)
    assert one.c2w is not None
    assert two.c2w is not None
    assert np.array_equal(one.c2w, two.c2w)


def test_a_recording_in_another_size_every_second_frame(folder: str, tmp_path: Path) -> None:
    path = tmp_path / "run.retain"
    tap, source = Record(str(path)), SceneSource(folder)
    for packet in source.packets():
        tap.process(packet)
    tap.close()
    found = views(SceneSource(str(path), width=12, every=2, limit=3))
    assert [(f.seq, f.meta["shot"], f.width) for f, _ in found] == [
        (0, 0, 12),
        (1, 2, 12),
        (2, 4, 12),
    ]
    scene = open_scene(folder, width=12)
    for frame, view in found:
        shot = scene[int(frame.meta["shot"])]
        assert view.depth is not None
        assert shot.depth is not None
        assert np.allclose(view.depth * view.unit, shot.depth, atol=2e-4)


def test_a_video_is_a_scene_without_depth_and_poses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(write_video(tmp_path / "v.mp4", 8))
    info = SceneSource(path, every=3, width=32).open()
    assert (info.width, info.height, info.declared_frames) == (32, 24, 3)
    assert info.fps == pytest.approx(SceneSource(path).open().fps / 3)
    with caplog.at_level(logging.WARNING):
        found = views(SceneSource(path, stream="v", every=2, width=32, limit=3))
    assert [(f.seq, f.width, f.height) for f, _ in found] == [(0, 32, 24), (1, 32, 24), (2, 32, 24)]
    focal = 16 / np.tan(np.pi / 6)
    assert np.allclose(found[0][1].camera, (focal, focal, 16, 12))
    assert found[0][1].depth is None
    assert found[0][1].c2w is None
    assert caplog.text.count("60 degrees is assumed") == 1
    scene = open_scene(path, width=32)
    assert len(scene) == 8
    assert np.abs(scene[2].image.astype(int) - found[1][0].image).max() <= 4
    given = views(SceneSource(path, camera="50,51,31,23", limit=1))
    assert given[0][1].camera == (50, 51, 31, 23)


def test_pictures_and_synthetic_streams_play_too(tmp_path: Path) -> None:
    for i, image in enumerate(truth().images):
        write_png(tmp_path / f"{i}.png", image)
    found = views(SceneSource(str(tmp_path), field=90))
    assert len(found) == 3
    assert np.allclose(found[0][1].camera, (WIDTH / 2, WIDTH / 2, WIDTH / 2, HEIGHT / 2))
    assert len(views(SceneSource("synthetic://pan?frames=4&size=32x24"))) == 4


def test_a_room_is_a_source(tmp_path: Path) -> None:
    found = views(SceneSource("room://?seed=1&frames=9", every=4, width=32))
    assert [f.meta["shot"] for f, _ in found] == [0, 4, 8]
    assert all(type(value) is float for value in found[0][1].camera)


def test_a_source_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no scene of a known format"):
        SceneSource(str(tmp_path)).open()
    with pytest.raises(SourceError, match="There is no file"):
        SceneSource(str(tmp_path / "absent")).open()
