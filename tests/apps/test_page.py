"""The live page: what it knows, how little it keeps, whom it answers."""

from __future__ import annotations

import doctest
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_feed import FakeRun, Feed, scenes

from retain.apps import drawing
from retain.apps.page.memory import Points
from retain.apps.page.server import Page
from retain.apps.page.stages import table
from retain.apps.page.state import PageState
from retain.apps.plots import History, Mark, Point, nice_step, timeline_svg
from retain.pipeline.errors import UsageError

HOSTILE = "<script>alert('x')</script>"


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def point(seq: int, score: float = 0.5, state: str = "discard", lost: int = 0) -> Point:
    return Point(seq / 10, seq, score, 0.4, 0.8, state, lost)  # type: ignore[arg-type]


@contextmanager
def served(title: str = "a clip", source: str = "file") -> Iterator[Page]:
    page = Page(title, source)
    page.start()
    try:
        yield page
    finally:
        page.stop()


def events(page: Page, count: int) -> list[dict[str, Any]]:
    """The first ``count`` messages of the event stream."""
    found = []
    with httpx.stream("GET", page.url + "api/events", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
            if len(found) == count:
                break
    return found


# --- drawing and history


def test_words_for_times_and_sizes() -> None:
    assert doctest.testmod(drawing).failed == 0


@pytest.mark.parametrize(("width", "height"), [(64, 48), (640, 360), (1920, 1080), (4096, 2160)])
def test_shrink_never_enlarges_and_keeps_the_shape(width: int, height: int) -> None:
    image = np.full((height, width, 3), 90, np.uint8)
    small = drawing.shrink(image, 480)
    assert small.shape[1] == min(width, 480)
    assert small.shape[0] / small.shape[1] == pytest.approx(height / width, abs=0.01)
    assert (small == 90).all()
    assert not np.shares_memory(small, image)


def test_jpeg_keeps_red_red() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    bgr = cv2.imdecode(np.frombuffer(drawing.jpeg(red), np.uint8), cv2.IMREAD_COLOR)
    assert bgr[16, 16, 2] > 240 > 20 > bgr[16, 16, 0]


@given(
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["discard", "blurred", "clear"]))),
    st.integers(2, 12),
)
def test_history_is_bounded_and_forgets_no_peak(rows: list[tuple[float, str]], room: int) -> None:
    history = History(room)
    for seq, (score, state) in enumerate(rows):
        history.add(point(seq, score, state, lost=1))
    kept = history.points
    assert len(kept) <= room
    assert [p.seq for p in kept] == sorted(p.seq for p in kept)
    assert sum(p.lost for p in kept) == len(rows)
    for state in ("clear", "blurred"):
        strongest = max((s for s, what in rows if what == state), default=None)
        if strongest is not None and (state == "clear" or all(w != "clear" for _, w in rows)):
            assert max(p.score for p in kept if p.state == state) == strongest


def test_history_before_it_is_full_is_exact() -> None:
    points = [point(seq) for seq in range(10)]
    history = History(10)
    for p in points:
        history.add(p)
    assert history.points == points
    assert history.stride == 1


@given(st.floats(1e-6, 1e6), st.integers(2, 10))
def test_steps_are_round(span: float, ticks: int) -> None:
    step = nice_step(span, ticks)
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert round(lead, 6) in (1, 2, 5, 10)
    assert span / step <= ticks * 1.01


def test_a_timeline_survives_undefined_and_backward_times() -> None:
    points = [point(0, math.nan), point(5), point(6), point(2), point(3, math.inf)]
    svg = timeline_svg(points, [Mark(0.5, math.nan, "clear", HOSTILE, '#"')])
    assert "nan" not in svg.lower().replace("&quot;nan", "")
    assert HOSTILE not in svg
    assert timeline_svg([], []).startswith("<svg")


# --- state


def test_state_before_the_first_frame() -> None:
    view = PageState("t", "s").patch({})
    assert view["run"]["state"] == "connecting"
    assert view["latest"] == {"seq": None}
    assert view["points"]["points"] == view["held"]["entries"] == []


