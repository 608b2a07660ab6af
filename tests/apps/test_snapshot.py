"""The state of a running command, asked of its page and put in a folder."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from runtime_parts import Recorder

from retain.apps.page.server import Page
from retain.apps.snapshot import snapshot, unpack
from retain.pipeline.errors import RetainError, StateError, UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.run import start


def chain(frames: int) -> Graph:
    graph = Graph()
    graph.source("cam", "runtime_parts:Clip", frames=frames)
    graph.stage("mean", "runtime_parts:Mean", delay_s=0.002)
    graph.sink("out")
    graph.connect("cam", "mean", "out")
    return graph


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("a clip", "clip")
    made.start()
    yield made
    made.stop()


def test_a_page_gives_the_state_and_another_run_goes_on(page: Page, tmp_path: Path) -> None:
    out, rest = Recorder(), Recorder()
    with start(chain(10**9), runner="inline", sinks={"out": out}) as run:
        page.attach(run)
        while len(out.packets) < 5:
            threading.Event().wait(0.005)
        snapshot(page.url, tmp_path / "state")
        with pytest.raises(UsageError, match="exists already"):
            snapshot(page.url, tmp_path / "state")
    again = start(chain(1000), runner="inline", sinks={"out": rest}, resume=tmp_path / "state")
    assert again.wait(60).ok
    first = rest.seqs[0]
    assert 0 < first <= len(out.packets)
    assert rest.seqs == list(range(first, 1000))
    assert again.stats().node("mean").extra["seen"] == 1000


def test_who_cannot_be_asked(page: Page, tmp_path: Path) -> None:
    with pytest.raises(RetainError, match="Nothing runs yet"):
        snapshot(page.url, tmp_path / "state")
    with pytest.raises(UsageError, match="not a live page's address on this machine"):
        snapshot("http://example.org/", tmp_path / "state")
    page.stop()
    with pytest.raises(RetainError, match="Nothing answers"):
        snapshot(page.url, tmp_path / "state")


def test_a_page_of_another_site_gets_no_state(page: Page) -> None:
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(f"{page.url}api/snapshot", b"", method="POST"))


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"nothing", "not a snapshot"),
        (zipped("graph.json", "../../evil"), "other files"),
        (zipped("/etc/passwd"), "other files"),
    ],
)
def test_an_answer_that_is_no_snapshot(data: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=sentence):
        unpack(data, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []
