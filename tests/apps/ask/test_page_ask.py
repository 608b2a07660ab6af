"""Asking a watch over its page: what it answers, and what it refuses in a sentence."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from ask_parts import SCENE, film, jpeg, options_of, result, scene, watched
from clip_parts import tiny_clip
from page_ask_parts import asked, refused, shown
from page_feed import FakeRun

from retain.apps.page.ask import Asker, decoded
from retain.apps.page.server import Page
from retain.pipeline.errors import StateError, UsageError

# --- what it answers


def test_an_example_picture_finds_its_scene(page: Page) -> None:
    answer = shown(page, jpeg(scene(SCENE + 5)), k=2)
    assert answer.status_code == 200
    told = answer.json()
    assert told["encoder"] == "pixels"
    best, other = told["moments"]
    assert best["rank"] == 1
    assert best["score"] > 0.98
    assert best["score"] >= other["score"]
    assert abs(best["seconds"] % 5 - 1.2) < 0.4
    picture = httpx.get(page.url.rstrip("/") + best["picture"])
    assert picture.headers["content-type"] == "image/jpeg"
    seen = decoded(picture.content)
    assert np.abs(seen[4, 4].astype(int) - scene(SCENE + 5)[4, 4]).max() < 30


def test_a_held_frame_is_its_own_example(source: Path) -> None:
    """Exactly, at once and without an encoder; also the frame that came just now."""
    with watched(source, frames=48) as page:
        assert page.asker is not None
        first = asked(page, start_s=0.0, k=1).json()["moments"][0]
        told = asked(page, seq=first["seq"], k=3, end_s=100.0).json()
        best, *others = told["moments"]
        assert (best["seq"], round(best["score"], 6)) == (first["seq"], 1.0)
        assert all(other["score"] <= best["score"] for other in others)
        assert told["encoder"] == "pixels"
        newest = httpx.get(f"{page.url}api/state").json()["held"]["entries"][-1]["seq"]
        assert newest in exact(asked(page, seq=newest, k=3).json())
        assert page.asker._encoder is None
        refused(asked(page, seq=2**62), 400, "is not held")
        assert asked(page, seq=2**62, if_held=True).json() == {"held": False}
        told = asked(page, seq=newest, if_held=True, k=3).json()
        assert told.get("held") is False or newest in exact(told)
        refused(asked(page, seq=first["seq"], text="a dog"), 400, "an example alone")
        for wrong in (-1, 2**63, 1.5, "x"):
            refused(asked(page, seq=wrong), 400, "no question")


def exact(told: dict[str, Any]) -> set[int]:
    """Moments that are the example itself: two when the film, which repeats, has gone on so far."""
    return {moment["seq"] for moment in told["moments"] if round(moment["score"], 6) == 1}


def test_a_range_alone_gives_its_moments_in_order(page: Page) -> None:
    told = asked(page, start_s=1.0, end_s=2.5, k=3).json()
    times = [moment["seconds"] for moment in told["moments"]]
    assert times == sorted(times)
    assert times
    assert all(1.0 <= time <= 2.5 for time in times)
    assert all(moment["score"] is None for moment in told["moments"])


def test_a_clip_plays_the_footage_around_a_moment(page: Page) -> None:
    moment = shown(page, jpeg(scene(2 * SCENE + 5))).json()["moments"][0]
    address = page.url.rstrip("/") + moment["clip"]
    whole = httpx.get(address, timeout=30)
    assert whole.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(whole.content)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    span = moment["end_s"] - moment["start_s"]
    assert 25 * span < len(pictures) <= 25 * (span + 4) + 2
    blue = sum(int(p[4, 4, 2]) > 180 and int(p[4, 4, 0]) < 90 for p in pictures)
    assert blue >= 20
    part = httpx.get(address, headers={"Range": "bytes=0-99"}, timeout=30)
    assert part.status_code == 206
    assert part.content == whole.content[:100]


def test_words_end_to_end(source: Path, tmp_path: Path) -> None:
    with watched(source, tiny_clip(tmp_path)) as page:
        able = httpx.get(f"{page.url}api/ask").json()
        assert able == {"asks": True, "words": True, "why": "", "clips": True}
        told = asked(page, text="a red wall", k=3).json()
        assert told["encoder"].startswith("openclip:")
        assert told["notes"] == [] or "stands out" in told["notes"][0]
        assert all(-1 <= moment["score"] <= 1 for moment in told["moments"])
        refused(asked(page, text="厨房里的狗"), 400, "does not know the words")
        both = shown(page, jpeg(scene(0)), text="a red wall")
        assert both.status_code == 200


def test_words_without_an_encoder_for_them(page: Page) -> None:
    able = httpx.get(f"{page.url}api/ask").json()
    assert able["words"] is False
    assert "--encoder openclip" in able["why"]
    refused(asked(page, text="a dog"), 400, "knows pictures only")


def test_the_results_are_asked_when_the_run_has_ended(source: Path, tmp_path: Path) -> None:
    short = film(tmp_path, seconds=5)
    folder = result(short, tmp_path / "out")
    before = sorted(folder.iterdir())
    page = Page("film", "film.mp4", asker=Asker(str(short), "pixels", "cpu"))
    page.start()
    try:
        page.finish(folder / "report.html", "The stream has ended.")
        told = shown(page, jpeg(scene(3 * SCENE + 5))).json()
        assert abs(told["moments"][0]["seconds"] - 3.5) < 0.6
        assert sorted(folder.iterdir()) == before
    finally:
        page.stop()


def test_a_fresh_snapshot_answers_twice(page: Page, source: Path) -> None:
    class Run:
        asked = 0

        def stats(self) -> Any:
            assert page.run
            return page.run.stats()

        def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None:
            Run.asked += 1
            assert page.run
            page.run.snapshot(folder, timeout)

    now = [100.0]
    asker = Asker(str(source), "pixels", "cpu", clock=lambda: now[0])
    other = Page("film", "film.mp4", asker=asker)
    other.state = page.state
    other.run = Run()
    other.start()
    try:
        for after, snapshots in ((0.0, 1), (1.0, 1), (3.0, 2), (4.0, 2)):
            now[0] = 100.0 + after
            assert asked(other, start_s=0).status_code == 200
            assert Run.asked == snapshots
    finally:
        other.stop()


def test_the_encoder_is_loaded_once(
    page: Page, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.models.encoders import base

    names: list[str] = []
    create = base.create
    monkeypatch.setattr(base, "create", lambda name, **more: names.append(name) or create(name))
    now = [100.0]
    other = Page("film", "film.mp4", asker=Asker(str(source), "pixels", clock=lambda: now[0]))
    other.state, other.run = page.state, page.run
    other.start()
    try:
        assert asked(other, start_s=0).status_code == 200
        assert names == []
        for now[0] in (103.0, 106.0):
            assert shown(other, jpeg(scene(5))).status_code == 200
            assert other.used_at(50.0) == now[0]
        assert names == ["pixels"]
        assert other.used_at(200.0) == 200.0
    finally:
        other.stop()


def test_between_the_end_and_the_results(source: Path, tmp_path: Path) -> None:
    class Ended(FakeRun):
        def snapshot(self, folder: str | Path, timeout: float = 30.0) -> None:
            raise StateError("The graph gave no snapshot: it has ended.")

    page = Page("film", "film.mp4", asker=Asker(str(source), "pixels"))
    page.state.preview = lambda: (b"", {})  # type: ignore[method-assign]
    page.run = Ended()
    page.run.state = "done"
    page.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(asked, page, start_s=0)
            while not page.asker or not page.asker._one.locked():
                time.sleep(0.005)
            folder = result(film(tmp_path, seconds=2), tmp_path / "out")
            assert not waiting.done()
            page.finish(folder / "report.html", "The stream has ended.")
            assert waiting.result(20).status_code == 200
    finally:
        page.stop()


def test_the_command_line_asks_the_same_page(page: Page) -> None:
    from retain.apps.ask.answer import Question
    from retain.apps.ask.remote import ask_running, reads_words

    told = ask_running(page.url, Question(image=scene(SCENE + 5), k=2))
    best = told["moments"][0]
    assert told["encoder"] == "pixels"
    assert abs(best["seconds"] % 5 - 1.2) < 0.4
    assert best["picture"] == f"/api/ask/{best['seq']}.jpg"
    assert ask_running(page.url, Question(end_s=3.0))["moments"]
    assert reads_words(page.url) is False
    with pytest.raises(UsageError, match="No frame held lies after"):
        ask_running(page.url, Question(start_s=1e6))


def test_a_memory_that_goes_on_has_no_clips(source: Path, tmp_path: Path) -> None:
    from retain.apps.watch import _asker

    assert _asker(options_of(source)).about()["clips"] is True
    for going_on in ({"resume": tmp_path}, {"state": tmp_path}):
        assert _asker(options_of(source, **going_on)).about()["clips"] is False


# --- what it refuses
