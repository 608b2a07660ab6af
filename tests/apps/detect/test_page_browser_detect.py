"""The page of `retain detect` in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import detect_app_parts as parts
import pytest
from browser_parts import Watched, launched, until

from retain.apps.page.server import Page
from retain.models.mamba.track import Track
from retain.pipeline.packet import Packet

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("squares <b>", "squares.mp4", view="detect")
    made.start()
    yield made
    made.stop()


def feed(page: Page, frames: range) -> None:
    detect, track = parts.Squares("cut"), Track()
    for seq in frames:
        packet = track.process(detect.process(Packet(parts.frame(seq))))
        assert packet is not None
        page.process(packet)


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_boxes_tracks_memory_and_what_decided(
    browser: Browser, page: Page, size: str, scheme: str
) -> None:
    feed(page, range(20))
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        tab.goto(page.url)
        until(tab, "document.querySelectorAll('.tracks tbody tr').length > 0")
        rows = tab.locator(".tracks tbody tr").all_inner_texts()
        assert [row.split()[:2] for row in rows if "not seen" not in row] == [
            ["3", "square"], ["4", "disc"],
        ]  # fmt: skip
        assert "10 of 20" in tab.locator(".recall").inner_text().replace("\n", " ")
        assert "another scene" in tab.locator(".recall .anew").inner_text()
        assert "1.8 by the detector alone" in tab.locator(".recall header").inner_text()
        until(tab, "[...document.querySelectorAll('.decided img')].some((i) => i.naturalWidth)")
        assert "80 % from memory" in tab.locator(".decided").inner_text()
        until(tab, "document.querySelector('canvas').width > 16")
        assert not watched.wide()
        assert watched.problems == []


def test_the_detector_alone_can_be_seen(browser: Browser, page: Page) -> None:
    """At a frame in which it misses the square."""
    feed(page, range(parts.MISSED - 1, parts.MISSED))
    with Watched(browser) as watched:
        tab = watched.tab
        tab.goto(page.url)
        until(tab, "document.querySelector('canvas').width > 16")
        tab.wait_for_selector(".outlines.alone input", state="visible")
        data = "document.querySelector('canvas').toDataURL()"
        both = tab.evaluate(data)
        tab.locator(".outlines.alone input").check()
        alone = tab.evaluate(data)
        tab.locator(".outlines input").last.uncheck()
        tab.locator(".outlines:not(.alone) input").uncheck()
        bare = tab.evaluate(data)
        assert len({both, alone, bare}) == 3
        assert watched.problems == []
