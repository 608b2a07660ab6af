"""report.html: whole, self-contained, honest about what is missing."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from page_feed import FakeRun, Feed

from retain.apps import report as report_module
from retain.apps.recording import read
from retain.apps.report import write_report
from retain.pipeline.errors import RetainError, StateError
from retain.pipeline.sinks import JsonLines

HOSTILE = '<img src=x onerror="alert(1)">'
VOID = {"meta", "img", "br", "line", "rect", "path", "circle", "input", "link"}


class Strict(HTMLParser):
    """Notes tags that do not close, addresses, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.addresses.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(path: Path) -> Strict:
    parser = Strict()
    parser.feed(path.read_text("utf-8"))
    parser.close()
    assert parser.open == []
    return parser


class Kit:
    """A finished run's files, and how to report on them."""

    def __init__(self, folder: Path, frames: int, **feed: int) -> None:
        self.folder = folder
        self.results, self.memory = folder / "results.jsonl", folder / "memory.safetensors"
        self.feed, self.run = Feed(**feed), FakeRun()
        sink = JsonLines(str(self.results))
        for packet in self.feed.packets(frames, skip=40):
            sink.process(packet)
            self.run.frames += 1
        sink.close()
        self.feed.save(self.memory)
        self.run.state, self.run.uptime_s, self.run.lost = "done", 4.0, 2

    def report(self, **changes: Any) -> Path:
        given: dict[str, Any] = {
            "title": "street.mp4",
            "results": self.results,
            "memory": self.memory,
            "stats": msgspec.to_builtins(self.run.stats()),
            "environment": {"command": "retain watch street.mp4", "python": "3.11"},
        }
        return write_report(self.folder / "report.html", **(given | changes))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("run"), 200, entries=8)


def test_it_shows_every_kept_moment_in_order(kit: Kit) -> None:
    page = parse(kit.report())
    entries = kit.feed.memory.read("feed")
    cards = [i for i in page.ids if re.fullmatch(r"m\d+", i)]
    assert cards == [f"m{entry.seq}" for entry in entries]
    assert [a for a in page.addresses if a.startswith("#m")] == [f"#{card}" for card in cards]
    pictures = [a for a in page.addresses if a.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == len(entries) > 3


def test_it_says_what_happened(kit: Kit) -> None:
    text = parse(kit.report()).text
    run = read(kit.results)
    assert "195" in text
    assert "4 more were lost" in text
    assert f"{sum(run.forgotten.values())} left it again" in text
    assert "5.0×" in text, "20 seconds of stream in 4"
    assert "2 stale" in text
    assert "retain watch street.mp4" in text
    assert "incomplete" not in text


def test_it_loads_nothing_and_runs_only_its_own_script(kit: Kit) -> None:
    path = kit.report()
    page, text = parse(path), path.read_text("utf-8")
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert not re.search(r"https?://", text)
    assert "url(" not in text
    assert text.count("<script") == 1
    assert page.handlers == []


def test_it_is_written_whole_or_not_at_all(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kit.report()
    before = path.read_bytes()

    def fail(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        kit.report(title="other")
    assert path.read_bytes() == before
    assert not list(kit.folder.glob(".report.html.*"))


def test_names_from_outside_are_text(kit: Kit) -> None:
    stats = msgspec.to_builtins(kit.run.stats())
    stats["nodes"][0]["name"] = HOSTILE
    stats["nodes"][1]["dropped"] = {HOSTILE: 3}
    path = kit.report(
        title=HOSTILE,
        stats=stats,
        environment={"command": ["retain", HOSTILE], HOSTILE: {HOSTILE: [HOSTILE, 1.5]}},
        incomplete=HOSTILE,
    )
    page = parse(path)
    assert page.handlers == []
    assert page.text.count(HOSTILE) >= 7


def test_an_incomplete_run_says_so(kit: Kit, tmp_path: Path) -> None:
    text = parse(kit.report(incomplete="The camera went away after 195 frames.")).text
    assert "This run is incomplete." in text
    assert "The camera went away after 195 frames." in text
    missing = kit.report(results=tmp_path / "results.jsonl", memory=tmp_path / "memory", stats={})
    text = parse(missing).text
    assert "There is no results.jsonl" in text
    assert "There is no memory" in text


def test_a_cut_off_last_line_is_left_out_and_told(kit: Kit, tmp_path: Path) -> None:
    whole = kit.results.read_bytes()
    torn = tmp_path / "results.jsonl.partial"
    torn.write_bytes(whole[:-30])
    run = read(torn)
    assert run.torn
    assert run.frames == read(kit.results).frames - 1
    assert "was cut off and is left out" in parse(kit.report(results=torn)).text


def test_a_damaged_line_is_named(kit: Kit, tmp_path: Path) -> None:
    lines = kit.results.read_bytes().splitlines(keepends=True)
    bad = tmp_path / "results.jsonl"
    bad.write_bytes(b"".join([*lines[:2], b'{"seq": "three"}\n', *lines[3:]]))
    with pytest.raises(RetainError, match=r"Line 3 of results.jsonl is not a result"):
        read(bad)


def test_a_damaged_memory_is_refused(kit: Kit, tmp_path: Path) -> None:
    data = bytearray(kit.memory.read_bytes())
    data[-5] ^= 255
    bad = tmp_path / "memory.safetensors"
    bad.write_bytes(data)
    with pytest.raises(StateError, match="checksum"):
        kit.report(memory=bad)


def test_recording_adds_up(kit: Kit) -> None:
    run = read(kit.results)
    lines = [json.loads(line) for line in kit.results.read_text().splitlines()]
    assert run.frames == len(lines) == sum(run.states.values())
    assert run.lost == 200 - len(lines) - 1, "the last of the lost frames has none after it"
    assert run.held is not None
    assert run.kept - sum(run.forgotten.values()) == len(run.held.entries)
    seen: set[int] = set()
    for line in lines:
        seen |= {entry["seq"] for entry in line["results"]["held"]["entries"]}
    assert run.kept == len(seen)
    assert run.duration_s == pytest.approx(20, rel=0.02)


def test_results_without_scores_make_a_report(kit: Kit, tmp_path: Path) -> None:
    """Frames without a route, and scores JSON cannot say (NaN is written as null)."""
    route = {"type": "route/1", "state": "discard", "reason": "warm-up", "score": None}
    lines = [
        {"seq": 0, "seconds": 0.0, "results": {}},
        {"seq": 1, "seconds": 0.1, "results": {"route": route}},
    ]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = parse(kit.report(results=path))
    assert "Frames seen2 " in re.sub(r"\s+", " ", page.text)


@pytest.mark.parametrize("budget", [400_000, 60_000, 1])
def test_many_pictures_shrink_to_fit(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr(report_module, "PICTURE_BYTES", budget)
    monkeypatch.setattr(report_module, "WIDTHS", (320, 120, 40))
    pictures = report_module._pictures(kit.feed.memory.read("feed"))
    assert all(pictures)
    assert sum(map(len, pictures)) <= budget or budget == 1


def test_a_continued_run_does_not_count_what_was_there(kit: Kit, tmp_path: Path) -> None:
    lines = kit.results.read_bytes().splitlines(keepends=True)
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(lines[100:]))
    run = read(path)
    assert run.held is not None
    assert run.carried > 0
    assert run.carried + run.kept - sum(run.forgotten.values()) == len(run.held.entries)
    assert f"{run.carried} were in it already" in parse(kit.report(results=path)).text
