"""Training GDKVM on phantoms: deterministic, interruptible at any step, continued bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from retain.datasets.echo.clip import LABELS
from retain.models import distributed
from retain.models.gdkvm import data, weights
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.draw import LENGTH
from retain.models.gdkvm.losses import clip_loss
from retain.models.gdkvm.network import Gdkvm, PerFrame
from retain.models.training import Ahead, Progress, Run, cosine, groups
from retain.pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run depends on. Raises UsageError for values that cannot work."""

    model: GdkvmConfig = field(default_factory=GdkvmConfig)
    steps: int = 1600
    batch: int = 6
    length: int = 4
    """Frames per clip."""
    labels: Literal["all", "ends"] = "all"
    """``ends``: only the first and the last frame of a clip are supervised, as in the paper."""
    clips: int = 720
    corruption: float = 0.6
    """How often frames of a clip are blacked, dimmed or shadowed."""
    mask_dropout: float = 0.1
    """How often a frame does not get the mask of the one before."""
    lr: float = 2e-3
    weight_decay: float = 1e-3
    clip_norm: float = 3.0
    average: float = 0.998
    """Of the exponential moving average of the weights, which is what is kept."""
    per_frame: bool = False
    """Every frame from an empty state: a U-Net of the same cost, for comparison."""
    area: float = 1.0
    """Weight of the area loss (ours); 0 as published."""
    points: int = 0
    """Pixels per frame the loss looks at; 0: all."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "clips"):
            if getattr(self, name) < 1:
                raise UsageError(f"The recipe's {name} must be at least 1.")
        if not 2 <= self.length <= LENGTH:
            raise UsageError(f"Clips to train on have 2 to {LENGTH} frames, not {self.length}.")
        if self.labels not in ("all", "ends"):
            raise UsageError(f"The recipe's labels are 'all' or 'ends', not {self.labels!r}.")
        if unknown := set(self.model.objects) - set(LABELS):
            raise UsageError(f"Phantoms have no {', '.join(sorted(unknown))}.")

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "model": self.model.as_json()}

    def rate(self, step: int) -> float:
        """Learning rate of ``step``."""
        return cosine(step, self.steps, self.lr)


def base_recipe(grid: int = 128, **changes: Any) -> Recipe:
    """The paper's sizes from scratch, for a GPU."""
    values: dict[str, Any] = {
        "model": GdkvmConfig.base(grid),
        "steps": 3000,
        "batch": 16,
        "length": 10,
        "labels": "ends",
        "clips": 2000,
        "lr": 5e-4,
        "points": 4096,
    }
    return Recipe(**(values | changes))


def build(recipe: Recipe) -> Gdkvm:
    """The network of ``recipe``, with random weights."""
    return (PerFrame if recipe.per_frame else Gdkvm)(recipe.model)


class Trainer(Run):
    """A run in ``out``; ``train`` goes on from the checkpoint there, once ``load`` has found it."""

    schema = weights.SCHEMA

    def __init__(self, recipe: Recipe, cache: data.ClipCache, out: Path, device: str) -> None:
        self.recipe, self.cache = recipe, cache
        self.device = torch.device(device)
        torch.manual_seed(recipe.seed)
        model = build(recipe).to(self.device).train()
        super().__init__(
            model,
            groups(model.parameters(), recipe.weight_decay),
            recipe.as_json(),
            out,
            steps=recipe.steps,
            seed=recipe.seed,
            rate=recipe.rate,
            average=recipe.average,
            clip_norm=recipe.clip_norm,
            batch=recipe.batch,
        )
        self._batch = Ahead(self._draw, recipe.steps)
        self._labels = [LABELS.index(name) + 1 for name in recipe.model.objects]

    def loss(self, step: int) -> Tensor:
        r = self.recipe
        batch = self._batch(step)
        kept = self.share.own(torch.rand(r.batch, r.length)) >= r.mask_dropout
        target = data.only_objects(batch.target, self._labels).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outs = self.model(batch.clip.to(self.device), kept.float().to(self.device))
        frames = list(range(r.length)) if r.labels == "all" else [0, r.length - 1]
        return clip_loss(outs, target, frames, r.model, r.points, r.area, self.share)

    def _draw(self, step: int) -> data.Batch:
        r = self.recipe
        return data.batch(
            self.cache,
            step,
            seed=r.seed,
            size=r.batch,
            length=r.length,
            corruption=r.corruption,
            rows=self.rows,
        )

    def averaged(self) -> Gdkvm:
        """The network that is kept, ready to use."""
        model = build(self.recipe).to(self.device)
        model.load_state_dict(self.average)
        return model.eval()


def run(
    recipe: Recipe,
    out: Path,
    cache_folder: Path,
    *,
    device: str = "cpu",
    drawn: data.Progress = lambda done, of: None,
    tell: Callable[[Progress], None] = lambda progress: None,
    init: Path | None = None,
) -> Gdkvm:
    """Draw what is missing, train to the end, write ``out``/weights.safetensors; the network.

    ``init``: weights to start from instead of random ones.
    """
    out.mkdir(parents=True, exist_ok=True)

    def phantoms() -> data.ClipCache:
        return data.phantoms(cache_folder, recipe.clips, recipe.model.grid, 1_000_000, drawn)

    cache = distributed.here().one_first(phantoms)
    trainer = Trainer(recipe, cache, out, device)
    if not trainer.load() and init is not None:
        start = build(recipe)
        weights.take_over(start, init)
        trainer.start_from(start.state_dict())
    trainer.train(tell)
    model = trainer.averaged()
    if trainer.share.first:
        weights.save(out / "weights.safetensors", model, {"recipe": recipe.as_json()})
    return model
