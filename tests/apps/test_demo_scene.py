"""`retain demo scene` in its smallest form: a room in, a page up, a map and a report out."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
from command_parts import exit_code

from retain.apps import demo
from retain.apps.page.server import Page


def test_the_demo_maps_a_room_shows_it_and_says_what_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[dict[str, dict[str, object]]] = []
    finish = Page.finish

    def look(page: Page, report: Path, message: str, failed: bool) -> None:
        """What somebody would see who has the page open at the end."""
        finish(page, report, message, failed)
        assert page.beside is not None
        with urlopen(page.beside.url) as view:
            assert b"Viser" in view.read()
        with urlopen(f"{page.url}api/state") as answer:
            shown.append(json.load(answer))

    monkeypatch.setattr(Page, "finish", look)
    out = tmp_path / "room"
    code = demo.demo_scene(
        {"out": out, "page": True, "runner": "inline"}, frames=6, width=96, finish=1
    )
    said = capsys.readouterr()
    assert code == 0
    assert {"scene.html", "scene.ply", "report.html", "trajectory.txt"} <= {
        path.name for path in out.iterdir()
    }
    assert "(6 frames" in said.out
    assert "retain reconstruct FOLDER" in said.out
    assert "viser" not in said.out, "results alone go to stdout"
    assert "its 3D view alone: http://127.0.0.1:" in said.err
    assert len(shown) == 1
    assert shown[0]["run"]["state"] == "finished"
    assert shown[0]["map"]["frames"] == 6


@pytest.mark.parametrize("word", ["scene", "watch", ""])
def test_the_demo_that_is_asked_for_is_the_one_that_runs(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(demo, "demo", lambda *_: ran.append("watch") or 0)
    monkeypatch.setattr(demo, "demo_scene", lambda *_: ran.append("scene") or 0)
    assert exit_code(monkeypatch, "demo", *filter(None, [word])) == 0
    assert ran == [word or "watch"]
