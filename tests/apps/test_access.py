"""A console that other hosts can open: refused without a token, and nothing without having it."""

from __future__ import annotations

import logging
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from browser_parts import Watched, launched
from page_feed import FakeRun

from retain.apps import top
from retain.apps.page import access as access_module
from retain.apps.page.access import Access
from retain.apps.page.console import Console
from retain.apps.page.server import Page
from retain.apps.token import bearer
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.streams import load_streams

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOKEN = "Zm9ydHktdHdvIG1pbGVz"
FILE = "streams:\n  yard: {source: 'synthetic://bounce?live=1'}\nsettings: {encoder: pixels}\n"
PATHS = ("", "api/state", "api/events", "metrics", "api/held", "api/preview.jpg", "report.html")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return written(tmp_path / "token", TOKEN + "\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "house.yaml", FILE)


@pytest.fixture
def serve(file: Path, token_file: Path) -> Iterator[Callable[..., Console]]:
    made: list[Console] = []

    def start(certificate: Path | None = None) -> Console:
        console = Console(file, file.parent, 0, "0.0.0.0", Access(token_file, certificate))
        made.append(console)
        console.attach(FakeRun())
        console.start()
        return console

    yield start
    for console in made:
        console.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "SLOW_S", 0.0)


def here(console: Console) -> str:
    port = console.url.rsplit(":", 1)[1].strip("/")
    return f"{console.url.partition(':')[0]}://127.0.0.1:{port}"


def test_no_other_host_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(UsageError, match="anyone in the network"):
            Page("a", "b", host=host)


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (TOKEN, 0o640, "may be read or changed by others"),
        (TOKEN, 0o604, "may be read or changed by others"),
        ("short", 0o600, "can be guessed"),
        ("", 0o600, "holds no secret"),
        ("two\nlines of a file", 0o600, "holds no secret"),
    ],
)
def test_what_is_no_token_file(tmp_path: Path, text: str, mode: int, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        Access(written(tmp_path / "token", text, mode))
    assert not text or text not in str(refused.value)


def test_a_missing_token_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token file") as refused:
        Access(tmp_path / "token")
    command = refused.value.hint.removeprefix("Make one: ")
    subprocess.run(["sh", "-c", command], check=True)
    Access(tmp_path / "token")


def test_nothing_is_shown_to_who_has_no_token(serve: Callable[..., Console]) -> None:
    url = here(serve())
    for path in PATHS:
        answer = httpx.get(f"{url}/{path}")
        assert answer.status_code == 401, path
        assert "yard" not in answer.text
    for headers in (
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "retain-x=y; ;;"},
        {"X-Retain-Token": TOKEN, "X-Retain": "1"},
    ):
        assert httpx.get(f"{url}/api/state", headers=headers).status_code == 401
        assert httpx.post(f"{url}/api/stop", headers=headers).status_code == 401


def test_programs_send_the_token_as_a_header(
    serve: Callable[..., Console], token_file: Path, file: Path
) -> None:
    console = serve()
    say = bearer(token_file)
    assert httpx.get(f"{here(console)}/metrics", headers=say).status_code == 200
    assert httpx.post(f"{here(console)}/api/streams", headers=say).status_code == 403, "no X-Retain"
    new = {"name": "roof", "source": "0"}
    answer = httpx.post(f"{here(console)}/api/streams", json=new, headers={**say, "X-Retain": "1"})
    assert answer.status_code == 200
    assert "roof" in load_streams(file).streams
    assert "house" in top.ask(f"{here(console)}/", say).title
    with pytest.raises(RetainError, match="wants its token"):
        top.ask(f"{here(console)}/")


