"""Questions to a live page that are refused, and what a page gives to nobody."""

from __future__ import annotations

import io
import socket
import struct
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
from ask_parts import jpeg, scene
from page_ask_parts import HEADERS, asked, refused, shown
from PIL import Image as Pil

from retain.apps.page.access import Access
from retain.apps.page.ask import MAX_JSON, MAX_PICTURE, Asker, decoded
from retain.apps.page.routes import PAGE_POLICY
from retain.apps.page.server import Page
from retain.pipeline.errors import UsageError


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
