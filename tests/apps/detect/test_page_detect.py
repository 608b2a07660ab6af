"""What the page of a detector with a memory knows."""

from __future__ import annotations

from typing import Any

import detect_app_parts as parts
import pytest

from retain.apps.page import detect as module
from retain.apps.page.detect import FIRST_CROP, ROOM, STAYS_S
from retain.apps.page.state import PageState
from retain.models.mamba.track import Track
from retain.pipeline.packet import Packet
from retain.pipeline.results import Recall


def feed(state: PageState, frames: int, host: str = "squares") -> dict[str, Any]:
    detect, track = parts.Squares(host), Track()
    for seq in range(frames):
        packet = track.process(detect.process(Packet(parts.frame(seq))))
        assert packet is not None
        state.observe(packet)
    return state.patch({})


def test_before_the_first_frame() -> None:
    view = PageState("t", "s", view="detect").patch({})
    assert view["about"]["view"] == "detect"
    assert view["tracks"] == {"tracks": [], "given": 0}
    assert view["recall"]["byte_budget"] == 0
    assert view["decided"] == {"crops": []}
    assert "held" not in view


def test_boxes_are_those_of_the_preview() -> None:
    state = PageState("t", "s", clock=iter(range(100)).__next__, view="detect")
    latest = feed(state, parts.MISSED)["latest"]
    assert [one["name"] for one in latest["boxes"]] == ["square", "disc"]
    assert [one["name"] for one in latest["alone"]] == ["disc"]
    assert latest["boxes"][0]["box"] == pytest.approx(parts.square(parts.MISSED - 1))
    assert latest["boxes"][0]["memory"] == pytest.approx(0.8)
    assert latest["boxes"][0]["track"] == 1


def test_tracks_come_and_go() -> None:
    state = PageState("t", "s", view="detect")
    view = feed(state, 30)["tracks"]
    assert view["given"] == 2
    assert [(one["track"], one["name"]) for one in view["tracks"]] == [(1, "square"), (2, "disc")]
    cut = feed(PageState("t", "s", view="detect"), 16, host="cut")["tracks"]
    assert [one["track"] for one in cut["tracks"]] == [3, 4], "what was before a cut is gone"
    nothing = parts.boxes_of([], [], [])
    for seq in range(30, 30 + round(25 * STAYS_S) + 2):
        state.observe(Packet(parts.frame(seq), {"boxes": nothing}))
    assert state.patch({})["tracks"]["tracks"] == []
    rows = [[0, 0, 9, 9]] * (ROOM + 20)
    many = parts.boxes_of(rows, [0.9] * len(rows), [0] * len(rows), tracks=range(len(rows)))
    state.observe(Packet(parts.frame(200), {"boxes": many}))
    assert len(state.patch({})["tracks"]["tracks"]) == ROOM


def test_the_memory_its_resets_and_what_it_adds() -> None:
    view = feed(PageState("t", "s", view="detect"), 20, host="cut")["recall"]
    assert (view["rows"], view["room"], view["nbytes"], view["byte_budget"]) == (10, 20, 4000, 8000)
    assert (view["resets"], view["newest"]) == (1, [[12 / 25, "another scene"]])
    assert (view["frames"], view["boxes"], view["recalled"], view["alone"]) == (20, 40, 4, 36)
    assert view["parts_ms"] == {"detector": 10, "memory": 4}


def test_what_was_remembered_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_CROPS", 5)
    state = PageState("t", "s", view="detect")
    view = feed(state, 10)["decided"]
    assert (view["name"], view["track"], len(view["crops"])) == ("square", 1, 2)
    first, seconds, share = view["crops"][0]
    assert (first, seconds, share) == (FIRST_CROP, pytest.approx(3 / 25), 0.7)
    picture = state.picture(first)
    assert picture is not None
    assert picture[:2] == b"\xff\xd8"
    assert state.picture(3) is None
    feed(state, 120)
    assert state.picture(first) is None, "but not for ever"
    assert state.patch({})["decided"]["crops"][0][0] > FIRST_CROP + 5


def test_boxes_without_a_track_are_shown_from_the_score_that_was_asked_for() -> None:
    rows = [[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]]
    found = parts.boxes_of(rows, [0.9, 0.5, 0.2], [0, 0, 1], tracks=[-1, -1, 4])
    shown: dict[float | None, int] = {}
    for least in (None, 0.1, 0.6):
        state = PageState("t", "s", view="detect")
        if least is not None:
            state.show_from(least)
        state.observe(
            Packet(parts.frame(0), {"boxes": found, "recall": Recall("", 0, 0, 0, 1, {})})
        )
        view = state.patch({})
        shown[least] = len(view["latest"]["boxes"])
        assert view["recall"]["boxes"] == shown[least]
    assert shown == {None: 3, 0.1: 3, 0.6: 2}, "what is in a track is shown whatever its score"