def test_a_login_gives_a_cookie_that_scripts_and_other_sites_do_not_get(
    serve: Callable[..., Console], caplog: pytest.LogCaptureFixture
) -> None:
    console = serve()
    with httpx.Client(base_url=here(console)) as client:
        wrong = client.post("/login", data={"token": TOKEN[:-1]})
        assert wrong.status_code == 401
        assert "not the token" in wrong.text
        assert client.post("/login", data={"token": "x" * 10_000}).status_code == 401
        right = client.post("/login", data={"token": TOKEN})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/api/state").json()["streams"]["streams"][0]["name"] == "yard"
        assert client.post("/api/stop").status_code == 403
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("gave a wrong token" in line for line in told) == 1
    assert any("not encrypted" in line for line in told)
    assert not any(TOKEN in line for line in told)


def test_https_with_a_certificate(
    serve: Callable[..., Console], tmp_path: Path, token_file: Path
) -> None:
    pem = tmp_path / "console.pem"
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(pem), "-out", f"{pem}.crt"]
    kind = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made = subprocess.run([*kind, *names, *files], capture_output=True)
    if made.returncode:
        pytest.skip("no openssl here")
    written(pem, pem.read_text() + Path(f"{pem}.crt").read_text())
    console = serve(pem)
    assert console.url.startswith("https://")
    trust = ssl.create_default_context(cafile=f"{pem}.crt")
    answer = httpx.post(f"{here(console)}/login", data={"token": TOKEN}, verify=trust)
    assert answer.status_code == 303
    assert "; Secure" in answer.headers["set-cookie"]
    pem.chmod(0o644)
    with pytest.raises(UsageError, match="others than its owner"):
        Access(token_file, pem)
    with pytest.raises(UsageError, match="no certificate"):
        Access(token_file, token_file)


def command(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retain.apps.cli", "serve", "house.yaml", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_the_command_refuses_and_never_tells_the_token(file: Path, token_file: Path) -> None:
    with command(file.parent, "--host", "0.0.0.0") as refused:
        _, said = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "--token-file" in said
    with command(file.parent, "--host", "0.0.0.0", "--token-file", str(token_file)) as running:
        assert running.stderr is not None
        first = running.stderr.readline() + running.stderr.readline()
        found = re.search(r"http://\S+:(\d+)/", first)
        assert found is not None, first
        assert httpx.get(f"http://127.0.0.1:{found[1]}/api/state").status_code == 401
        say = bearer(token_file)
        url, end = f"http://127.0.0.1:{found[1]}/api/state", time.monotonic() + 30
        while not httpx.get(url, headers=say).raise_for_status().json()["run"]["uptime_s"]:
            assert time.monotonic() < end, "the run never began"  # a signal before it ends nothing
            time.sleep(0.1)
        arguments = Path(f"/proc/{running.pid}/cmdline").read_text()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert TOKEN not in out + err + first + arguments


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()


@pytest.mark.browser
@pytest.mark.parametrize(("size", "scheme"), [("desktop", "dark"), ("phone", "light")])
def test_the_login_in_a_browser(
    browser: Browser, serve: Callable[..., Console], file: Path, size: str, scheme: str
) -> None:
    from playwright.sync_api import expect

    console = serve()
    with Watched(browser, size, scheme) as watched:
        tab = watched.tab
        tab.goto(here(console))
        expect(tab.get_by_label("Token")).to_be_focused()
        tab.keyboard.type("a guess, and a wrong one")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("alert")).to_have_text("That is not the token.")
        assert not watched.wide()
        tab.screenshot(path=str(file.parent / f"login-{size}.png"))
        tab.get_by_label("Token").fill(TOKEN)
        tab.get_by_role("button", name="Open the console").click()
        expect(tab.locator(".grid li")).to_have_count(1)
        assert tab.url == here(console) + "/"
        assert TOKEN not in tab.content()
        tab.get_by_role("button", name="Add stream").click()
        tab.get_by_label("Name").fill("roof")
        tab.get_by_label("Source").fill("0")
        tab.get_by_role("button", name="Add", exact=True).click()
        expect(tab.locator(".grid li")).to_have_count(2)
        assert list(load_streams(file).streams) == ["yard", "roof"]
        # The browser itself reports the refusals.
        assert [p for p in watched.problems if "401" not in p] == []