def test_a_client_is_sent_only_what_changed() -> None:
    clock = Clock()
    state = PageState("t", "s", clock)
    seen: dict[str, tuple[int, float]] = {}
    packets = iter(Feed().packets(40))
    for _ in range(3):
        state.observe(next(packets))
    first = state.patch(seen)
    assert first["points"]["fresh"]
    assert [p.seq for p in first["points"]["points"]] == [0, 1, 2]
    assert state.patch(seen) == {}
    state.observe(next(packets))
    clock.now += 10
    second = state.patch(seen)
    assert not second["points"]["fresh"]
    assert [p.seq for p in second["points"]["points"]] == [3]
    assert "about" not in second


def test_a_client_that_was_away_for_long_starts_afresh() -> None:
    section = Points()
    for seq in range(700):
        section.add(point(seq))
    view = section.view(10)
    assert view["fresh"]
    assert len(view["points"]) == 600
    assert view["points"][-1].seq == 699


def test_lost_frames_are_told() -> None:
    state = PageState("t", "s")
    for packet in Feed().packets(30, skip=10):
        state.observe(packet)
    lost = [p for p in state.patch({})["points"]["points"] if p.lost]
    assert [(p.seq, p.lost) for p in lost] == [(10, 1), (20, 1)]


def test_pictures_are_those_held_and_a_few_that_left() -> None:
    state = PageState("t", "s")
    entries: set[int] = set()
    ever: set[int] = set()
    for packet in Feed(entries=4).packets(400):
        state.observe(packet)
        entries = {e.seq for e in packet.results["held"].entries}  # type: ignore[union-attr]
        ever |= entries
    view = state.patch({})["held"]
    assert {e["seq"] for e in view["entries"]} == entries
    assert all(e["picture"] for e in view["entries"])
    assert len(ever) > 4 + 32, "the feed must forget more than the page remembers"
    with_picture = [seq for seq in ever if state.picture(seq)]
    assert entries <= set(with_picture)
    assert len(with_picture) <= 4 + 32


def test_an_entry_from_before_the_page_has_no_picture() -> None:
    feed, state = Feed(), PageState("t", "s")
    packets = list(feed.packets(60))
    for packet in packets[-3:]:
        state.observe(packet)
    entries = state.patch({})["held"]["entries"]
    assert not entries[0]["picture"]
    assert state.picture(entries[0]["seq"]) is None


def test_the_preview_is_rare_while_nobody_watches() -> None:
    clock = Clock()
    state = PageState("t", "s", clock)
    packets = list(Feed().packets(100))
    for packet in packets[:50]:
        state.observe(packet)
        clock.now += 0.1
    assert state.latest.version == 5
    state.watch(+1)
    for packet in packets[50:]:
        state.observe(packet)
        clock.now += 0.1
    assert state.latest.version == 55


def test_the_preview_and_its_decision_belong_together() -> None:
    state = PageState("t", "s", Clock())
    assert state.preview() is None
    packets = list(Feed().packets(2))
    for packet in packets:
        state.observe(packet)
    data, view = state.preview() or (b"", {})
    assert view["seq"] == 0, "the second frame came too soon to be shown"
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.abs(shown.astype(int) - packets[0].frame.image).mean() < 6


def test_stage_rates_come_from_two_looks() -> None:
    run = FakeRun()
    run.frames, run.uptime_s, run.lost = 100, 10.0, 3
    before = run.stats()
    run.frames, run.uptime_s = 160, 12.0
    rows = {row["name"]: row for row in table([(50.0, before), (52.0, run.stats())])}
    assert rows["source"]["rate"] == rows["encode"]["rate"] == pytest.approx(30)
    assert rows["encode"]["dropped"] == {"stale": 3}
    assert rows["encode"]["cpu"] == pytest.approx(0.41)
    run.state = "done"
    assert table([(50.0, before), (52.0, run.stats())])[0]["rate"] == pytest.approx(160 / 12)


def test_how_the_run_went_is_a_word_and_a_sentence() -> None:
    clock, run = Clock(), FakeRun()
    state = PageState("t", "s", clock)
    state.progress.attach(run.stats)
    assert state.patch({})["run"]["state"] == "connecting"
    for packet in Feed().packets(21):
        state.observe(packet)
    run.frames, run.uptime_s = 21, 0.5
    clock.now += 2
    view = state.patch({})["run"]
    assert (view["state"], view["frames"], view["speed"]) == ("running", 21, pytest.approx(4.0))
    run.state = "stopping"
    clock.now += 2
    assert state.patch({})["run"]["state"] == "finishing"
    run.state = "failed"
    state.finish("The camera went away.", report=False, failed=False)
    view = state.patch({})["run"]
    assert (view["state"], view["message"]) == ("failed", "The camera went away.")


