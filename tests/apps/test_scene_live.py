"""The live view of a map: what it makes of deltas and poses, what it costs, who may look."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_parts import WALL, delta, pose, walk, wall
from numpy.typing import NDArray
from waiting import until

from retain.apps.page.server import Page
from retain.apps.reconstruct import live
from retain.apps.reconstruct.cloud import BLOCK, Cloud, covariances
from retain.apps.reconstruct.course import Course
from retain.apps.reconstruct.live import POINTS, Newest, Numbers, SplatViewer
from retain.kernels.geometry import rigid
from retain.models.scene.told import Told
from retain.pipeline.errors import MissingExtra
from retain.pipeline.results import SplatDelta


def change(epoch: int, ids: list[int], removed: list[int], *, whole: bool = False) -> SplatDelta:
    """Records that hold their id and epoch in their first bytes."""
    records = np.zeros((len(ids), 32), np.uint8)
    records[:, :4] = np.array(ids, "<u4").reshape(-1, 1).view(np.uint8)
    records[:, 4] = epoch
    return SplatDelta(epoch, whole, np.array(removed, np.uint32), np.array(ids, np.uint32), records)


def held(cloud: Cloud) -> dict[int, int]:
    """Ids and the epochs they are from."""
    cloud.refresh()
    rows = np.concatenate([np.zeros((0, 32), np.uint8), *cloud.take(1000).values()])
    ids = np.ascontiguousarray(rows[:, :4]).view("<u4")[:, 0]
    return dict(zip(ids.tolist(), rows[:, 4].tolist(), strict=True))


Change = tuple[list[int], list[int], bool]
IDS = st.lists(st.integers(0, 3 * BLOCK), max_size=6, unique=True)


@given(st.lists(st.tuples(IDS, IDS, st.booleans()), max_size=8))
def test_a_cloud_holds_what_the_deltas_say(
    changes: list[tuple[list[int], list[int], bool]],
) -> None:
    cloud, wanted = Cloud(), dict[int, int]()
    for epoch, (ids, removed, whole) in enumerate(changes, 1):
        cloud.apply(change(epoch, ids, removed, whole=whole))
        kept = {} if whole else {i: e for i, e in wanted.items() if i not in removed}
        wanted = kept | dict.fromkeys(ids, epoch)
        assert len(cloud) == len(wanted)
    assert held(cloud) == wanted


def test_a_missed_change_is_waited_out_until_the_map_comes_whole() -> None:
    cloud = Cloud()
    cloud.apply(change(1, [1, 2], []))
    cloud.apply(change(3, [3], [1]))
    assert cloud.waiting
    cloud.apply(change(4, [4], []))
    assert held(cloud) == {1: 1, 2: 1}
    cloud.apply(change(5, [2, 9], [], whole=True))
    assert not cloud.waiting
    cloud.apply(change(6, [7], [2]))
    assert held(cloud) == {9: 5, 7: 6}
    cloud.apply(change(1, [5], [], whole=True))  # the stage was started again
    assert held(cloud) == {5: 1}


def test_only_what_changed_is_drawn_and_no_more_than_asked() -> None:
    cloud = Cloud()
    cloud.apply(change(1, [0, BLOCK, 2 * BLOCK, 3 * BLOCK], []))
    assert set(cloud.take(3)) == {0, 1, 2}
    cloud.apply(change(2, [1], [2 * BLOCK]))
    assert set(cloud.take(1)) == {3}, "those that wait longest come first"
    assert {number: len(rows) for number, rows in cloud.take(9).items()} == {2: 0, 0: 2}
    assert cloud.take(9) == {}


def test_memory_is_that_of_the_largest_map() -> None:
    cloud = Cloud()
    for epoch in range(1, 200):
        ids = list(range(epoch % 7, BLOCK, 500))
        cloud.apply(change(epoch, ids, [], whole=True))
    assert len(cloud._there) == BLOCK
    assert cloud.due == 1


def test_covariances_are_those_of_turned_axes() -> None:
    rng = np.random.default_rng(1)
    records = wall(0)[:5].copy()
    records[:, 28:] = rng.integers(0, 256, (5, 4))
    from retain.datasets.splats.splat import from_records

    gaussians = from_records(records)
    _, spread = covariances(records)
    for i in range(5):
        turn = rigid.matrix(gaussians.quats[i])
        wanted = turn @ np.diag(gaussians.scales[i].astype(float) ** 2) @ turn.T
        assert np.allclose(spread[i], wanted, atol=1e-7)


def test_the_given_path_is_laid_on_the_first_camera_and_drift_is_the_distance() -> None:
    course = Course()
    drift = [course.add(packet.results["pose"]) for packet in walk(30)]  # type: ignore[arg-type]
    assert drift[0] == pytest.approx(0, abs=1e-9)
    assert drift[29] == pytest.approx(0.029)
    assert np.allclose(course.given()[:, 0], 0.049 * np.arange(30))
    assert np.allclose(course.up, (0, -1, 0))
    assert np.allclose(course.plan(np.array([[1.0, 5.0, 2.0]])), [[1, 2]]), "right, and ahead"


def test_without_depth_the_given_path_is_scaled() -> None:
    course, other = Course(), rigid.exp([1.0, 2.0, 3.0, 0.2, 0.9, -0.4])
    drift = 1.0
    for step in range(20):
        here, there = np.eye(4), np.eye(4)
        here[:3, 3] = step, 0.1 * step**2, 0
        there[:3, 3] = 0.25 * here[:3, 3]
        drift = course.add(pose(here, truth=other @ there, depth=1.0))
    assert course.scaled
    assert drift == pytest.approx(0, abs=1e-6)


def test_a_lost_camera_leaves_no_track_and_paths_stay_bounded() -> None:
    course = Course(room=50)
    for step in range(400):
        here = np.eye(4)
        here[0, 3] = step
        course.add(pose(here, "lost" if step % 2 else "tracked", keyframe=True))
    assert 25 <= len(course.own()) <= 50
    assert not (course.own()[:, 0] % 2).any()
    assert len(course.keyframes.items) <= 256


def test_the_numbers_of_a_long_run_stay_few() -> None:
    numbers = Numbers()
    for packet in walk(1):
        for _ in range(5 * POINTS):
            numbers.add(packet.frame, packet.results["pose"], 0.0)  # type: ignore[arg-type]
    assert POINTS // 2 <= len(numbers.drift) <= POINTS
    assert numbers.frames == 5 * POINTS


class Scene:
    """Stands in for the browser's side: notes what it is told, as slowly as asked."""

    port = 1

    def __init__(self, title: str = "", port: int = 0) -> None:
        self.watchers, self.sized = 0, False
        self.drawn: list[dict[int, NDArray[np.uint8]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False

    def draw(self, newest: Newest, blocks: Mapping[int, Any], middle: object) -> None:
        self.gate.wait(10)
        if self.broken:
            raise RuntimeError("the browser's side broke")
        self.drawn.append(dict(blocks))

    def close(self) -> None: ...


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    from retain.apps.reconstruct import live_scene

    made = Scene()
    monkeypatch.setattr(live_scene, "LiveScene", lambda title, port: made)
    return made


def test_nothing_is_drawn_while_nobody_looks_and_everything_when_somebody_comes(
    scene: Scene,
) -> None:
    viewer = SplatViewer("room", every_s=0.001)
    viewer.start()
    try:
        for packet in walk(25):
            viewer.process(packet)
        assert viewer.draws == 0
        scene.watchers = 1
        until(lambda: scene.drawn)
        assert sum(map(len, scene.drawn[0].values())) == 3 * WALL
        picture = viewer.newest.picture
        assert picture is not None
        assert picture[-1, 0, 0] == 20, "no picture but the first was shrunk for nobody"
    finally:
        viewer.stop()


def test_a_slow_browser_does_not_hold_up_the_run(scene: Scene) -> None:
    viewer = SplatViewer("room", every_s=0.001)
    viewer.start()
    try:
        scene.watchers = 1
        scene.gate.clear()
        for packet in walk(200):  # returns though nothing gets through to the browser
            viewer.process(packet)
        assert not scene.drawn
        scene.gate.set()
        until(lambda: sum(len(r) for d in scene.drawn for r in d.values()) >= 20 * WALL)
        assert len(scene.drawn) < 50, "what came meanwhile is drawn as one"
        assert all(len(drawn) <= live.BLOCKS for drawn in scene.drawn)
    finally:
        viewer.stop()


def test_the_final_map_takes_the_place_of_what_was_shown(scene: Scene) -> None:
    viewer = SplatViewer("room", every_s=0.001)
    for packet in walk(25):
        viewer.process(packet)
    viewer.close()
    viewer.show(delta(9, range(1), whole=True))
    assert viewer.stats()["gaussians"] == WALL
    assert viewer.newest.final


def test_a_view_that_breaks_does_not_end_the_run(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    viewer = SplatViewer("room", every_s=0.001)
    viewer.start()
    try:
        scene.watchers, scene.broken = 1, True
        until(lambda: not viewer._thread.is_alive())
        for packet in walk(12):
            viewer.process(packet)
        assert viewer.stats()["gaussians"] == 2 * WALL
        assert "the run goes on" in caplog.text
    finally:
        viewer.stop()


def test_without_viser_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "retain.apps.reconstruct.live_scene":
            raise ModuleNotFoundError("No module named 'viser'", name="viser")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match="viewer"):
        SplatViewer("room").start()
    page = Page("room", "room://", view="scene", beside=SplatViewer("room"))
    page.start()
    try:
        for packet in walk(3):
            page.process(packet)
        about = page.state.patch({})["about"]
        assert "retain[viewer]" in about["without"]
        assert "beside" not in about
    finally:
        page.stop()


class Growing:
    """Stands in for the mapper: with each question the map has one Gaussian more."""

    def __init__(self) -> None:
        self.size, self.told = 0, Told()

    def delta(self, whole: bool = False) -> SplatDelta:
        self.size += 1
        first = whole or self.size == 1
        ids = list(range(self.size)) if first else [self.size - 1]
        return change(self.size, ids, [], whole=first)


@pytest.mark.parametrize(("whole_s", "complete"), [(0.0, False), (2.0, True)])
def test_a_view_that_lost_a_change_of_a_live_source_is_made_whole_again(
    whole_s: float, complete: bool
) -> None:
    from retain.models.scene.stage import Reconstruct

    stage, mapper, cloud = Reconstruct(whole_s=whole_s), Growing(), Cloud()
    told = []
    for step in range(80):
        news = stage._delta(mapper, step / 8)  # type: ignore[arg-type]
        if news is None:
            continue
        told.append(news.whole)
        if len(told) != 2:
            cloud.apply(news)
    assert len(told) == 40, "no more than five a second"
    assert sum(told) == (5 if complete else 1)
    assert cloud.waiting != complete
    assert len(cloud) == (40 if complete else 1)


def test_only_live_runs_are_told_the_whole_map_again_and_again() -> None:
    from retain.apps.reconstruct.run import ReconstructOptions, build_graph

    def whole_s(live: bool) -> object:
        graph = build_graph(ReconstructOptions(source="room:"), live=live, page=True)
        return graph.nodes["reconstruct"].options["whole_s"]

    assert whole_s(live=True) == 10
    assert whole_s(live=False) == 0
