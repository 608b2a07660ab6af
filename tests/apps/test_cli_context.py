"""`retain context`, and the example that asks a model."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import memory_parts
import pytest
from command_parts import Retain
from PIL import Image as Pillow
from runtime_parts import Recorder

from retain.apps.page.server import Page
from retain.memory import snapshot
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.pipeline.graph import Graph
from retain.pipeline.run import start

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "ask_model.py"


@pytest.fixture
def run(retain: Retain) -> Retain:
    """Run `retain context`."""
    return partial(retain, "context")


def remember(path: Path, count: int, payload: str = "jpeg") -> Path:
    """A memory file of a stream of ``count`` frames of 640x360."""
    config = FrameMemoryConfig(dim=32, max_entries=12, payload=payload)  # type: ignore[arg-type]
    memory = FrameMemory(config)
    features = memory_parts.features(max(count, 1))
    for frame, feature in zip(memory_parts.frames(count, 640, 360), features, strict=False):
        memory.observe("s", frame, feature)
    held = {"frames by pixels": (memory.config, memory.snapshot("s"))}
    snapshot.save(path, snapshot.MemoryFile("s", count, held))
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return remember(tmp_path_factory.mktemp("memory") / "memory.safetensors", 40)


def test_the_table_says_what_is_handed_over(run: Retain, place: Path) -> None:
    code, out, _ = run(place, "--question", "What?", "--budget", 1500)
    assert code == 0
    *rows, total = out.splitlines()
    assert total.startswith(f"  {len(rows)} of 12 frames")
    assert "of 1,500 tokens of qwen2.5-vl" in total
    seconds = [float(row.split()[0]) for row in rows]
    assert seconds == sorted(seconds)
    assert all(row.split()[2] in ("clear", "blurred") for row in rows)


def test_the_file_is_a_request_as_it_is(run: Retain, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "messages.json"
    assert run(place, "--question", "Was war?", "--system", "Kurz.", "--out", out)[0] == 0
    system, user = json.loads(out.read_text())
    assert system["role"] == "system"
    assert user["content"][-1] == {"type": "text", "text": "Was war?"}
    assert all(open_picture(part).size[0] > 0 for part in pictures_of(user))
    code, _, err = run(place, "--question", "x", "--out", out)
    assert code == 2
    assert "never overwrite" in err


@pytest.mark.parametrize(("style", "key"), [("qwen", "image"), ("hf", "url")])
def test_the_folder_names_its_pictures(
    run: Retain, place: Path, tmp_path: Path, style: str, key: str
) -> None:
    out = tmp_path / "handed"
    code, table, _ = run(place, "--question", "x", "--format", style, "--out", out)
    assert code == 0
    (user,) = json.loads((out / "messages.json").read_text())
    named = [part[key] for part in user["content"] if part["type"] == "image"]
    assert named == sorted(f"frames/{path.name}" for path in (out / "frames").iterdir())
    for row, name in zip(table.splitlines(), named, strict=False):
        with Pillow.open(out / name) as shown:
            assert f"{shown.width}x{shown.height}" in row
    with Pillow.open(out / "sheet.webp") as sheet:
        sheet.load()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["handed"]


def test_a_running_watch_hands_over_what_it_holds_now(run: Retain) -> None:
    graph = Graph()
    graph.source(
        "video", "retain.pipeline.sources.any:AnySource", source="synthetic://scenes?seconds=900"
    )
    graph.stage("encode", "retain.models.curvestream:Encode", encoder="pixels")
    graph.stage("remember", "retain.models.curvestream:Remember", max_entries=6)
    graph.sink("out")
    graph.connect("video", "encode", "remember", "out")
    page, seen = Page("a stream", "stream"), Recorder()
    page.start()
    try:
        with start(graph, runner="inline", sinks={"out": seen}) as running:
            page.attach(running)
            while len(seen.packets) < 20:
                threading.Event().wait(0.01)
            code, out, err = run(page.url, "--question", "What?", "--budget", 900)
    finally:
        page.stop()
    assert code == 0, err
    assert "of 900 tokens" in out.splitlines()[-1]


def test_what_cannot_be_is_said_in_a_sentence(run: Retain, place: Path, tmp_path: Path) -> None:
    empty = remember(tmp_path / "empty.safetensors", 0)
    bare = remember(tmp_path / "bare.safetensors", 10, "none")
    for arguments, words in (
        ((place, "--family", "qwen4-vl"), "Unknown model family 'qwen4-vl'"),
        ((place, "--budget", 40), "under one frame of qwen2.5-vl"),
        ((empty,), "The memory is empty"),
        ((bare,), "keeps no pictures"),
        ((tmp_path / "absent",), "There is no memory"),
        ((tmp_path,), "holds no memory"),
        ((place, "--out", place / "below.json"), "cannot be written"),
    ):
        code, out, err = run(*arguments, "--question", "What?")
        assert code == 2, err
        assert words in err
        assert err.startswith("retain: ")
        assert err.count("\n") == 1
        assert "frames," not in out


def pictures_of(message: dict[str, Any]) -> list[str]:
    parts = [part for part in message["content"] if part["type"] != "text"]
    return [part["image_url"]["url"] if "image_url" in part else part["url"] for part in parts]


def open_picture(address: str) -> Pillow.Image:
    shown = Pillow.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    shown.load()
    return shown


@contextmanager
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An API that counts the pictures; its address and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            seen = [open_picture(url).size for url in pictures_of(body["messages"][-1])]
            reply = {"choices": [{"message": {"content": f"I see {len(seen)} pictures."}}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", asked
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def example(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    direct = {"no_proxy": "127.0.0.1", "OPENAI_API_KEY": "secret"}
    return subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **direct, **environment},
    )


def test_the_example_asks_an_api(place: Path) -> None:
    with server() as (address, asked):
        done = example(place, "What happened?", "some-model", address)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "I see 12 pictures.\n"
    (request,) = asked
    assert (request["path"], request["model"]) == ("/v1/chat/completions", "some-model")
    assert request["key"] == "Bearer secret"


STUB = '''
"""What the example calls of transformers; the model says how much it was given."""
import base64

class Inputs(dict):
    def to(self, device):
        return self

class Ids:
    shape = (1, 0)

class AutoProcessor:
    from_pretrained = classmethod(lambda cls, name: cls())

    def apply_chat_template(self, messages, **options):
        assert options["add_generation_prompt"] and options["return_dict"]
        parts = messages[-1]["content"]
        images = [p["url"].split(",")[1] for p in parts if p["type"] == "image"]
        assert all(base64.b64decode(image)[:2] == bytes([255, 216]) for image in images)
        self.said = f"{len(images)} pictures, then {parts[-1]['text']}"
        return Inputs(input_ids=Ids())

    def batch_decode(self, ids, skip_special_tokens):
        return [self.said]

class Written:
    def __getitem__(self, where):
        return self

class AutoModelForImageTextToText:
    device = "cpu"
    from_pretrained = classmethod(lambda cls, name, dtype, device_map: cls())

    def generate(self, input_ids, max_new_tokens):
        return Written()
'''


def test_the_example_asks_transformers(place: Path, tmp_path: Path) -> None:
    (tmp_path / "transformers.py").write_text(STUB)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = example(place, "What happened?", "Qwen/Qwen3-VL-8B-Instruct", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "12 pictures, then What happened?\n"
