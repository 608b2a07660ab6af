"""What the page of `retain imagine` knows, and how it looks in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import imagine_parts as parts
import pytest
from browser_parts import Watched, launched, until
from page_feed import FakeRun

from retain.apps.page.imagine import KEPT
from retain.apps.page.server import Page
from retain.apps.page.state import PageState
from retain.models.ditmem.stage import Imagine
from retain.pipeline.packet import Packet

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[Packet]:
    weights = parts.weights(tmp_path_factory.mktemp("weights"))
    stage = Imagine(weights, what="predict", compare=True, samples=2)
    frames = [parts.frame(n, fresh=n % 8 == 0 and n > 0) for n in range(32)]
    return parts.feed(stage, frames)


def test_the_sections_follow_the_stream(packets: list[Packet]) -> None:
    state = PageState("a", "b", view="imagine")
    assert state.patch({})["made"] == {"rows": []}
    assert state.patch({})["recalled"] == {"byte_budget": 0}
    for packet in packets[:29]:
        state.observe(packet)
    told = state.patch({})
    assert [point[1] for point in told["novelty"]["points"]] == [7, 15, 23]
    assert told["recalled"]["clips"] == 3
    assert told["recalled"]["references"]
    assert [name for name, _ in told["made"]["rows"]] == [
        "what came", "with references", "without", "last frame held",
    ]  # fmt: skip
    assert set(told["made"]["errors"]) == {"with references", "without", "last frame held"}
    assert told["made"]["seconds"] == [26 / 8, 31 / 8]
    pictures = [number for _, number in told["made"]["rows"]]
    assert all(state.picture(number) for number in pictures)
    for _ in range(KEPT):
        for packet in packets:
            state.observe(packet)
    assert state.picture(pictures[0]) is None, "old pictures go"


def test_holes_are_shown_as_filled(tmp_path: Path) -> None:
    stage = Imagine(parts.weights(tmp_path), what="fill", drop=0.3, samples=1)
    state = PageState("a", "b", view="imagine")
    for packet in parts.feed(stage, [parts.frame(n) for n in range(40)]):
        state.observe(packet)
    made = state.patch({})["made"]
    assert made["purpose"] == "fill"
    assert [name for name, _ in made["rows"]] == ["what came", "with references", "interpolated"]
    assert set(made["errors"]) == {"with references", "interpolated"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("squares <b>", "squares.mp4", view="imagine")
    made.start()
    yield made
    made.stop()


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_novelty_and_predictions_are_on_the_page(
    browser: Browser, page: Page, packets: list[Packet], size: str, scheme: str
) -> None:
    run = FakeRun()
    page.attach(run)
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        tab.goto(page.url)
        assert "Nothing made yet" in tab.locator(".imagined").inner_text()
        for packet in packets[:29]:
            page.process(packet)
        run.frames = 29
        until(tab, "document.body.innerText.includes('research feature')")
        seen = "document.querySelector('.imagined').innerText"
        until(tab, f"{seen}.includes('foreseen for 0:03.3 to 0:03.9')")
        until(tab, f"{seen}.includes('error ')")
        assert tab.locator(".imagined tr").count() == 4
        until(tab, "[...document.querySelectorAll('.imagined img')].every((i) => i.naturalWidth)")
        assert "Guided by main 0:" in tab.locator(".imagined").inner_text()
        until(tab, "document.querySelector('.news').innerText.includes('3 clips held')")
        assert "Compared with 0:" in tab.locator(".news .like").inner_text()
        until(tab, "document.querySelector('.news .none').hidden")
        tab.locator(".news canvas").focus()
        tab.keyboard.press("ArrowLeft")
        assert "#23" in tab.locator(".news .tip").inner_text()
        until(tab, "document.querySelector('.stage canvas').width > 16")
        assert not watched.wide()
        assert watched.problems == []
