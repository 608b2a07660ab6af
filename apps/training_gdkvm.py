"""`retain train gdkvm`: phantoms in, weights and curves; goes on where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.training import CURVE, WEIGHTS, Curve, into, launched, plot

if TYPE_CHECKING:
    from retain.models.gdkvm.train import Recipe
    from retain.models.training import Progress


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


def train(options: TrainOptions) -> int:
    """Train to the end; the exit code. Raises Stopped after Ctrl-C; the same command goes on."""
    with launched(options.device, options.threads) as (device, first):
        return _train(options, device, first)


def _train(options: TrainOptions, device: str, first: bool) -> int:
    import platformdirs

    from retain.models.gdkvm.train import run

    recipe = options.recipe()
    cache = options.cache or Path(platformdirs.user_cache_dir("retain")) / "phantoms"
    say = console.messages().print
    say(f"training {recipe.model.size} for {recipe.steps} steps on {device} into {options.out}")
    with into(options.out) as bar, Curve(options.out / CURVE, first) as curve:

        def tell(progress: Progress) -> None:
            curve.add(progress)
            bar.show(f"training, loss {curve.loss:.3f}", progress.step, progress.steps)

        run(
            recipe,
            options.out,
            cache,
            device=device,
            drawn=lambda done, of: bar.show("drawing phantoms", done, of),
            tell=tell,
            init=options.init,
        )
    if first:
        plot(options.out / CURVE, options.out / "curve.svg")
    console.output().print(str(options.out / WEIGHTS))
    return 0
