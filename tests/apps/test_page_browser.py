"""The page and the report in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import segment_parts
from browser_parts import SIZES, Watched, launched, until
from page_feed import FakeRun, Feed

from retain.apps.page.server import Page
from retain.apps.report import write_report
from retain.pipeline.sinks import JsonLines

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser

NAME = "<b>street</b> & co"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page(NAME, "a <i>file</i>")
    made.start()
    yield made
    made.stop()


def plot(tab: Tab) -> str:
    return str(tab.evaluate("document.querySelector('.plot canvas').toDataURL()"))


@pytest.mark.parametrize("size", SIZES)
def test_a_run_from_nothing_to_its_report(
    browser: Browser, page: Page, size: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    run, feed = FakeRun(), Feed(entries=8)
    packets = list(feed.packets(120, skip=30))
    with Watched(browser, size) as watched:
        tab = watched.tab
        tab.goto(page.url)
        expect(tab.get_by_role("heading", name=NAME)).to_be_visible()
        expect(tab.locator(".pill")).to_have_text("Connecting…")
        expect(tab.get_by_text("Nothing kept yet.")).to_be_visible()
        before = tab.locator(".panel.strip").bounding_box()

        page.attach(run)
        for packet in packets[:60]:
            page.process(packet)
        run.frames, run.uptime_s, run.lost = 60, 2.0, 2
        expect(tab.locator(".pill")).to_have_text("Running")
        held = packets[59].results["held"].entries  # type: ignore[union-attr]
        expect(tab.locator(".strip li:not(.leaving)")).to_have_count(len(held))
        assert tab.locator(".panel.strip").bounding_box() == before, "the layout moved"
        expect(tab.locator(".strip li").last.locator("time")).to_have_text(
            f"0:{held[-1].seconds:04.1f}"
        )
        until(tab, "[...document.querySelectorAll('.strip li img')].every(i => i.naturalWidth > 0)")
        until(tab, "document.querySelector('.stage canvas').width === 320")
        expect(tab.locator(".stages tbody tr")).to_have_count(4)
        expect(tab.locator(".stages")).to_contain_text("stale 2")
        expect(tab.locator(".budget")).to_contain_text(f"{len(held)} of 60 frames held")

        drawn = plot(tab)
        for packet in packets[60:]:
            page.process(packet)
        until(tab, f"document.querySelector('.plot canvas').toDataURL() !== {drawn!r}")
        last = packets[-1].results["held"].entries  # type: ignore[union-attr]
        expect(tab.locator(".strip li:not(.leaving)")).to_have_count(len(last))
        expect(tab.locator(".strip li").last.locator("time")).to_have_text(
            f"0:{last[-1].seconds:04.1f}"
        )
        assert not watched.wide()

        run.state, run.frames = "done", len(packets)
        report = tmp_path / "report.html"
        report.write_text("<title>the report</title>")
        page.finish(report, "Kept 8 moments.")
        expect(tab.locator(".pill")).to_have_text("Finished")
        expect(tab.get_by_text("Kept 8 moments.")).to_be_visible()
        tab.get_by_role("link", name="Open the report").click()
        expect(tab).to_have_title("the report")
        assert watched.problems == []


def test_reading_values_and_moments_with_the_keyboard(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    packets = list(Feed(entries=6).packets(80))
    for packet in packets:
        page.process(packet)
    entries = packets[-1].results["held"].entries  # type: ignore[union-attr]
    with Watched(browser, scheme="dark") as watched:
        tab = watched.tab
        tab.goto(page.url)
        expect(tab.locator(".strip li")).to_have_count(len(entries))
        tab.locator(".plot canvas").focus()
        tab.keyboard.press("ArrowLeft")
        expect(tab.locator(".tip")).to_contain_text("#79")
        tab.keyboard.press("ArrowLeft")
        expect(tab.locator(".tip")).to_contain_text("#78")
        tab.get_by_label("Whole run").check()
        expect(tab.get_by_label("Whole run")).to_be_checked()
        tab.locator(".strip li button").nth(1).focus()
        tab.keyboard.press("Enter")
        dialog = tab.get_by_role("dialog")
        expect(dialog).to_contain_text(f"#{entries[1].seq}")
        tab.keyboard.press("ArrowRight")
        expect(dialog).to_contain_text(f"#{entries[2].seq}")
        tab.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert watched.problems == []


def test_it_comes_back_when_the_program_does(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    for packet in Feed().packets(50):
        page.process(packet)
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with Watched(browser) as watched:
        tab = watched.tab
        tab.goto(page.url)
        expect(tab.locator(".pill")).to_have_text("Running")
        page.stop()
        expect(tab.locator(".pill")).to_have_text("Reconnecting…")
        second = Page("second", "another", port=port)
        second.start()
        try:
            expect(tab.get_by_role("heading", name="second")).to_be_visible()
            expect(tab.locator(".strip li:not(.leaving)")).to_have_count(0)
            expect(tab.get_by_text("No scores yet.")).to_be_visible()
        finally:
            second.stop()


def test_a_failed_run_says_why(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    page.finish(None, "The camera refused the password.", failed=True)
    with Watched(browser, "phone") as watched:
        watched.tab.goto(page.url)
        expect(watched.tab.locator(".pill")).to_have_text("Failed")
        expect(watched.tab.get_by_text("The camera refused the password.")).to_be_visible()
        expect(watched.tab.get_by_role("link", name="Open the report")).to_be_hidden()


CM = {"physical_delta_x": 0.05, "physical_delta_y": 0.05, "physical_unit": "cm"}


@pytest.mark.parametrize("size", SIZES)
def test_a_heart_from_the_first_frame_to_the_report(
    browser: Browser, size: str, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    packets = segment_parts.measured(110, "flagged", **CM)
    page = Page(NAME, "clip.dcm", view="segment")
    page.start()
    try:
        with Watched(browser, size) as watched:
            tab = watched.tab
            tab.goto(page.url)
            expect(tab.locator(".notice")).to_have_text("Not for diagnosis")
            expect(tab.get_by_text("No area yet.")).to_be_visible()
            expect(tab.locator(".beats .ef")).to_have_text("–")
            for packet in packets[:20]:
                page.process(packet)
            until(tab, "document.querySelector('.stage canvas').width === 240")
            empty = plot(tab)
            for packet in packets[20:]:
                page.process(packet)
            expect(tab.locator(".beats .ef")).to_have_text(f"{segment_parts.EF:.0f} %")
            expect(tab.locator(".beats tbody tr")).to_have_count(3)
            expect(tab.locator(".beats")).to_contain_text("area-length, one view")
            expect(tab.locator(".beats")).to_contain_text("ml")
            expect(tab.locator(".beats .doubts")).to_contain_text("colour Doppler")
            until(tab, f"document.querySelector('.plot canvas').toDataURL() !== {empty!r}")
            tab.locator(".plot canvas").focus()
            tab.keyboard.press("ArrowLeft")
            expect(tab.locator(".tip")).to_contain_text("#109")
            expect(tab.locator(".tip")).to_contain_text("cm²")
            drawn = stage(tab)
            tab.get_by_label("Outlines").uncheck()
            until(tab, f"document.querySelector('.stage canvas').toDataURL() !== {drawn!r}")
            assert not watched.wide()
            page.finish(None, "The stream has ended.")
            expect(tab.locator(".pill")).to_have_text("Finished")
            assert watched.problems == []
    finally:
        page.stop()


def stage(tab: Tab) -> str:
    return str(tab.evaluate("document.querySelector('.stage canvas').toDataURL()"))


def test_another_kind_of_run_on_the_port_brings_its_own_panels(
    browser: Browser, page: Page
) -> None:
    from playwright.sync_api import expect

    port = int(page.url.rstrip("/").rpartition(":")[2])
    with Watched(browser) as watched:
        tab = watched.tab
        tab.goto(page.url)
        expect(tab.get_by_text("Nothing kept yet.")).to_be_visible()
        page.stop()
        expect(tab.locator(".pill")).to_have_text("Reconnecting…")
        second = Page("heart", "clip.dcm", port=port, view="segment")
        second.start()
        try:
            expect(tab.get_by_text("No area yet.")).to_be_visible()
            expect(tab.get_by_text("Nothing kept yet.")).to_have_count(0)
        finally:
            second.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_report_of_a_heart_opens_from_disk(
    browser: Browser, size: str, scheme: str, heart_report: Path
) -> None:
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(heart_report.as_uri())
        until(
            tab,
            "[...document.images].length && [...document.images].every(i => i.naturalWidth > 0)",
        )
        assert "Not for diagnosis" in tab.locator(".notice").inner_text()
        tab.locator("svg.timeline").hover(position={"x": 200, "y": 40})
        until(tab, "document.getElementById('reading').textContent")
        assert "cm²" in tab.locator("#reading").inner_text()
        assert not watched.wide()
        assert all(address.startswith(("file:", "data:")) for address in requests)
        assert watched.problems == []


@pytest.fixture(scope="module")
def heart_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a beating ellipse in millimetres."""
    from retain.apps.segment.record import Recorder
    from retain.apps.segment.report import write_report as write_heart_report
    from retain.pipeline.run import RunReport

    folder = tmp_path_factory.mktemp("heart")
    journal, run = Recorder(folder), FakeRun()
    for packet in segment_parts.measured(110, "flagged", **CM):
        journal.process(packet)
    journal.close()
    run.frames, run.uptime_s, run.state = journal.frames, 4.0, "done"
    report = RunReport(True, [], run.stats(), {}, 0, 1)
    return write_heart_report(
        folder, title=NAME, journal=journal, report=report, environment={"command": "retain"}
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_report_opens_from_disk(browser: Browser, size: str, tmp_path: Path) -> None:
    feed, run = Feed(entries=8), FakeRun()
    sink = JsonLines(str(tmp_path / "results.jsonl"))
    for packet in feed.packets(100, skip=40):
        sink.process(packet)
        run.frames += 1
    sink.close()
    feed.save(tmp_path / "memory.safetensors")
    run.uptime_s, run.state = 3.0, "done"
    path = write_report(
        tmp_path / "report.html",
        title=NAME,
        results=tmp_path / "results.jsonl",
        memory=tmp_path / "memory.safetensors",
        stats=msgspec.to_builtins(run.stats()),
        environment={"command": "retain watch x"},
    )
    with Watched(browser, size) as watched:
        tab = watched.tab
        requests: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        until(
            tab,
            "[...document.images].length && [...document.images].every(i => i.naturalWidth > 0)",
        )
        tab.locator("svg.timeline").hover(position={"x": 200, "y": 40})
        until(tab, "document.getElementById('reading').textContent")
        assert re.match(r"0:0\d\.\d · score ", tab.locator("#reading").inner_text())
        assert not watched.wide()
        assert all(address.startswith(("file:", "data:")) for address in requests)
        assert watched.problems == []
