"""Asking a watch over its page: what it answers, and what it refuses in a sentence."""

from __future__ import annotations

import io
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
from ask_parts import SCENE, film, jpeg, options_of, result, scene, watched
from clip_parts import tiny_clip
from page_feed import FakeRun
from PIL import Image as Pil

from retain.apps.page.access import Access
from retain.apps.page.ask import MAX_JSON, MAX_PICTURE, Asker, decoded
from retain.apps.page.routes import PAGE_POLICY
from retain.apps.page.server import Page
from retain.pipeline.errors import StateError, UsageError

HEADERS = {"X-Retain": "1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film"), seconds=300)  # longer than these tests


@pytest.fixture(scope="module")
def page(source: Path) -> Iterator[Page]:
    with watched(source, frames=48) as made:  # beyond 1.2 s and 3 s more: two moments
        yield made


def asked(page: Page, **question: Any) -> httpx.Response:
    return httpx.post(f"{page.url}api/ask", json=question, headers=HEADERS, timeout=30)


def shown(page: Page, picture: bytes, **query: Any) -> httpx.Response:
    headers = {**HEADERS, "Content-Type": "image/jpeg"}
    return httpx.post(
        f"{page.url}api/ask", content=picture, params=query, headers=headers, timeout=30
    )


def refused(answer: httpx.Response, status: int, sentence: str) -> None:
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"error", "hint"}
    assert sentence in told["error"], told


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
        assert asked(page, seq=newest, k=1).json()["moments"][0]["seq"] == newest
        assert page.asker._encoder is None
        refused(asked(page, seq=2**62), 400, "is not held")
        assert asked(page, seq=2**62, if_held=True).json() == {"held": False}
        told = asked(page, seq=newest, if_held=True, k=1).json()
        assert told.get("held") is False or told["moments"][0]["seq"] == newest
        refused(asked(page, seq=first["seq"], text="a dog"), 400, "an example alone")
        for wrong in (-1, 2**63, 1.5, "x"):
            refused(asked(page, seq=wrong), 400, "no question")


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


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({}, "Nothing was asked"),
        ({"start_s": 2, "end_s": 1}, "ends before it starts"),
        ({"start_s": 1e6}, "No frame held lies after"),
        ({"start_s": 1e12}, "no question"),
        ({"start_s": 0, "k": 0}, "no question"),
        ({"start_s": 0, "k": 1000}, "no question"),
        ({"start_s": "soon"}, "no question"),
        ({"path": "/etc/passwd"}, "no question"),
        ({"text": "a" * 3000}, "no question"),
    ],
)
def test_questions_that_are_wrong(page: Page, question: dict[str, Any], sentence: str) -> None:
    refused(asked(page, **question), 400, sentence)


@pytest.mark.parametrize("query", [{"start_s": "nan"}, {"k": "-1"}, {"source": "x"}])
def test_queries_that_are_wrong(page: Page, query: dict[str, str]) -> None:
    refused(shown(page, jpeg(scene(0)), **query), 400, "no question")


def test_pictures_that_are_none(page: Page) -> None:
    whole = jpeg(scene(0))
    for data in (b"", b"\xff\xd8\xff", b"GIF89a", whole[: len(whole) // 2], b"<svg/>"):
        refused(shown(page, data), 400, "cannot be read")


def test_damage_in_what_describes_a_picture_is_a_refusal(page: Page) -> None:
    """Turning a picture upright writes its description anew, and a fraction for a width makes the
    writer fail as no decoder does."""
    described = Pil.Exif()
    described[0x0112], described[0x011A] = 6, 2.5
    out = io.BytesIO()
    Pil.new("RGB", (64, 48)).save(out, "JPEG", exif=described)
    whole = out.getvalue()
    assert decoded(whole).shape == (64, 48, 3)
    damaged = whole.replace(struct.pack(">HH", 0x011A, 5), struct.pack(">HH", 0x0100, 5))
    refused(shown(page, damaged), 400, "cannot be read")


def test_a_picture_of_sixteen_bits_is_as_bright_as_it_is() -> None:
    out = io.BytesIO()
    Pil.fromarray(np.full((8, 8), 0x4321, np.uint16)).save(out, "PNG")
    assert (decoded(out.getvalue()) == 0x43).all()


def test_enormous_pictures_are_refused_before_they_are_decoded() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UsageError, match="9000x9000 pixels"):
        decoded(bomb)


def test_a_large_picture_is_looked_at_small() -> None:
    out = io.BytesIO()
    Pil.new("RGB", (6000, 3000), (200, 10, 10)).save(out, "PNG")
    small = decoded(out.getvalue())
    assert small.shape == (512, 1024, 3)
    assert (small == (200, 10, 10)).all()


def test_bodies_that_are_too_long_or_of_another_kind(page: Page) -> None:
    refused(asked(page, text="a" * (MAX_JSON + 1)), 413, "at most")
    refused(shown(page, b"x" * (MAX_PICTURE + 1)), 413, "at most")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "image/gif", ""):
        headers = {**HEADERS, "Content-Type": kind}
        answer = httpx.post(f"{page.url}api/ask", content=b"{}", headers=headers)
        refused(answer, 415, "A question is JSON")
    broken = httpx.post(
        f"{page.url}api/ask",
        content=b"{",
        headers={**HEADERS, "Content-Type": "application/json"},
    )
    refused(broken, 400, "no question")