# --- server


def test_the_page_answers() -> None:
    with served(HOSTILE, HOSTILE) as page:
        run = FakeRun()
        page.attach(run)
        for packet in Feed().packets(60):
            page.process(packet)
            run.frames += 1
        page.close()
        get = lambda path, **more: httpx.get(page.url + path, **more)  # noqa: E731
        index = get("")
        assert index.status_code == 200
        assert HOSTILE not in index.text
        assert "script-src 'self'" in index.headers["content-security-policy"]
        state = get("api/state").json()
        assert state["about"]["title"] == HOSTILE
        held = get("api/held").json()["entries"]
        assert held == state["held"]["entries"]
        picture = get(f"api/frame/{held[-1]['seq']}.jpg")
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content[:2] == b"\xff\xd8"
        assert get("api/frame/99999.jpg").status_code == 204
        preview = get("api/preview.jpg")
        assert json.loads(preview.headers["x-frame"])["seq"] == 0
        assert 'retain_packets_total{graph="watch",node="encode"' in get("metrics").text
        assert get("report.html").status_code == 404
        for path in ("docs", "openapi.json", "static/../server.py", "static/%2e%2e/server.py"):
            assert get(path).status_code == 404
        assert (
            "access-control-allow-origin" not in get("api/state", headers={"Origin": "x"}).headers
        )


def test_every_file_of_the_page_is_its_own() -> None:
    """No address of another host in anything the browser is given, and every import exists."""
    static = Path(drawing.__file__).parent / "page/static"
    for path in static.rglob("*.*"):
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
        for line in text.splitlines():
            if line.startswith("import "):
                assert (path.parent / line.split('"')[1]).is_file(), line


def test_events_begin_with_everything_and_go_on_with_changes(tmp_path: Path) -> None:
    with served() as page:
        packets = Feed().packets(2000)
        page.process(next(packets))
        enough = threading.Event()

        def later() -> None:
            while not enough.wait(0.02):  # however long a busy machine takes to connect
                page.process(next(packets))

        thread = threading.Thread(target=later)
        thread.start()
        first, *rest = events(page, 3)
        enough.set()
        thread.join()
        assert {"about", "run", "latest", "points", "history", "held"} <= first.keys()
        assert any("points" in patch and not patch["points"]["fresh"] for patch in rest)
        report = tmp_path / "report.html"
        report.write_text("<p>done</p>")
        page.finish(report, "All is well.")
        (last,) = events(page, 1)
        assert last["run"] | {"state": "finished", "message": "All is well."} == last["run"]
        assert last["run"]["report"] is True
        assert httpx.get(page.url + "report.html").text == "<p>done</p>"


def test_watchers_are_counted() -> None:
    with served() as page:
        events(page, 1)
        deadline = time.monotonic() + 5
        while page.state.latest.watchers and time.monotonic() < deadline:
            time.sleep(0.02)
        assert page.state.latest.watchers == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_other_names_for_this_machine_are_refused(host: str) -> None:
    with served() as page:
        answer = httpx.get(page.url + "api/state", headers={"Host": host})
        assert answer.status_code == 421
        assert "about" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "[::1]:80", "127.0.0.1"])
def test_this_machine_is_answered(host: str) -> None:
    with served() as page:
        assert httpx.get(page.url + "api/held", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_only_loopback_is_bound(host: str) -> None:
    with pytest.raises(UsageError, match="anyone in the network could watch"):
        Page("t", "s", host=host)


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot use port {port}.*--port"):
            Page("t", "s", port=port)


def test_stopping_ends_open_connections() -> None:
    with served() as page, httpx.stream("GET", page.url + "api/events", timeout=10) as answer:
        lines = answer.iter_lines()
        next(lines)
        page.stop()
        assert list(lines) is not None
    page.stop()


def test_a_page_never_started_can_be_stopped() -> None:
    page = Page("t", "s")
    for image in scenes(1):
        assert image.shape == (180, 320, 3)
    page.stop()
