"""`retain train gdkvm`: phantoms in, weights and curves; goes on where it stopped.

Also what the training commands share. Under torchrun only the first process writes and talks.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.pipeline.errors import RetainError

if TYPE_CHECKING:
    from retain.models.gdkvm.train import Recipe
    from retain.models.training import Progress

CURVE, WEIGHTS = "curve.csv", "weights.safetensors"
INTERRUPTED = 130
_SMOOTH = 0.98


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `retain train gdkvm` was asked. ``None``: the recipe's own."""

    out: Path
    size: str = "mini"
    structures: str = "cavity"
    """``cavity`` or ``all``."""
    layer: str | None = None
    """What remembers; see docs/layers.md."""
    steps: int | None = None
    clips: int | None = None
    seed: int = 0
    rate: float | None = None
    labels: str | None = None
    device: str = "auto"
    threads: int = 0
    """Of torch; 0: all cores. Runs are the same bits for the same number only."""
    init: Path | None = None
    cache: Path | None = None

    def recipe(self) -> Recipe:
        from retain.datasets.echo.clip import LABELS
        from retain.models.gdkvm.train import Recipe, base_recipe

        recipe = base_recipe() if self.size == "base" else Recipe()
        objects = LABELS if self.structures == "all" else LABELS[:1]
        model = replace(recipe.model, objects=objects)
        if self.layer is not None:
            model = replace(model, layer=self.layer)  # type: ignore[arg-type]  # checked there
        recipe = replace(recipe, model=model)
        given = {
            "steps": self.steps, "clips": self.clips, "labels": self.labels, "lr": self.rate,
        }  # fmt: skip
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        return replace(recipe, seed=self.seed, **changes)


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


def train(options: TrainOptions) -> int:
    """Train to the end, or until Ctrl-C; the same command goes on. Returns the exit code."""
    with launched(options.device, options.threads) as (device, first):
        return _train(options, device, first)


def _train(options: TrainOptions, device: str, first: bool) -> int:
    import platformdirs

    from retain.models.gdkvm.train import run

    recipe = options.recipe()
    cache = options.cache or Path(platformdirs.user_cache_dir("retain")) / "phantoms"
    say = console.messages().print
    say(f"training {recipe.model.size} for {recipe.steps} steps on {device} into {options.out}")
    try:
        with shown() as bar, Curve(options.out / CURVE, first) as curve:

            def tell(progress: Progress) -> None:
                curve.add(progress)
                text = f"training, loss {curve.loss:.3f}"
                bar.show(text, progress.step, progress.steps)

            run(
                recipe,
                options.out,
                cache,
                device=device,
                drawn=lambda done, of: bar.show("drawing phantoms", done, of),
                tell=tell,
                init=options.init,
            )
    except KeyboardInterrupt:
        say(f"stopped and saved in {options.out}; the same command goes on from there")
        return INTERRUPTED
    except OSError as error:
        raise RetainError(
            f"The run could not be written to {str(options.out)!r}: {error.strerror}."
        ) from error
    if first:
        plot(options.out / CURVE, options.out / "curve.svg")
    console.output().print(str(options.out / WEIGHTS))
    return 0


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


class _Bar:
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
def shown() -> Iterator[_Bar]:
    bar = _Bar()
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
