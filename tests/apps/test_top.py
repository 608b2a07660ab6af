"""`retain top` against a real page, and against what is none."""

from __future__ import annotations

import doctest
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from page_feed import FakeRun, Feed

from retain.apps import top
from retain.apps.page.server import Page
from retain.pipeline.errors import RetainError, UsageError


@pytest.fixture
def page() -> Iterator[Page]:
    run = FakeRun()
    run.frames, run.uptime_s, run.lost = 21, 3.0, 5
    page = Page("\x1b[31mred", "file")
    page.start()
    page.attach(run)
    for packet in Feed().packets(21):
        page.process(packet)
    try:
        yield page
    finally:
        page.stop()


def test_addresses() -> None:
    assert doctest.testmod(top).failed == 0
    for wrong in ("", "ftp://x", "http://", "x:notaport", "99999999"):
        with pytest.raises(UsageError, match="neither the address of a page nor a port"):
            top.address(wrong)


def test_once_prints_a_plain_table(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    port = page.url.rpartition(":")[2].rstrip("/")
    assert top.top(port, once=True) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title == "?[31mred: running, 21 frames in 3 s."
    assert head.split("  ")[0] == "stage"
    assert [row.split()[0] for row in rows] == ["source", "encode", "remember", "page"]
    encode = dict(zip(top.COLUMNS, rows[1].split(), strict=True))
    assert encode["in"] == encode["out"] == "21"
    assert encode["dropped"] == "stale=5"
    assert (encode["failed"], encode["restarts"]) == ("0", "0")
    assert (encode["service ms"], encode["p95"], encode["age p95"]) == ("6.9", "11.4", "26")
    assert encode["per s"] == "7.0"
    assert encode["cpu"] == "41%"
    assert encode["resident"] == "220MiB"
    assert rows[2].split()[-2] == "4.6MiB"
    assert not any(line != line.rstrip() for line in rows)


def test_the_table_of_a_terminal_has_the_same_cells(page: Page) -> None:
    from rich.console import Console

    moment = top.ask(page.url)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(top.shown(moment))
        text = console.export_text()
    for row in moment.rows:
        for cell in row:
            assert cell in text


def test_no_page_and_other_pages() -> None:
    with pytest.raises(RetainError, match="No page answers at http://127.0.0.1:1/"):
        top.top("1", once=True)

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"about": {}}')

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(RetainError, match="is no page of this version"):
            top.top(str(server.server_port), once=True)
        thread.join()
