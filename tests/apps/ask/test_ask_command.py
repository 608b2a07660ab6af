"""`retain ask` as a person meets it: the table, JSON, the page, a running watch, wrong input."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import media
import numpy as np
import pytest
from clip_parts import tiny_clip
from command_parts import Retain
from PIL import Image as Pil
from runtime_parts import Recorder

from retain.apps import watch as watching
from retain.apps.ask.run import seconds_of, span
from retain.apps.page.server import Page
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.run import start


def shot(k: int) -> np.ndarray:
    """Two scenes of three seconds."""
    return media.picture(5 * (k >= 30), 64, 48) // (1 + (k >= 30))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ask")
    clip = media.write_video(folder / "two.mp4", 60, rate=10, draw=shot)
    options = watching.WatchOptions(
        source=str(clip), out=folder / "two", fps=5.0, encoder="pixels", page=False, runner="inline"
    )
    watching.watch(options, lambda done: None)
    Pil.fromarray(shot(40)).save(folder / "late.png")
    Pil.fromarray(shot(40)).save(folder / "late.webp", lossless=True)
    Pil.new("1", (8193, 8)).save(folder / "huge.png")
    Pil.new("1", (10_000, 9_000)).save(folder / "bomb.png")
    return folder


@pytest.fixture
def ask(retain: Retain, monkeypatch: pytest.MonkeyPatch, result: Path) -> Retain:
    """Run `retain ask` where ``result`` is."""
    monkeypatch.chdir(result)
    return partial(retain, "ask")


@pytest.mark.parametrize("picture", ["late.png", "late.webp"])
def test_the_table(ask: Retain, picture: str) -> None:
    code, out, _ = ask("two", picture)
    assert code == 0
    rows = [line.split() for line in out.splitlines() if re.match(r"\s*\d", line)]
    assert rows[0][0] == "1"
    assert 3 <= seconds_of(rows[0][1]) < 6
    assert "tier" in out


def test_json(ask: Retain) -> None:
    code, out, _ = ask("two", "--image", "late.png", "--to", "0:02", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["encoder"] == "pixels"
    assert all(moment["seconds"] <= 2 for moment in told["moments"])
    assert told["moments"][0]["clip"].startswith("file:///")


def test_the_page_is_one_file_and_its_clips_play(ask: Retain, result: Path, tmp_path: Path) -> None:
    code, _, err = ask("two", "late.png", "-k", "2", "--out", str(tmp_path / "answer"))
    assert code == 0
    page = (tmp_path / "answer/answer.html").read_text("utf-8")
    assert str(tmp_path / "answer/answer.html") in err
    sources = re.findall(r'(?:src|poster)="([^"]{0,20})', page)
    assert sources
    assert all(s.startswith("data:") for s in sources)
    clips = sorted(p.name for p in (tmp_path / "answer").glob("*.mp4"))
    assert clips == ["moment-1.mp4", "moment-2.mp4"][: page.count("<video")]
    assert "late.png" in page
    again, _, err = ask("two", "late.png", "--out", str(tmp_path / "answer"))
    assert again == 2
    assert "there already" in err


def test_a_page_says_words_as_they_are(ask: Retain, result: Path, tmp_path: Path) -> None:
    """Names of files come from outside."""
    hostile = result / "<img src=x onerror=alert(1)>.png"
    Pil.fromarray(shot(40)).save(hostile)
    code, *_ = ask("two", "--image", hostile.name, "--out", str(tmp_path / "answer"))
    assert code == 0
    assert "<img src=x" not in (tmp_path / "answer/answer.html").read_text("utf-8")


def test_a_clip_that_cannot_be_cut_is_left_out(
    ask: Retain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.apps.ask import report

    def fails(source: Path, out: Path, start_s: float, end_s: float) -> None:
        out.write_bytes(b"half")
        raise RetainError("It is damaged.")

    monkeypatch.setattr(report, "cut", fails)
    code, *_ = ask("two", "late.png", "-k", "1", "--out", str(tmp_path / "answer"))
    assert code == 0
    page = (tmp_path / "answer/answer.html").read_text("utf-8")
    assert "There is no clip of moment 1. It is damaged." in page
    assert "<video" not in page
    assert [p.name for p in (tmp_path / "answer").iterdir()] == ["answer.html"]


def test_footage_that_was_replaced_is_not_played(ask: Retain, result: Path, tmp_path: Path) -> None:
    clip = result / "two.mp4"
    before = clip.read_bytes()
    media.write_video(clip, 60, rate=10, draw=lambda k: 255 - shot(k))
    try:
        code, _, err = ask("two", "late.png", "--out", str(tmp_path / "answer"))
    finally:
        clip.write_bytes(before)
    assert code == 0
    assert "does not show now what the memory kept" in err
    assert not list((tmp_path / "answer").glob("*.mp4"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent", "late.png"), "There is no memory 'absent'"),
        (("late.png", "late.png"), "not a memory file"),
        (("x" * 5000, "late.png"), "There is no file"),
        (("two",), "Nothing was asked"),
        (("two", "absent.png"), "There is no file 'absent.png'"),
        (("two", "two/summary.json"), "cannot be read"),
        (("two", "--image", "two"), "is a folder"),
        (("two", "late.png", "--image", "late.png"), "one is enough"),
        (("two", "red", "--text", "car"), "write them as one"),
        (("two", "late.png", "-k", "0"), "At least one"),
        (("two", "--from", "1:00", "--to", "0:59"), "ends before it starts"),
        (("two", "--from", "1:00"), "No frame held lies after"),
        (("two", "--from", "soon"), "'soon' is not a time"),
        (("two", "late.png", "--encoder", "nope"), "nope"),
        (("1", "late.png"), "Nothing answers at http://127.0.0.1:1"),
        (("http://example.org/", "late.png"), "not a live page's address on this machine"),
        (("1", "late.png", "--encoder", "pixels"), "Nothing answers"),
        (("two", "huge.png"), "Give a smaller one"),
        (("two", "bomb.png"), "Give a smaller one"),
        (("9" * 24, "--from", "0"), "not a live page's address"),
        (("\u0663\u0663", "--from", "0"), "not a live page's address"),
        (("http://127.0.0.1:x", "--from", "0"), "not a live page's address"),
        (("http://127.0.0.1 :80", "--from", "0"), "not a live page's address"),
        (("http://localhost.example.org", "--from", "0"), "not a live page's address"),
        (("http://127.0.0.1:80@example.org", "--from", "0"), "not a live page's address"),
        (
            ("https://example.org", "--from", "0", "--encoder", "pixels"),
            "not a live page's address",
        ),
    ],
)
def test_wrong_input_is_one_sentence(ask: Retain, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = ask(*arguments)
    assert code == 2
    assert words in err
    assert err.startswith("retain: ")
    assert len(err.strip().splitlines()) == 1
    assert out == ""


def test_times() -> None:
    assert [seconds_of(t) for t in ("90", "1:30", "0:01:30", "1:00:00.5", "90:00", " 7. ")] == [
        90, 90, 90, 3600.5, 5400, 7,
    ]  # fmt: skip
    for wrong in ("", "-1", "1:60", "0:60:00", "1:2:3:4", "nan", "inf", "1e3", "1m"):
        with pytest.raises(UsageError, match="is not a time"):
            seconds_of(wrong)
    assert (span(1, 1), span(1, 2)) == ("0:01.0", "0:01.0 – 0:02.0")


# a running watch

MOMENT = {
    "rank": 1, "seq": 4, "seconds": 3.5, "start_s": 3.0, "end_s": 4.0, "score": 0.75,
    "tier": "clear", "reason": "score", "frames": 2, "clip": "", "picture": "/api/ask/4.jpg",
}  # fmt: skip


class Watch(HTTPServer):
    """Answers as the page of a running watch does."""

    said = (200, {"encoder": "pixels", "notes": ["It runs."], "moments": [MOMENT]})

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Watch

    def do_GET(self) -> None:
        self.answer(200, {"asks": True, "words": True})

    def do_POST(self) -> None:
        assert self.headers["X-Retain"] == "1"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Content-Type"], body))
        self.answer(*self.server.said)

    def answer(self, code: int, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def watch() -> Iterator[Watch]:
    with Watch() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_running_watch_is_asked_in_words(ask: Retain, watch: Watch) -> None:
    code, out, err = ask(str(watch.server_port), "a red car", "--from", "2", "-k", "3")
    assert code == 0
    assert "0:03.5" in out
    assert "It runs." in err
    ((path, kind, body),) = watch.asked
    assert (path, kind) == ("/api/ask", "application/json")
    assert json.loads(body) == {"text": "a red car", "start_s": 2.0, "k": 3}


def test_a_running_watch_is_asked_by_a_picture(ask: Retain, watch: Watch) -> None:
    address = f"http://127.0.0.1:{watch.server_port}/"
    code, out, _ = ask(address, "late.webp", "--to", "0:09", "--json")
    assert code == 0
    assert json.loads(out)["moments"] == [MOMENT]
    ((path, kind, body),) = watch.asked
    assert kind == "image/png"
    assert parse_qs(urlsplit(path).query) == {"k": ["5"], "end_s": ["9.0"]}
    np.testing.assert_array_equal(np.asarray(Pil.open(BytesIO(body))), shot(40))


@pytest.mark.parametrize(
    ("code", "document", "words", "exit_code"),
    [
        (409, {"error": "No frame is held yet.", "hint": "Ask again."}, "held yet. Ask again.", 1),
        (400, {"error": "Nothing was asked.", "hint": ""}, "Nothing was asked.", 2),
        (404, "Not Found", "has no memory to ask (404)", 2),
        (200, {"moments": "many"}, "is not a page of retain", 2),
    ],
)
def test_a_running_watch_that_refuses(
    ask: Retain, watch: Watch, code: int, document: object, words: str, exit_code: int
) -> None:
    watch.said = (code, document)  # type: ignore[assignment]
    ended, _, err = ask(str(watch.server_port), "late.png")
    assert ended == exit_code
    assert words in err


@pytest.mark.parametrize("more", [(), ("--encoder", "pixels")])
def test_what_speaks_another_language(ask: Retain, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                peer.recv(65536)

        thread = threading.Thread(target=greet)
        thread.start()
        code, _, err = ask(str(server.getsockname()[1]), "--from", "0", *more)
        thread.join()
    assert code in (1, 2)
    assert "Nothing answers at http://127.0.0.1" in err
    assert "Traceback" not in err


@pytest.fixture
def running(result: Path) -> Iterator[str]:
    """The port of a watch that goes slowly."""
    options = watching.WatchOptions(
        source=str(result / "two.mp4"), encoder="pixels", fps=5.0, pace=0.2
    )
    graph = watching.build_graph(options, live=False, page=False)
    page, out = Page("two", options.source), Recorder()
    page.start()
    try:
        with start(graph, runner="inline", sinks={"results": out}) as run:
            page.attach(run)
            while len(out.packets) < 3:
                time.sleep(0.01)
            yield str(urlsplit(page.url).port)
    finally:
        page.stop()


def test_with_a_page_wanted_a_running_watch_gives_its_state(
    ask: Retain, result: Path, running: str, tmp_path: Path
) -> None:
    """Its picture of the footage is compared with the file, so a clip is of what was kept."""
    code, told, _ = ask(running, "late.png", "--out", str(tmp_path / "answer"), "--json")
    assert code == 0
    assert json.loads(told)["moments"][0]["clip"].startswith((result / "two.mp4").as_uri())
    assert {p.name for p in (tmp_path / "answer").iterdir()} == {"answer.html", "moment-1.mp4"}


@pytest.mark.parametrize("place", ["two", "running"])
def test_words_through_a_tiny_openclip(
    ask: Retain, running: str, tmp_path: Path, place: str
) -> None:
    """Its weights are random: this shows that every part is connected, and no more."""
    pytest.importorskip("open_clip")
    encoder = tiny_clip(tmp_path)
    memory = running if place == "running" else place
    code, out, err = ask(memory, "a white bar", "--encoder", encoder, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["encoder"] == encoder
    assert told["moments"]
    assert "described anew" in told["notes"][0]
