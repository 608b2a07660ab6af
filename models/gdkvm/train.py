"""Training GDKVM on phantoms: deterministic, interruptible at any step, continued bit for bit."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from retain.datasets.echo.clip import LABELS
from retain.models.gdkvm import data, weights
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.draw import LENGTH
from retain.models.gdkvm.losses import clip_loss
from retain.models.gdkvm.network import Gdkvm, PerFrame
from retain.models.training import Progress, patience
from retain.pipeline.errors import StateError, UsageError

CHECKPOINT = "checkpoint.safetensors"


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
        """Learning rate of ``step``: up over the first tenth, then down along a cosine."""
        warm = max(1, self.steps // 10)
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


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


class Trainer:
    """A run in ``out``; ``train`` goes on from the checkpoint there, if there is one."""

    def __init__(self, recipe: Recipe, cache: data.ClipCache, out: Path, device: str) -> None:
        self.recipe, self.cache, self.out = recipe, cache, out
        self.device = torch.device(device)
        torch.manual_seed(recipe.seed)
        self.model = build(recipe).to(self.device).train()
        self.average = {k: v.clone() for k, v in self._weights().items()}
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, recipe.lr, weight_decay=recipe.weight_decay, eps=1e-6
        )
        self.step = 0
        self._drawing = ThreadPoolExecutor(1, "retain-batch")
        self._ahead: tuple[int, Future[data.Batch]] | None = None
        self._labels = [LABELS.index(name) + 1 for name in recipe.model.objects]

    def train(self, tell: Callable[[Progress], None], save_every: int = 100) -> None:
        """Until the last step. A KeyboardInterrupt waits for the end of its step, saves and goes
        on upwards; a second one does not wait, and leaves the last checkpoint as it is."""
        whole = True
        try:
            while self.step < self.recipe.steps:
                began = time.perf_counter()
                with patience():
                    whole = False
                    loss = self._one()
                    self.step += 1
                    whole = True
                took = time.perf_counter() - began
                tell(Progress(self.step, self.recipe.steps, loss, self._rate, took))
                if self.step % save_every == 0:
                    self.save()
        finally:
            if whole:
                self.save()

    def _one(self) -> float:
        r = self.recipe
        batch = self._batch()
        # Every step draws from its own seed, so that a continued run sees what one run would have.
        torch.manual_seed((r.seed << 32) + self.step)
        keep = (torch.rand(r.batch, r.length) >= r.mask_dropout).float().to(self.device)
        self._rate = r.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate
        target = data.only_objects(batch.target, self._labels).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            outs = self.model(batch.clip.to(self.device), keep)
        frames = list(range(r.length)) if r.labels == "all" else [0, r.length - 1]
        loss = clip_loss(outs, target, frames, r.model, r.points, r.area)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), r.clip_norm)
        self.optimiser.step()
        self._follow()
        return float(loss.detach())

    def _batch(self) -> data.Batch:
        """Of this step; the next one's is drawn while this one is worked on."""
        r = self.recipe

        def draw(step: int) -> Future[data.Batch]:
            return self._drawing.submit(
                data.batch,
                self.cache,
                step,
                seed=r.seed,
                size=r.batch,
                length=r.length,
                corruption=r.corruption,
            )

        ready = self._ahead
        future = ready[1] if ready and ready[0] == self.step else draw(self.step)
        self._ahead = (self.step + 1, draw(self.step + 1)) if self.step + 1 < r.steps else None
        return future.result()

    def _follow(self) -> None:
        """The average; younger than its memory it is a plain mean, so that it forgets the start."""
        rate = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for name, value in self._weights().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - rate)
            else:
                self.average[name].copy_(value)

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach() for k, v in self.model.state_dict().items()}

    def averaged(self) -> Gdkvm:
        """The network that is kept, ready to use."""
        model = build(self.recipe).to(self.device)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self) -> None:
        """Everything the next step depends on, atomically."""
        tensors = {f"model/{k}": v for k, v in self._weights().items()}
        tensors |= {f"average/{k}": v for k, v in self.average.items()}
        names = [n for group in self._names() for n in group]
        states = self.optimiser.state_dict()["state"]
        for index, name in enumerate(names):
            state = states.get(index, {})
            tensors |= {f"adam/{name}/{k}": torch.as_tensor(v) for k, v in state.items()}
        head = {"recipe": self.recipe.as_json(), "step": self.step}
        weights.write(self.out / CHECKPOINT, tensors, head)

    def load(self) -> bool:
        """Continue from the checkpoint in ``out``; False when there is none. Raises StateError
        when it was made by another recipe."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        tensors, head = weights.read(path)
        if _comparable(head.get("recipe", {})) != _comparable(self.recipe.as_json()):
            raise StateError(
                f"{path} belongs to another recipe than this run's.",
                hint="Train into another folder, or give the options it was started with.",
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model/"))
        self.average = {k: v.to(self.device) for k, v in part("average/").items()}
        state = self.optimiser.state_dict()
        names = [n for group in self._names() for n in group]
        found = {i: part(f"adam/{name}/") for i, name in enumerate(names)}
        state["state"] = {i: values for i, values in found.items() if values}
        self.optimiser.load_state_dict(state)
        self.step = int(head["step"])
        return True

    def _names(self) -> list[list[str]]:
        """Parameter names in the optimiser's order."""
        named = {id(p): n for n, p in self.model.named_parameters()}
        return [[named[id(p)] for p in group["params"]] for group in self.optimiser.param_groups]


def _comparable(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)


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
    cache = data.phantoms(cache_folder, recipe.clips, recipe.model.grid, 1_000_000, drawn)
    trainer = Trainer(recipe, cache, out, device)
    if not trainer.load() and init is not None:
        weights.take_over(trainer.model, init)
        trainer.average = {k: v.clone() for k, v in trainer._weights().items()}
    trainer.train(tell)
    model = trainer.averaged()
    weights.save(out / "weights.safetensors", model, {"recipe": recipe.as_json()})
    return model
