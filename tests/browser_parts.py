"""A real browser and tabs that note what goes wrong in them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

SIZES = {"desktop": (1440, 900), "phone": (360, 740)}


GPU = {False: ("--disable-gpu",), True: ("--enable-unsafe-swiftshader", "--use-gl=angle",
                                         "--use-angle=swiftshader")}  # fmt: skip
"""Whether a page may have WebGL, which is drawn by the CPU then."""


def launched(webgl: bool = False) -> Iterator[Browser]:
    """A browser, or the test is skipped (failed, where REQUIRE_BROWSER is set)."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("REQUIRE_BROWSER is set, but there is no chromium")
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-background-networking", *GPU[webgl]]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=arguments)
        yield started
        started.close()


class Watched:
    """A tab that notes everything that goes wrong in it."""

    def __init__(self, browser: Browser, size: str = "desktop", scheme: str = "light") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        self.tab: Tab = self.context.new_page()
        self.tab.set_default_timeout(10_000)
        self.problems: list[str] = []
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on(
            "console",
            lambda message: (
                self.problems.append(message.text) if message.type in ("error", "warning") else None
            ),
        )

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def wide(self) -> bool:
        """Whether the page can be scrolled sideways."""
        return bool(self.tab.evaluate("document.documentElement.scrollWidth > innerWidth"))


def until(tab: Tab, condition: str) -> None:
    """Wait for ``condition``; Playwright's own wait needs eval, which the page denies."""
    deadline = time.monotonic() + 10
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, f"never true: {condition[:200]}"
        tab.wait_for_timeout(30)
