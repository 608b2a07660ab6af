"""The page of `retain reconstruct` and its 3D view, in a real browser with WebGL in software."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from browser_parts import SIZES, Watched, launched, until
from live_parts import WALL, walk
from page_feed import FakeRun

from retain.apps.page.server import Page
from retain.apps.page.state import PageState
from retain.apps.reconstruct.live import SplatViewer

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

NAME = "<b>attic</b> & co"


def test_every_section_is_there_and_bounded() -> None:
    state = PageState(NAME, "room://", clock=lambda: 0.0, view="scene")
    for packet in walk(1500, lost=range(20, 30)):
        state.observe(packet)
    told = state.patch({})
    assert {"about", "run", "latest", "tracking", "map", "above"} == told.keys()
    assert len(told["tracking"]["points"]) == 600
    assert told["tracking"]["points"][-1][1:] == (1499, 1.499, 120, False, False)
    assert told["map"]["lost"] == 10
    assert told["map"]["keyframes"] == 149
    assert told["map"]["parts_ms"][0][0] == "track"
    assert len(told["above"]["path"]) <= 600
    assert len(told["above"]["keyframes"]) <= 256
    assert told["above"]["heading"] == [0, 1]


def test_means_of_parts_follow_what_frames_take_now() -> None:
    state = PageState(NAME, "room://", view="scene")
    packets = list(walk(200))
    for packet in packets:
        state.observe(packet)
    parts = dict(state.patch({})["map"]["parts_ms"])
    assert parts == {"track": 8.0, "fuse": 2.0}


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page(NAME, "room://", view="scene", beside=SplatViewer(NAME))
    made.start()
    yield made
    made.stop()


def test_only_the_viewers_address_may_be_embedded(page: Page) -> None:
    assert page.beside is not None
    policy = httpx.get(page.url).headers["content-security-policy"]
    assert policy.endswith(f"; frame-src {page.beside.url}")
    assert page.beside.url.startswith("http://127.0.0.1:")
    assert httpx.get(f"{page.url}api/state").json()["about"]["beside"] == page.beside.url


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [("https://example.org", False), ("null", False), ("http://127.0.0.1:9", True), (None, True)],
)
def test_other_sites_in_the_browser_get_nothing(
    page: Page, origin: str | None, welcome: bool
) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Origin, Subprotocol

    assert page.beside is not None
    address = page.beside.url.replace("http", "ws", 1)

    async def code() -> int:
        """With which the connection is closed; 0 when it gives something."""
        protocols = [Subprotocol("viser-v1.1.1")]
        said = Origin(origin) if origin else None
        async with connect(address, origin=said, subprotocols=protocols) as socket:
            try:
                await asyncio.wait_for(socket.recv(), 10)
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else -1
            return 0

    assert asyncio.run(code()) == (0 if welcome else 1008)


def test_the_view_never_asks_for_a_public_address(page: Page) -> None:
    assert isinstance(page.beside, SplatViewer)
    assert page.beside._scene is not None
    assert page.beside._scene._server.request_share_url() is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched(webgl=True)


def own(problems: list[str]) -> list[str]:
    """Without what viser's client says of itself: software WebGL, a bounding sphere of its own."""
    foreign = ("THREE.", "WebGL", "GL Driver", "GPU stall")
    return [problem for problem in problems if not any(word in problem for word in foreign)]


def drawn(tab: Tab, panel: str) -> str:
    return str(tab.evaluate(f"document.querySelector('.{panel} canvas').toDataURL()"))


def drag(tab: Tab) -> None:
    """Turn the 3D view by hand."""
    box = tab.locator("iframe").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] - 60
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 90, y - 20, steps=8)
    tab.mouse.up()


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_a_map_grows_on_the_page(
    browser: Browser, page: Page, size: str, scheme: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    assert size in SIZES
    assert isinstance(page.beside, SplatViewer)
    run, packets = FakeRun(), list(walk(60, lost=range(57, 60)))
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        tab.set_default_timeout(60_000)
        expect.set_options(timeout=30_000)
        addresses: set[str] = set()
        tab.on("request", lambda request: addresses.add(request.url))
        tab.on("websocket", lambda socket: addresses.add(socket.url))
        tab.goto(page.url)
        expect(tab.get_by_role("heading", name=NAME)).to_be_visible()
        expect(tab.get_by_text("No path yet.")).to_be_visible()
        page.attach(run)
        for packet in packets[:40]:
            page.process(packet)
        run.frames, run.uptime_s = 40, 2.0
        expect(tab.locator(".caption .tracking")).to_have_text("Tracked")
        expect(tab.locator(".growth")).to_contain_text("1,560 stable, 400 active")
        expect(tab.locator(".growth")).to_contain_text("4 keyframes")
        expect(tab.locator(".drift .hint")).to_have_text("distance to the given path")
        tab.locator(".drift canvas").focus()
        tab.keyboard.press("ArrowLeft")
        expect(tab.locator(".drift .tip")).to_contain_text("3.9 cm")
        tab.keyboard.press("Escape")
        before = drawn(tab, "above")
        view = tab.frame_locator("iframe")
        expect(view.locator("canvas").first).to_be_visible()
        viewer = page.beside
        for _ in range(300):
            if viewer.draws:
                break
            tab.wait_for_timeout(100)
        assert viewer.draws, "the 3D view was not connected"
        if size == "desktop":
            assert viewer._scene is not None
            assert viewer._scene._chased, "a view follows the camera from the start"
            drag(tab)
            for _ in range(100):
                if not viewer._scene._chased:
                    break
                tab.wait_for_timeout(100)
            assert not viewer._scene._chased, "until somebody moves it"
        for packet in packets[40:]:
            tab.wait_for_timeout(20)
            page.process(packet)
        tab.wait_for_timeout(150)  # pictures come at most 15 times a second
        page.process(packets[-1])
        expect(tab.locator(".caption .tracking")).to_have_text("Lost")
        expect(tab.locator(".stage .over")).to_have_text("Lost: too few points")
        until(tab, f"document.querySelector('.above canvas').toDataURL() !== {before!r}")
        assert viewer.stats()["gaussians"] == 6 * WALL
        tab.evaluate("scrollTo(0, 0)")
        tab.wait_for_timeout(2500)
        tab.screenshot(
            path=str(tmp_path / f"scene-{size}-{scheme}.png"), full_page=size == "desktop"
        )
        assert not watched.wide()
        page.finish(None, "The stream has ended.")
        expect(tab.locator(".pill")).to_have_text("Finished")
        hosts = {address.partition("://")[2].partition("/")[0].partition(":")[0]
                 for address in addresses if address.startswith(("http", "ws"))}  # fmt: skip
        assert hosts == {"127.0.0.1"}
        assert own(watched.problems) == []
