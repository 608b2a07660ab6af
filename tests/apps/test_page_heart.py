"""What the page of a segmented heart knows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import segment_parts as parts

from retain.apps.page.state import PageState

CM = {"physical_delta_x": 0.05, "physical_delta_y": 0.05, "physical_unit": "cm"}


def view_of(state: PageState) -> dict[str, Any]:
    return state.patch({})


def test_before_the_first_frame() -> None:
    view = view_of(PageState("t", "s", view="segment"))
    assert view["about"]["notice"] == "Not for diagnosis"
    assert view["about"]["view"] == "segment"
    assert view["curve"]["points"] == view["beats"]["beats"] == []
    assert "points" not in view
    assert "held" not in view
    assert "notice" not in view_of(PageState("t", "s"))["about"]


def test_the_curve_and_the_beats() -> None:
    state = PageState("t", "s", view="segment")
    packets = parts.measured(110, **CM)
    for packet in packets:
        state.observe(packet)
    view = view_of(state)
    vitals = packets[-1].results["vitals"]
    seconds, seq, area, _, doubtful = view["curve"]["points"][-1]
    assert (seq, doubtful) == (109, False)
    assert seconds == pytest.approx(109 / 30, abs=1e-4)
    assert area == pytest.approx(vitals.area, abs=0.01)  # type: ignore[union-attr]
    assert view["beats"]["beats"] == vitals.beats[::-1]  # type: ignore[union-attr]
    assert view["beats"]["ef"] == pytest.approx(parts.EF, abs=1.5)
    assert view["beats"]["unit"] == "mm"


def test_outlines_are_those_of_the_preview() -> None:
    state = PageState("t", "s", view="segment")
    packet = parts.measured(1)[0]
    state.observe(packet)
    (line,) = view_of(state)["latest"]["outlines"]
    assert line["label"] == "cavity"
    x, y = zip(*line["points"], strict=True)
    step = 180 / parts.GRID
    middle = 240 / 2, 60 * step
    assert (min(x) + max(x)) / 2 == pytest.approx(middle[0], abs=1)
    assert max(x) - min(x) == pytest.approx(2 * parts.WIDE * step, abs=2)
    assert max(y) - min(y) == pytest.approx(2 * parts.LONG * step, abs=2)
    assert len(x) < 120, "of some 250 pixels on the outline"


def test_a_doubt_stays_for_a_while() -> None:
    state = PageState("t", "s", view="segment")
    packets = parts.measured(200)
    doubtful = parts.measured(20, "flagged")[19]
    for packet in packets[:19]:
        state.observe(packet)
    assert view_of(state)["beats"]["doubts"] == []
    state.observe(doubtful)
    for packet in packets[20:60]:
        state.observe(packet)
    assert "colour Doppler" in view_of(state)["beats"]["doubts"][0]
    for packet in packets[60:]:
        state.observe(packet)
    assert view_of(state)["beats"]["doubts"] == []


def test_a_frame_without_a_mask_is_a_gap() -> None:
    state = PageState("t", "s", view="segment")
    for packet in parts.measured(5, "none"):
        state.observe(packet)
    view = view_of(state)
    assert all(math.isnan(point[2]) and point[4] for point in view["curve"]["points"])
    assert view["latest"]["outlines"] == []
    assert "No left ventricle" in view["beats"]["doubts"][0]
