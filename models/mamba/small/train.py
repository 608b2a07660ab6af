"""Training the small detector on procedural videos: deterministic, interruptible, continued."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.datasets.detect.objects_kinds import NAMES
from retain.models import distributed
from retain.models.distributed_norm import share_norms
from retain.models.mamba.small import data, weights
from retain.models.mamba.small.losses import Target, loss
from retain.models.mamba.small.network import FROZEN, Network, grid, pretrained
from retain.models.training import Ahead, Progress, Run, averaged, cosine, groups
from retain.pipeline.errors import UsageError

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run depends on. Raises UsageError for values that cannot work."""

    steps: int = 3600
    batch: int = 8
    lr: float = 2e-3
    backbone: float = 0.25
    """Of ``lr``, for what ImageNet has taught already."""
    weight_decay: float = 1e-2
    clip_norm: float = 10.0
    average: float = 0.998
    """Of the exponential moving average of the weights, which is what is kept."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2:
            raise UsageError("The recipe's steps are from 1, its batch from 2.")


class Trainer(Run):
    """A run in ``out``."""

    def __init__(self, recipe: Recipe, out: Path, device: str = "cpu") -> None:
        self.recipe, self._device = recipe, torch.device(device)
        torch.manual_seed(recipe.seed)
        network = Network(len(NAMES))
        pretrained(network.backbone)
        network.backbone.blocks[:FROZEN].requires_grad_(False)
        if distributed.here().world > 1:
            share_norms(network)
        network = network.to(self._device).to(memory_format=torch.channels_last).train()
        self.network = network
        super().__init__(
            network,
            _groups(network, recipe),
            asdict(recipe),
            out,
            steps=recipe.steps,
            seed=recipe.seed,
            rate=lambda step: cosine(step, recipe.steps, recipe.lr, 0.05),
            average=recipe.average,
            clip_norm=recipe.clip_norm,
            batch=recipe.batch,
        )
        self._squares = grid(240, 320)[0].to(self._device)
        draw = partial(data.batch, seed=recipe.seed, size=recipe.batch)
        self._batch = Ahead(draw, recipe.steps)

    def loss(self, step: int) -> Tensor:
        batch = self._batch(step)
        pixels = self.share.own(batch.pixels).to(self._device).float()
        rows = self.network(pixels.contiguous(memory_format=torch.channels_last))
        targets = [
            Target(*(x.to(self._device) for x in (one.boxes, one.labels, one.ignored)))
            for one in batch.targets[self.rows]
        ]
        return loss(self.network.decide(rows), self._squares, targets, self.share)

    def averaged(self) -> Network:
        """The network that is kept, ready to use."""
        network = Network(len(NAMES)).to(self._device)
        network.load_state_dict(self.average)
        return network.eval()


def _groups(network: Network, recipe: Recipe) -> list[dict[str, Any]]:
    """Backbone and the rest, each with and without decay."""
    found: list[dict[str, Any]] = []
    for own, scale in ((True, recipe.backbone), (False, 1.0)):
        trained = [
            p
            for name, p in network.named_parameters()
            if p.requires_grad and name.startswith("backbone.") == own
        ]
        found += groups(trained, recipe.weight_decay, scale=scale)
    return found


def run(
    recipe: Recipe,
    out: Path,
    *,
    device: str = "cpu",
    tell: Callable[[Progress], None] = lambda progress: None,
    init: Path | None = None,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Train to the end and write ``out``/weights.safetensors; its path.

    ``init``: folder of a run whose averaged network to start from. ``made``: anything more worth
    knowing of how, for the header.
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, out, device)
    if not trainer.load() and init is not None:
        trainer.start_from(averaged(init))
    trainer.train(tell)
    head = {**(made or {}), "recipe": asdict(recipe)}
    if trainer.share.first:
        weights.save(out / WEIGHTS, trainer.averaged(), NAMES, head)
    return out / WEIGHTS
