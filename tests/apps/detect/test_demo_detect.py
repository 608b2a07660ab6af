"""`retain demo detect` in its smallest form, with the detector that ships."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
from command_parts import exit_code

from retain.apps import demo
from retain.apps.detect import run
from retain.apps.page.server import Page
from retain.models.mamba import tracker


def test_the_demo_finds_objects_shows_them_and_says_what_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, dict[str, object]]] = []
    finish = Page.finish

    def look(page: Page, report: Path, message: str, failed: bool) -> None:
        finish(page, report, message, failed)
        with urlopen(f"{page.url}api/state") as answer:
            shown.append(json.load(answer))

    monkeypatch.setattr(Page, "finish", look)
    out = tmp_path / "objects"
    code = demo.demo_detect({"out": out, "page": True, "runner": "inline"}, frames=8)
    said = capsys.readouterr()
    assert code == 0
    assert {"overlay.mp4", "report.html", "tracks.txt"} <= {path.name for path in out.iterdir()}
    assert "(8 frames" in said.out
    assert "retain detect VIDEO.mp4" in said.out
    assert "AP50" in said.out
    assert "knows nothing but" not in said.err, "these are the objects it knows"
    assert shown[0]["run"]["state"] == "finished"
    assert shown[0]["recall"]["frames"] == 8


def test_the_word_leads_to_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(demo, "demo_detect", lambda *_: ran.append("detect") or 0)
    assert exit_code(monkeypatch, "demo", "detect") == 0
    assert ran == ["detect"]


def test_without_trackers_it_goes_without_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[run.DetectOptions] = []
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "detect", lambda options, told: asked.append(options) or Done())
    demo.demo_detect({"out": tmp_path / "out", "page": False, "runner": "inline"})
    assert asked[0].track == "none"
    assert "retain[track]" in capsys.readouterr().err.replace("\n", " ")


class Done:
    exit_code = 0
