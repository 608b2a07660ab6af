"""The console of `retain serve`: what it knows, whom it obeys, what it changes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest
from browser_parts import Watched, launched, until
from page_feed import FakeRun, Feed

from retain.apps.page.console import Console
from retain.apps.serve import Journals, ServeOptions, build_graph
from retain.pipeline.packet import Packet
from retain.pipeline.run import Run, start
from retain.pipeline.streams import Settings, load_streams

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FILE = """\
streams:
  # the front
  door: {source: "rtsp://viewer:hunter2@127.0.0.1:9/1"}
  yard: {source: "synthetic://bounce?live=1"}
settings: {encoder: pixels, entries: 6}
"""


def say(console: Console) -> dict[str, str]:
    return {"X-Retain": "1", "X-Retain-Token": console.token}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "house.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def console(file: Path) -> Iterator[Console]:
    made = Console(file, file.parent)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def serving(file: Path, console: Console) -> Iterator[Run]:
    """A real run behind the console."""
    options = ServeOptions(streams=file, out=file.parent, runner="inline")
    (file.parent / "memories").mkdir()
    journals = Journals(file.parent, 1 << 20)
    graph = build_graph(options, load_streams(file).settings, page=True)
    with start(graph, runner="inline", sinks={"results": journals, "console": console}) as run:
        console.attach(run)
        yield run
    journals.close()


def of(stream: str, packets: Iterator[Packet]) -> list[Packet]:
    return [Packet(replace(p.frame, stream=stream), p.results) for p in packets]


def wait_for(console: Console, path: str) -> httpx.Response:
    for _ in range(200):
        answer = httpx.get(console.url + path, timeout=10)
        if answer.status_code == 200:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{path}: {answer.status_code}")


def test_it_knows_every_stream_and_tells_no_password(console: Console) -> None:
    for packet in of("yard", Feed(entries=4).packets(60)):
        console.process(packet)
    answer = httpx.get(f"{console.url}api/state")
    assert "hunter2" not in answer.text
    door, yard = answer.json()["streams"]["streams"]
    assert (door["name"], door["frames"], door["picture"]) == ("door", 0, 0)
    assert (yard["name"], yard["frames"], yard["kept"]) == ("yard", 60, 4)
    assert 0 < yard["nbytes"] <= yard["byte_budget"]
    assert httpx.get(f"{console.url}api/streams/yard.jpg").content[:2] == b"\xff\xd8"
    assert httpx.get(f"{console.url}api/streams/door.jpg").status_code == 204
    kept = httpx.get(f"{console.url}api/streams/yard/kept").json()["entries"]
    assert len(kept) == 4
    for entry in kept:
        picture = httpx.get(f"{console.url}api/streams/yard/kept/{entry['seq']}.jpg")
        assert picture.content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("path", ["stop", "save", "streams", "streams/door/remove"])
def test_other_sites_and_strangers_can_change_nothing(
    console: Console, file: Path, path: str
) -> None:
    body = b'{"name": "roof", "source": "0"}'
    assert httpx.post(f"{console.url}api/{path}", content=body).status_code == 403
    stranger = httpx.post(
        f"{console.url}api/{path}", content=body, headers={"X-Retain": "1", "X-Retain-Token": "x"}
    )
    assert stranger.status_code == 401
    evil = httpx.post(
        f"{console.url}api/{path}", content=body, headers={**say(console), "Host": "evil.example"}
    )
    assert evil.status_code == 421
    assert file.read_text() == FILE


def test_streams_are_added_and_removed(console: Console, file: Path) -> None:
    new = {"name": "roof", "source": "rtsp://u:${PW}@h/1", "fps": 1}
    assert (
        httpx.post(f"{console.url}api/streams", json=new, headers=say(console)).status_code == 200
    )
    assert load_streams(file).streams["roof"].source == new["source"]
    assert "# the front" in file.read_text()
    answer = httpx.post(f"{console.url}api/streams/door/remove", headers=say(console))
    assert answer.status_code == 200
    assert list(load_streams(file).streams) == ["yard", "roof"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"name": "door", "source": "0"}, "already"),
        ({"name": "../x", "source": "0"}, "cannot be called"),
        ({"name": "x", "source": " "}, "length"),
        ({"name": "x", "source": "0", "fps": -1}, "fps"),
        ({"name": "x", "source": "0", "shell": "rm"}, "shell"),
        ({"name": "x"}, "source"),
        ({"name": "x" * 20_000, "source": "0"}, "too long"),
    ],
)
def test_a_wrong_stream_is_refused(
    console: Console, file: Path, body: dict[str, object], words: str
) -> None:
    answer = httpx.post(f"{console.url}api/streams", json=body, headers=say(console))
    assert answer.status_code in (400, 413)
    assert words in answer.text
    assert file.read_text() == FILE


def test_a_mistake_in_the_file_is_shown(console: Console, file: Path) -> None:
    file.write_text(FILE.replace("source:", "sauce:"))
    streams = httpx.get(f"{console.url}api/state").json()["streams"]
    assert "Did you mean 'source'" in streams["mistake"]


def test_a_run_is_saved_and_stopped_from_the_page(console: Console, serving: Run) -> None:
    wait_for(console, "api/streams/yard.jpg")
    time.sleep(1.1)  # the numbers of a run are asked for once a second
    rows = httpx.get(f"{console.url}api/state").json()["streams"]["streams"]
    yard = next(row for row in rows if row["name"] == "yard")
    assert yard["state"] == "running"
    assert yard["captured"] >= yard["delivered"] > 0
    saved = httpx.post(f"{console.url}api/save", headers=say(console), timeout=30)
    assert saved.status_code == 200, saved.text
    (folder,) = (console._folder / "snapshots").iterdir()
    assert (folder / "graph.json").exists()
    assert httpx.post(f"{console.url}api/stop", headers=say(console)).status_code == 200
    report = serving.wait(20)
    assert report.ok, report.errors
    assert report.stopped == "drained"
    assert [path.name for path in (console._folder / "memories").iterdir()] == ["yard.safetensors"]
    assert httpx.post(f"{console.url}api/stop", headers=say(console)).status_code == 409
    lines = (console._folder / "results-yard.jsonl").read_bytes().splitlines()
    assert len(lines) == report.stats.node("results").received
    assert {msgspec.json.decode(line)["stream"] for line in lines} == {"yard"}


def test_journals_give_way_to_new_ones(tmp_path: Path) -> None:
    journals = Journals(tmp_path, 4096)
    for packet in of("a", Feed().packets(40)) + of("b", Feed().packets(2)):
        journals.process(packet)
    journals.close()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results-a.jsonl", "results-a.1.jsonl", "results-b.jsonl"}
    lines = (tmp_path / "results-a.1.jsonl").read_bytes().splitlines()
    assert "held" in msgspec.json.decode(lines[0])["results"]


def test_one_mailbox_each_and_the_settings_reach_the_stages(file: Path) -> None:
    settings = Settings(bytes=1_000_000, batch=4, evict_after_s=5)
    graph = build_graph(ServeOptions(streams=file), settings, page=False)
    graph.validate()
    assert graph.promise == "live"
    assert graph.nodes["streams"].options["round"] == graph.nodes["encode"].options["batch"] == 4
    assert graph.nodes["remember"].options["byte_budget"] == 1_000_000
    assert {str(edge.policy) for edge in graph.inputs("encode")} == {"block"}


def test_the_command_serves_until_it_is_asked_to_stop(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text(
        "streams: {yard: {source: 'synthetic://bounce?live=1', fps: 10}}\n"
        "settings: {encoder: pixels}\n"
    )
    with command("house.yaml", tmp_path) as running:
        assert running.stderr is not None
        found = re.search(r"http://\S+", running.stderr.readline())
        assert found is not None
        results = tmp_path / "retain-out/house/results-yard.jsonl"
        deadline = time.monotonic() + 60
        while not results.exists() or len(results.read_bytes().splitlines()) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        rows = httpx.get(f"{found[0].partition('#')[0]}api/state").json()["streams"]["streams"]
        assert [row["name"] for row in rows] == ["yard"]
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    assert "served" in out
    assert (tmp_path / "retain-out/house/memories/yard.safetensors").exists()


def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "house.yaml").write_text("streams:\n  a: {sauce: x}\n")
    with command("house.yaml", tmp_path) as running:
        out, err = running.communicate(timeout=30)
    assert running.returncode == 2
    assert "line 2" in err
    assert "Did you mean 'source'?" in err
    assert out == ""
    assert not (tmp_path / "retain-out").exists()


def command(file: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retain.apps.cli", "serve", file],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_the_console_in_a_browser(
    browser: Browser, console: Console, file: Path, size: str, scheme: str
) -> None:
    from playwright.sync_api import expect

    console.attach(FakeRun())
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        tab.on("dialog", lambda dialog: dialog.accept())
        tab.goto(console.address)
        assert tab.url == console.url, "the token does not stay in the address"
        cards = tab.locator(".grid li")
        expect(cards).to_have_count(2)
        expect(cards.first.get_by_text("No picture yet")).to_be_visible()
        for packet in of("yard", Feed(entries=4).packets(60)):
            console.process(packet)
        expect(cards.nth(1)).to_contain_text("4 kept")
        until(tab, "document.querySelectorAll('.grid img')[1].naturalWidth > 0")
        assert not watched.wide()

        cards.nth(1).get_by_role("button").focus()
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("dialog", name="yard")).to_be_visible()
        expect(tab.locator(".moments li")).to_have_count(4)
        until(tab, "document.querySelector('dialog.large .picture img').naturalWidth > 0")
        tab.keyboard.press("Escape")
        expect(tab.get_by_role("dialog", name="yard")).to_be_hidden()

        tab.get_by_role("button", name="Add stream").click()
        tab.get_by_label("Name").fill("roof")
        tab.get_by_label("Source").fill("<b>0</b>")
        tab.get_by_role("button", name="Add", exact=True).click()
        expect(cards).to_have_count(3)
        assert load_streams(file).streams["roof"].source == "<b>0</b>"

        cards.first.get_by_role("button").click()
        tab.get_by_role("button", name="Remove").click()
        expect(cards).to_have_count(2)
        assert list(load_streams(file).streams) == ["yard", "roof"]
        tab.get_by_role("button", name="Snapshot").click()
        expect(tab.locator(".sentence")).to_contain_text("Nothing runs")  # a counterfeit one
        # The browser itself reports the refusal.
        assert [p for p in watched.problems if "409" not in p] == []