def test_who_breaks_off_is_not_told_of(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    host = urlsplit(page.url)
    head = f"POST /api/ask HTTP/1.1\r\nHost: {host.netloc}\r\nX-Retain: 1\r\n"
    head += "Content-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\nhalf"
    for _ in range(3):
        with socket.create_connection((host.hostname, host.port)) as peer:
            peer.sendall(head.encode())
            time.sleep(0.05)
    assert asked(page, start_s=0.0).status_code == 200
    assert "Exception" not in caplog.text


def test_other_sites_are_refused(page: Page) -> None:
    refused(httpx.post(f"{page.url}api/ask", json={"start_s": 0}), 403, "X-Retain")
    clip = f"{page.url}api/clip?start=0&end=1"
    refused(httpx.get(clip, headers={"Sec-Fetch-Site": "cross-site"}), 403, "other sites")
    for path in ("api/ask", "api/ask/0.jpg", "api/clip?start=0&end=1"):
        assert httpx.get(page.url + path, headers={"Host": "evil.example"}).status_code == 421


def test_a_token_is_needed_where_there_is_one(tmp_path: Path, source: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-long-enough")
    file.chmod(0o600)
    page = Page("film", "film", access=Access(file), asker=Asker(str(source), "pixels", "cpu"))
    page.start()
    try:
        assert asked(page, start_s=0).status_code == 401
        for path in ("api/ask", "api/ask/0.jpg", "api/clip?start=0&end=1"):
            assert httpx.get(page.url + path).status_code == 401
        known = {**HEADERS, "Authorization": "Bearer a-token-long-enough"}
        answer = httpx.post(f"{page.url}api/ask", json={"start_s": 0}, headers=known)
        refused(answer, 409, "No frame has come yet")
    finally:
        page.stop()


def test_one_question_at_a_time(page: Page) -> None:
    assert page.asker
    with page.asker._one:
        refused(asked(page, start_s=0), 429, "Another question")
    assert asked(page, start_s=0).status_code == 200


def test_a_page_without_a_memory(tmp_path: Path) -> None:
    page = Page("film", "film.mp4")
    page.start()
    try:
        assert httpx.get(f"{page.url}api/ask").json() == {"asks": False}
        refused(asked(page, start_s=0), 404, "no memory to ask")
        refused(httpx.get(f"{page.url}api/clip?start=0&end=1"), 404, "no clips")
        assert httpx.get(f"{page.url}api/ask/3.jpg").status_code == 204
    finally:
        page.stop()


def test_clips_are_of_the_source_and_of_no_other_file(page: Page, source: Path) -> None:
    def clip(**query: Any) -> httpx.Response:
        return httpx.get(f"{page.url}api/clip", params=query, timeout=30)

    plain, with_path = clip(start=1, end=1), clip(start=1, end=1, path="/etc/passwd")
    assert plain.content == with_path.content
    refused(clip(start=1e6, end=1e6), 409, "shows nothing")
    for start, end in ((-1, 2), (3, 2), ("nan", 2), (0, "inf"), ("../x", 1), (0, "")):
        refused(clip(start=start, end=end), 400, "a start and an end")
    long = clip(start=0, end=90)
    with av.open(io.BytesIO(long.content)) as container:
        assert container.duration <= 31_000_000


def test_a_source_that_is_no_file_has_no_clips(source: Path) -> None:
    for other in ("", "rtsp://camera/1", "synthetic://x", str(source.parent), "0"):
        assert Asker(other, "pixels").about()["clips"] is False


def test_clips_are_few_and_removed_with_the_page(source: Path) -> None:
    asker = Asker(str(source), "pixels")
    paths = [asker.clip(second, second) for second in range(10)]
    assert sum(path.exists() for path in paths) == 8
    asker.close()
    assert not any(path.exists() for path in paths)


def test_media_may_come_from_the_page_alone() -> None:
    assert "media-src 'self'" in PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
