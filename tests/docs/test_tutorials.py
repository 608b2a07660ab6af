"""Tutorials do what they show: files are written, commands run, and say what the page says.

A tutorial is read from top to bottom in one empty folder. Blocks under ``<!-- file: NAME -->`` are
written there. Of a ``console`` block, lines after ``$ `` are run, and the lines that follow must be
said, in this order, by whatever stream: ``…`` stands for anything, a number for one near it. What
fails must be asked about by ``$ echo $?``.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer.main
from doc_pages import TUTORIALS, fences, steps

from retain.apps import cli

SHARE = 0.15
"""By how much a number may differ: not every processor rounds alike, and no claim is finer."""
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
Say = Callable[[], tuple[str, str]]


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    """What stdout and stderr have said since it was asked last."""
    return lambda: capfd.readouterr()


@pytest.mark.slow
@pytest.mark.timeout(400)  # all of them take a minute of a quiet machine
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_a_tutorial_does_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, failed = 0, ""
    for block in fences(page):
        if block.remark.startswith("file: "):
            Path(block.remark.removeprefix("file: ")).write_text(block.text)
        if block.language != "console":
            continue
        for step in steps(block):
            if step.command == "echo $?":
                assert step.shown == [str(code)], f"{step.where}: {failed}"
                failed = ""
                continue
            assert not failed, f"{step.where}: the command before ended with {code}: {failed}"
            code = run(step.command, monkeypatch)
            said = say()
            assert missing(step.shown, *said) is None, (
                f"{step.where}: {step.command}\nis shown to say\n    {missing(step.shown, *said)}\n"
                f"but says\n{''.join(said)}"
            )
            failed = said[1] if code else ""
    assert not failed, failed


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code. Our own commands run in this process, without a page and in one process, which
    changes no result; Python runs as it is; everything else by the shell."""
    words = shlex.split(command)
    if words[0] != "retain":
        shell = command.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
        return subprocess.run(["bash", "-c", shell], timeout=100).returncode
    known = {name for option in COMMANDS[words[1]].params for name in option.opts}
    words += ["--no-page"] * ("--page" in known) * (words[1] != "run")
    words += ["--runner", "inline"] * ("--runner" in known)
    monkeypatch.setattr(sys, "argv", words)
    threads, ending = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    try:
        cli.main()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGTERM, ending)
    return 0


def missing(shown: list[str], *said: str) -> str | None:
    """The first line that is shown and not said, if any. Each stream has an order of its own."""
    left = [stream.splitlines() for stream in said]
    for line in shown:
        if line.strip() == "…":
            continue
        for lines in left:
            at = next((i for i, one in enumerate(lines) if same(line, one)), None)
            if at is not None:
                del lines[: at + 1]
                break
        else:
            return line
    return None


def same(shown: str, said: str) -> bool:
    """Equal but for the width of gaps, what ``…`` stands for, and small differences of numbers."""
    plain = " ".join(shown.split())
    pattern = re.escape(plain).replace("…", ".*").replace(r"\ ", r"\s+")
    numbers = [one for part in plain.split("…") for one in NUMBER.findall(part)]
    pattern = re.sub(r"\d[\d,]*(?:\\\.\d+)?", lambda _: r"(\d[\d,]*(?:\.\d+)?)", pattern)
    found = re.fullmatch(pattern, " ".join(said.split()))
    return found is not None and all(
        near(one, other) for one, other in zip(numbers, found.groups(), strict=True)
    )


def near(one: str, other: str) -> bool:
    a, b = (float(number.replace(",", "")) for number in (one, other))
    return abs(a - b) <= SHARE * max(abs(a), abs(b)) + 1e-9


def test_what_is_shown_is_compared() -> None:
    said = "mapped 0:01.0 (32 frames, 0.2 a second): 16,622 Gaussians\n  PSNR   29.06 dB\n"
    assert missing(["mapped 0:01.0 (32 frames, …): 16,600 Gaussians", "PSNR 29 dB"], said) is None
    assert missing(["PSNR 29 dB", "…", "mapped …"], said) == "mapped …"
    assert missing(["PSNR 19 dB"], said) == "PSNR 19 dB"
    assert missing(["PSNR of 29 dB"], said) == "PSNR of 29 dB"
    assert missing(["PSNR 29 dB", "mapped …"], said, said) is None


def test_every_app_has_a_tutorial() -> None:
    text = "".join(page.read_text() for page in TUTORIALS)
    for name in ("watch", "ask", "segment", "detect", "reconstruct", "imagine", "run", "batch"):
        assert re.search(rf"^\$ retain {name} ", text, re.M), name
