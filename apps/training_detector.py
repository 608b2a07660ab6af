"""`retain train detector`: procedural videos in, weights and curves; goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.training import CURVE, Curve, into, launched, plot

if TYPE_CHECKING:
    from retain.models.mamba.small.train import Recipe
    from retain.models.training import Progress

PRESETS = ("clean", "mild", "strong")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `retain train detector` was asked. ``None``: the recipe's own."""

    out: Path
    steps: int | None = None
    seed: int = 0
    rate: float | None = None
    init: Path | None = None
    """Folder of a run whose network to start from."""
    clips: int = 24
    """Held-out videos it is judged on in the end; 0: none."""
    device: str = "auto"
    threads: int = 0
    """Of torch; 0: all cores. Runs are the same bits for the same number only."""

    def recipe(self) -> Recipe:
        from retain.models.mamba.small.train import Recipe

        given = {"steps": self.steps, "lr": self.rate}
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        return replace(Recipe(), seed=self.seed, **changes)


def train(options: TrainOptions) -> int:
    """Train to the end; the exit code. Raises Stopped after Ctrl-C; the same command goes on."""
    with launched(options.device, options.threads) as (device, first):
        return _train(options, device, first)


def _train(options: TrainOptions, device: str, first: bool) -> int:
    from retain import __version__
    from retain.models.mamba.small.train import run

    recipe = options.recipe()
    say = console.messages().print
    say(f"training the small detector for {recipe.steps} steps on {device} into {options.out}")
    with into(options.out) as bar, Curve(options.out / CURVE, first) as curve:

        def tell(progress: Progress) -> None:
            curve.add(progress)
            bar.show(f"training, loss {curve.loss:.3f}", progress.step, progress.steps)

        path = run(
            recipe,
            options.out,
            device=device,
            tell=tell,
            init=options.init,
            made={"version": __version__},
        )
    if not first:
        return 0
    plot(options.out / CURVE, options.out / "curve.svg")
    if options.clips:
        judge(path, options.clips, device)
    console.output().print(str(path))
    return 0


def judge(weights: Path | str, clips: int, device: str) -> None:
    """Print what ``weights`` find on held-out videos: by class, by speed, by degradation.
    ``device`` may be ``auto``."""
    from rich.table import Table

    from retain.datasets.detect.objects_kinds import NAMES
    from retain.models.mamba.hosts.small import SmallDetector
    from retain.models.mamba.small.evaluate import milliseconds, score

    host = SmallDetector.load(weights, device)
    reports = {preset: score(host, preset, clips) for preset in PRESETS}
    table = Table(title=f"AP50 (AP) on {clips} held-out videos")
    for column in ("", *PRESETS):
        table.add_column(column, justify="right" if column else "left")
    rows = {"all": [reports[preset].whole for preset in PRESETS]}
    for speed in ("slow", "medium", "fast"):
        rows[speed] = [reports[preset].by_speed[speed] for preset in PRESETS]
    for name in NAMES:
        kinds = [reports[preset].by_class for preset in PRESETS]
        if all(name in kind for kind in kinds):
            rows[name] = [kind[name] for kind in kinds]
    for title, scores in rows.items():
        table.add_row(title, *(f"{one.ap50:.3f} ({one.ap:.3f})" for one in scores))
    console.output().print(table)
    console.output().print(f"{milliseconds(host):.1f} ms of one thread for a picture")
