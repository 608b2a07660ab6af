"""What the commands that train share: their processes, their end, a bar, a curve.

Under torchrun only the first process writes and talks.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retain.apps import console
from retain.pipeline.errors import RetainError

if TYPE_CHECKING:
    from retain.models.training import Progress

CURVE, WEIGHTS = "curve.csv", "weights.safetensors"
_SMOOTH = 0.98


@contextmanager
def launched(device: str, threads: int) -> Iterator[tuple[str, bool]]:
    """The device of this process, and whether it is the one that writes and talks; ``threads`` of
    torch, 0: as they are. Joins the processes that torchrun started beside it."""
    import torch

    from retain.models import distributed

    if threads:
        torch.set_num_threads(threads)
    with distributed.session(device) as place:
        first = distributed.here().first
        console.quiet(not first)
        try:
            yield place, first
        finally:
            console.quiet(False)


class Stopped(RetainError):
    """A person ended a training, which has saved."""

    exit_code = console.INTERRUPTED


@contextmanager
def into(out: Path) -> Iterator[Bar]:
    """A bar while a run is trained into ``out``. Raises Stopped after Ctrl-C, RetainError where
    nothing can be written."""
    try:
        with shown() as bar:
            yield bar
    except KeyboardInterrupt:
        raise Stopped(f"Stopped and saved in {out}; the same command goes on from there.") from None
    except OSError as error:
        raise RetainError(
            f"The run could not be written to {str(out)!r}: {error.strerror}."
        ) from error


class Curve:
    """One row per step in a CSV file, and the smoothed loss. A continued run adds to its file.

    ``kept``: otherwise nothing is written."""

    def __init__(self, path: Path, kept: bool = True) -> None:
        if not kept:
            path = Path(os.devnull)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        self._file = path.open("a", buffering=1, newline="")  # a line at a time, to be followed
        self._writer = csv.writer(self._file)
        if new:
            self._writer.writerow(("step", "loss", "learning_rate", "seconds"))
        self.loss = math.nan

    def add(self, p: Progress) -> None:
        self.loss = (
            p.loss if math.isnan(self.loss) else _SMOOTH * self.loss + (1 - _SMOOTH) * p.loss
        )
        self._writer.writerow((p.step, f"{p.loss:.5f}", f"{p.rate:.3e}", f"{p.seconds:.3f}"))

    def __enter__(self) -> Curve:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


class Bar:
    """A progress bar that changes its subject; a line now and then where no terminal is."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        screen = console.messages()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            console=screen,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._live = screen.is_terminal
        self._said = time.monotonic()
        self._say = screen.print

    def show(self, text: str, done: int, of: int) -> None:
        self._bar.update(
            self._task, description=text, completed=done, total=of, visible=True, refresh=False
        )
        if not self._live and (time.monotonic() - self._said > 30 or done == of):
            self._said = time.monotonic()
            self._say(f"{text}: {done}/{of}")


@contextmanager
def shown() -> Iterator[Bar]:
    bar = Bar()
    if not bar._live:
        yield bar
        return
    with bar._bar:
        yield bar


def plot(curve: Path, out: Path) -> None:
    """The loss over the steps, as SVG, with its smoothed course."""
    with curve.open(newline="") as file:
        # A run that was killed did some steps twice: the later row counts.
        rows = sorted({int(r["step"]): float(r["loss"]) for r in csv.DictReader(file)}.items())
    if not rows:
        return
    width, height, margin = 720, 300, 48
    smooth, course = rows[0][1], []
    for _, loss in rows:
        smooth = _SMOOTH * smooth + (1 - _SMOOTH) * loss
        course.append(smooth)
    top = max(loss for _, loss in rows)
    last = rows[-1][0]

    def line(values: list[float]) -> str:
        step = max(1, len(values) // 700)
        points = zip([step for step, _ in rows][::step], values[::step], strict=True)
        return " ".join(
            f"{margin + (width - 2 * margin) * x / last:.1f},"
            f"{height - margin - (height - 2 * margin) * y / top:.1f}"
            for x, y in points
        )

    raw, calm = line([loss for _, loss in rows]), line(course)
    base = height - margin
    out.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<polyline points="{raw}" fill="none" stroke="#c8d4e3"/>'
        f'<polyline points="{calm}" fill="none" stroke="#1f5fa8" stroke-width="2"/>'
        f'<path d="M{margin} {margin}V{base}H{width - margin}" fill="none" stroke="#555"/>'
        f'<text x="{margin}" y="{margin - 10}">loss, {top:.2f} at the top</text>'
        f'<text x="{width - margin}" y="{base + 20}" text-anchor="end">step {last}</text>'
        f"</svg>\n"
    )
