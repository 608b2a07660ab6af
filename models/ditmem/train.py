"""Training on worlds drawn on the fly: a backbone that is not told its world, then its memory.

Both are deterministic and go on bit for bit from a checkpoint (``models.training.Run``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retain.datasets.worlds.config import Kind, WorldConfig
from retain.datasets.worlds.draw import draw
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.flow import flow_loss
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.ditmem.inject import MemoryRows
from retain.models.training import Progress, Run, cosine
from retain.pipeline.errors import UsageError

TRAIN_SEEDS = 1_000_000
"""Worlds of training are drawn from seeds above this; those judged on are below."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run depends on. Raises UsageError for values that cannot work."""

    dit: DitConfig = field(default_factory=DitConfig)
    kind: Kind = "ball"
    steps: int = 4000
    batch: int = 32
    lr: float = 2e-3
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or not self.lr > 0:
            raise UsageError("A recipe needs steps, batch and lr above 0.")

    def world(self) -> WorldConfig:
        return WorldConfig(self.kind, self.dit.side, self.dit.frames)


def recipe(size: str) -> Recipe:
    """``tiny``: 12 pixels, minutes on a CPU. ``small``: 64 pixels, for a GPU; never trained yet."""
    if size == "tiny":
        return Recipe()
    if size == "small":
        dit = DitConfig(side=64, frames=16, patch=8, dim=384, depth=8, heads=6)
        return Recipe(dit, steps=20_000, batch=128, lr=5e-4)
    raise UsageError(f"There is no size {size!r} of this backbone.", hint="tiny or small.")


@dataclass(frozen=True, slots=True)
class MemoryRecipe:
    """Of the memory beside a trained backbone."""

    guide: GuideConfig
    base: Recipe
    """What the backbone was trained with; ``steps`` and ``lr`` are the memory's own."""
    law: float = 0.1
    """Weight of the auxiliary loss: each reference's tokens have to tell the world's parameters."""
    shuffled: float = 0.15
    """How often the references of a sample are of another world and out of order: a clip whose
    order is broken tells nothing of a law, and the model has to see that it is."""
    absent: float = 0.1
    """How often a sample has no references."""

    def __post_init__(self) -> None:
        if self.shuffled and self.base.batch < 2:
            raise UsageError("References of another world need a batch of two worlds or more.")


def worlds(recipe: Recipe, step: int, clips: int) -> tuple[Tensor, Tensor]:
    """Clips [B, clips, T, 1, S, S] in 0..1 and parameters [B, P] of the worlds of a step."""
    seed = TRAIN_SEEDS * (1 + recipe.seed) + step
    made = draw(recipe.world(), recipe.batch, clips, seed)
    return torch.from_numpy(made.frames), torch.from_numpy(made.params)


def spread(recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Mean and deviation [P] of the parameters, from a thousand worlds."""
    params = draw(recipe.world(), 1000, 1, TRAIN_SEEDS - 1).params
    return torch.from_numpy(params.mean(0)), torch.from_numpy(np.maximum(params.std(0), 1e-6))


class BackboneRun(Run):
    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.dit = VideoDit(recipe.dit).to(device)
        self.recipe, self.device = recipe, device
        super().__init__(
            self.dit, _groups(list(self.dit.parameters())), asdict(recipe), out, **_schedule(recipe)
        )

    def loss(self, step: int) -> Tensor:
        clips = self.share.own(worlds(self.recipe, step, 1)[0])[:, 0].to(self.device)
        return flow_loss(self.dit, clips, _generator(self.recipe, step), None, self.share)


class MemoryRun(Run):
    """Trains what ``recipe.guide`` adds to ``dit``."""

    def __init__(self, recipe: MemoryRecipe, dit: VideoDit, out: Path, device: str = "cpu") -> None:
        torch.manual_seed(recipe.base.seed)
        self.guided = Guided(recipe.guide, dit).to(device)
        self.recipe, self.device = recipe, device
        self._mean, self._scale = (t.to(device) for t in spread(recipe.base))
        super().__init__(
            self.guided,
            _groups(self.guided.trained()),
            asdict(recipe),
            out,
            **_schedule(recipe.base),
        )

    def loss(self, step: int) -> Tensor:
        r, guide = self.recipe, self.recipe.guide
        known = guide.encoder.references if guide.source == "references" else 0
        clips, params = worlds(r.base, step, 1 + known)
        params = (self.share.own(params).to(self.device) - self._mean) / self._scale
        generator = _generator(r.base, step)
        target = self.share.own(clips)[:, 0].to(self.device)
        if guide.source == "none":
            return flow_loss(self.guided.dit, target, generator, None, self.share)
        if guide.source == "oracle":
            told = self.guided.told(params)
            return flow_loss(self.guided.dit, target, generator, told, self.share)
        rows, extra = self._read(clips[:, 1:], params, generator)
        found = flow_loss(self.guided.dit, target, generator, rows, self.share)
        return found + r.law * extra

    def _read(
        self, references: Tensor, params: Tensor, generator: torch.Generator
    ) -> tuple[MemoryRows, Tensor]:
        """Rows, some absent or from what tells nothing; and the auxiliary loss. ``references`` are
        the whole batch's, as one may get another's; ``params`` this process's."""
        r, encoder, share = self.recipe, self.guided.encoder, self.share
        drawn = share.own(torch.rand(len(references), generator=generator)).to(self.device)
        broken = drawn < r.shuffled
        absent = (drawn >= r.shuffled) & (drawn < r.shuffled + r.absent)
        order = disorder(references.shape[2], generator)
        useless = share.own(references.roll(1, 0))[:, :, order].to(self.device)
        right = share.own(references).to(self.device)
        shown = torch.where(broken[:, None, None, None, None, None], useless, right)
        own = encoder.branch(shown)
        there = (~absent)[:, None].expand(own.shape[:2])
        rows = self.guided._rows(*encoder.join(own, there))
        if not r.law or not r.guide.params:
            return rows, own.new_zeros(())
        error = (self.guided.law(own.flatten(2)) - params[:, None]).square().mean((1, 2))
        kept = (~broken).to(error.dtype)
        return rows, (error * kept).sum() / share.total(kept.sum()).clamp(min=1)


def disorder(frames: int, generator: torch.Generator) -> Tensor:
    """A random order of ``frames`` that is neither the right one nor that backwards."""
    right = torch.arange(frames)
    while True:
        order = torch.randperm(frames, generator=generator)
        if not (torch.equal(order, right) or torch.equal(order, right.flip(0))):
            return order


def _schedule(recipe: Recipe) -> dict[str, Any]:
    return {
        "steps": recipe.steps,
        "seed": recipe.seed,
        "rate": lambda step: cosine(step, recipe.steps, recipe.lr),
        "average": recipe.average,
        "clip_norm": 1.0,
        "batch": recipe.batch,
    }


def _groups(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": list(parameters), "weight_decay": 0.0}]


def _generator(recipe: Recipe, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(((recipe.seed + 1) << 32) + step)


def run(run: Run, tell: Callable[[Progress], None] = lambda progress: None) -> None:
    """Go on from the checkpoint in the run's folder, if there is one, to the end."""
    run.out.mkdir(parents=True, exist_ok=True)
    run.load()
    run.train(tell)
