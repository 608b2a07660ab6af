"""Asking a running watch in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ask_parts import SCENE, film, jpeg, scene, watched
from browser_parts import SIZES, Watched, launched, until
from clip_parts import tiny_clip
from page_feed import Feed

from retain.apps.page.server import Page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film"), seconds=300)  # longer than these tests


@pytest.fixture(scope="module")
def page(source: Path) -> Iterator[Page]:
    with watched(source, frames=40) as made:
        yield made


def picture(name: str, k: int) -> dict[str, object]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": jpeg(scene(k))}


@pytest.mark.parametrize("size", SIZES)
def test_an_example_picture_and_the_footage_around_it(
    browser: Browser, page: Page, size: str
) -> None:
    from playwright.sync_api import expect

    with Watched(browser, size, "dark") as opened:
        tab = opened.tab
        tab.goto(page.url)
        panel = tab.locator(".ask")
        expect(panel.get_by_label("Words")).to_be_disabled()
        expect(panel.get_by_text("--encoder openclip")).to_be_visible()
        tab.locator("#ask-file").set_input_files([picture("green.jpg", SCENE + 5)])  # type: ignore[list-item]
        expect(panel.get_by_text("Like green.jpg")).to_be_visible()
        panel.get_by_role("button", name="Ask").click()
        expect(panel.locator(".said")).to_contain_text("best first, compared by pixels")
        cards = panel.locator(".found li")
        assert 1 <= cards.count() <= 6
        until(tab, "[...document.querySelectorAll('.found img')].every(i => i.naturalWidth > 0)")
        assert not opened.wide()

        cards.first.get_by_role("button").focus()
        tab.keyboard.press("Enter")
        dialog = tab.get_by_role("dialog", name="A moment that answers")
        expect(dialog).to_contain_text("Score")
        until(tab, "document.querySelector('dialog.moment video').readyState >= 2")
        assert tab.evaluate("document.querySelector('dialog.moment video').duration > 0.5")
        tab.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert opened.problems == []


def test_a_kept_moment_is_an_example(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    with Watched(browser) as opened:
        tab = opened.tab
        tab.goto(page.url)
        tab.locator(".strip li:not(.leaving) button").last.dispatch_event("click")
        tab.get_by_role("button", name="Find moments like this").click()
        panel = tab.locator(".ask")
        expect(panel.locator(".example")).to_contain_text("Like the moment at")
        expect(panel.locator(".found li").first).to_be_visible()
        panel.locator(".found li button").first.click()
        tab.get_by_role("button", name="More like this").click()
        expect(tab.get_by_role("dialog")).to_be_hidden()
        expect(panel.locator(".said")).to_contain_text("best first")
        panel.get_by_role("button", name="Remove").click()
        expect(panel.locator(".example")).to_be_hidden()
        assert opened.problems == []


def test_a_picture_may_be_dropped_or_pasted(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    give = """([kind, data]) => {
      const holder = new DataTransfer();
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      holder.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
      const event = kind === "paste"
        ? new ClipboardEvent(kind, { clipboardData: holder, bubbles: true })
        : new DragEvent(kind, { dataTransfer: holder, bubbles: true, cancelable: true });
      (kind === "paste" ? document.body : document.querySelector(".ask")).dispatchEvent(event);
    }"""
    import base64

    data = base64.b64encode(jpeg(scene(5))).decode()
    with Watched(browser) as opened:
        tab = opened.tab
        tab.goto(page.url)
        example = tab.locator(".ask .example")
        expect(tab.locator(".ask")).to_be_visible()
        tab.evaluate(give, ["drop", data])
        expect(example).to_contain_text("Like given.jpg")
        tab.evaluate(give, ["paste", data])
        expect(example).to_contain_text("Like the pasted picture")
        assert opened.problems == []


def test_times_are_read_and_mistakes_are_said(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    with Watched(browser, "phone") as opened:
        tab = opened.tab
        tab.goto(page.url)
        panel = tab.locator(".ask")
        start, end = panel.get_by_label("From"), panel.get_by_label("To")
        ask = panel.get_by_role("button", name="Ask")
        ask.click()
        expect(panel.locator(".said")).to_contain_text("Give an example picture or a time.")
        start.fill("soon")
        ask.click()
        expect(panel.locator(".said")).to_contain_text("“From” is a time such as 1:30.")
        expect(start).to_be_focused()
        expect(start).to_have_attribute("aria-invalid", "true")
        start.fill("0:00.5")
        end.fill("0:02")
        end.press("Enter")
        expect(panel.locator(".said")).to_contain_text("in order of time")
        expect(panel.locator(".found li").first).to_be_visible()
        tab.locator("#ask-file").set_input_files(
            [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}]
        )
        expect(panel.locator(".said")).to_contain_text("notes.txt is no picture")
        assert opened.problems == []


def test_a_refusal_is_shown_in_its_own_words(browser: Browser, page: Page) -> None:
    from playwright.sync_api import expect

    with Watched(browser) as opened:
        tab = opened.tab
        tab.goto(page.url)
        panel = tab.locator(".ask")
        panel.get_by_label("From").fill("59:00")
        panel.get_by_role("button", name="Ask").click()
        expect(panel.locator(".said")).to_contain_text("No frame held lies after 59:00")
        expect(panel.locator(".found li")).to_have_count(0)


def test_a_question_that_comes_with_another_waits(browser: Browser, page: Page) -> None:
    """Whoever presses twice has replaced his own question, which goes on in the program."""
    from playwright.sync_api import expect

    assert page.asker is not None
    with Watched(browser) as opened:
        tab = opened.tab
        tab.goto(page.url)
        panel = tab.locator(".ask")
        panel.get_by_label("From").fill("0:00")
        with page.asker._one, tab.expect_response("**/api/ask") as busy:
            panel.get_by_role("button", name="Ask").click()
            assert busy.value.status == 429
        expect(panel.locator(".found li").first).to_be_visible()
        expect(panel.locator(".said")).to_contain_text("in order of time")


def test_words(browser: Browser, source: Path, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    with watched(source, tiny_clip(tmp_path)) as page, Watched(browser) as opened:
        tab = opened.tab
        tab.goto(page.url)
        panel = tab.locator(".ask")
        expect(panel.locator(".why:not(.found .why)")).to_be_hidden()
        panel.get_by_label("Words").fill("a red wall")
        panel.get_by_label("Words").press("Enter")
        expect(panel.locator(".said")).to_contain_text(
            "compared by openclip tiny-clip-24", timeout=30_000
        )
        expect(panel.locator(".found li").first).to_be_visible()
        assert opened.problems == []


def test_a_page_without_a_memory_to_ask_shows_no_box(browser: Browser) -> None:
    from playwright.sync_api import expect

    page = Page("feed", "a file")
    page.start()
    try:
        for packet in Feed().packets(20):
            page.process(packet)
        with Watched(browser) as opened:
            tab = opened.tab
            tab.goto(page.url)
            expect(tab.locator(".strip li").first).to_be_visible()
            expect(tab.locator(".ask")).to_be_hidden()
            tab.locator(".strip li button").first.click()
            expect(tab.get_by_role("button", name="Find moments like this")).to_be_hidden()
            assert opened.problems == []
    finally:
        page.stop()
