"""What training runs share: steps that can be interrupted, an average of the weights, checkpoints
from which a run goes on bit for bit, and work on several processes (``models.distributed``)."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from retain.models import distributed, tensors
from retain.pipeline.errors import StateError, UsageError

CHECKPOINT = "checkpoint.safetensors"
T = TypeVar("T")
_HINT = "The training command writes it; a run in another folder begins anew."


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run tells after every step."""

    step: int
    steps: int
    loss: float
    rate: float
    seconds: float
    """Of this step."""


def cosine(step: int, steps: int, highest: float, warm: float = 0.1, lowest: float = 0.0) -> float:
    """Learning rate of ``step``: up over the first ``warm`` of all, then down along a cosine, to
    ``lowest`` times the ``highest``."""
    up = max(1, round(steps * warm))
    if step < up:
        return highest * (step + 1) / up
    share = 0.5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))
    return highest * (lowest + (1 - lowest) * share)


def groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, **more: float
) -> list[dict[str, Any]]:
    """Of an optimiser: matrices decay, vectors do not. ``more``: what holds for both."""
    every = list(parameters)
    return [
        {**more, "params": [p for p in every if p.dim() > 1], "weight_decay": weight_decay},
        {**more, "params": [p for p in every if p.dim() <= 1], "weight_decay": 0.0},
    ]


class Ahead(Generic[T]):
    """What ``draw(step)`` gives; the next step's is drawn while this one's is worked on."""

    def __init__(self, draw: Callable[[int], T], steps: int) -> None:
        self._draw, self._steps = draw, steps
        self._thread = ThreadPoolExecutor(1, "retain-batch")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        ready = self._next
        own = ready[1] if ready and ready[0] == step else self._thread.submit(self._draw, step)
        more = step + 1 < self._steps
        self._next = (step + 1, self._thread.submit(self._draw, step + 1)) if more else None
        return own.result()


class Run:
    """A run in ``out``; ``train`` goes on from the checkpoint there once ``load`` has found it.

    model      its parameters with gradients are trained
    groups     for AdamW; each with a ``scale`` its learning rate is multiplied by
    recipe     everything the run depends on, as JSON; a checkpoint of another is refused
    rate       learning rate of a step
    average    of the exponential moving average of the weights, which is what is kept
    clip_norm  of the gradient
    batch      rows of a step, which several processes share evenly (``self.share``, ``self.rows``);
               without it the run is refused on more than one
    """

    schema = "retain-training/1"
    """Of the checkpoint."""
    save_every = 100
    """Steps between two checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[dict[str, Any]],
        recipe: Mapping[str, Any],
        out: Path,
        *,
        steps: int,
        seed: int,
        rate: Callable[[int], float],
        average: float,
        clip_norm: float,
        batch: int | None = None,
    ) -> None:
        self.share = distributed.here()
        if batch is None and self.share.world > 1:
            raise UsageError("This network can be trained by one process only.")
        self.rows = self.share.rows(batch or 1)
        self.model, self.out, self.steps = model, out, steps
        self._recipe, self._seed, self._rate_of = dict(recipe), seed, rate
        self._keep, self._clip_norm = average, clip_norm
        self.average = {k: v.clone() for k, v in self._weights().items()}
        self.optimiser = torch.optim.AdamW([dict(group) for group in groups], rate(0), eps=1e-6)
        self.step = self.updates = 0

    def loss(self, step: int) -> Tensor:
        """Of one step, with gradients: this process's part, all parts adding up to the loss of the
        whole batch. The same for the same weights and step: draw from ``step`` alone (torch's seed
        is set from it), on every process what the whole batch needs."""
        raise NotImplementedError

    def work(self, step: int) -> float:
        """All that is done in a step; this process's part of its loss. A run whose steps have more
        than one update has its own."""
        loss = self.loss(step)
        self.update(loss)
        return float(loss.detach())

    def update(self, loss: Tensor) -> None:
        """Move the weights along the gradient of ``loss``, of which this process may have none."""
        self.optimiser.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        self.share.add_gradients(self._trained())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self.optimiser.step()
        self._follow()
        self.updates += 1

    def own(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What else the next step depends on, for the checkpoint: tensors, and JSON."""
        return {}, {}

    def take(self, kept: dict[str, Tensor], head: Mapping[str, Any]) -> None:
        """What ``own`` gave when the checkpoint was written."""

    def train(self, tell: Callable[[Progress], None]) -> None:
        """Until the last step. A KeyboardInterrupt or SIGTERM waits for the end of its step, on all
        processes, saves and goes on upwards; a second one does not wait, and leaves the last
        checkpoint as it is."""
        self.share.same(f"{_comparable(self._recipe)} {self.step}", self._weights())
        whole = True
        with patience(self.share.launched) as heard:
            try:
                while self.step < self.steps:
                    began = time.perf_counter()
                    whole = False
                    loss, rate = self._one()
                    self.step += 1
                    whole = True
                    loss, stop = self.share.settle(loss, bool(heard))
                    took = time.perf_counter() - began
                    tell(Progress(self.step, self.steps, loss, rate, took))
                    if stop:
                        raise KeyboardInterrupt
                    if self.step % self.save_every == 0:
                        self.save()
            finally:
                if whole:
                    self.save()
        self.share.wait()  # whoever goes on finds the checkpoint
        if heard:
            raise KeyboardInterrupt

    def _one(self) -> tuple[float, float]:
        # Every step draws from its own seed, so that a continued run sees what one run would have.
        torch.manual_seed((self._seed << 32) + self.step)
        rate = self._rate_of(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        return self.work(self.step), rate

    def _follow(self) -> None:
        """The average; younger than its memory it is a plain mean, so that it forgets the start."""
        rate = min(self._keep, (1 + self.updates) / (10 + self.updates))
        for name, value in self._weights().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - rate)
            else:
                self.average[name].copy_(value)

    @property
    def checkpoint(self) -> Path:
        return self.out / CHECKPOINT

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach() for k, v in self.model.state_dict().items()}

    def save(self) -> None:
        """Everything the next step depends on, atomically; by the first process alone."""
        if not self.share.first:
            return
        kept = {f"model/{k}": v for k, v in self._weights().items()}
        kept |= {f"average/{k}": v for k, v in self.average.items()}
        states = self.optimiser.state_dict()["state"]
        for index, name in enumerate(self._names()):
            state = states.get(index, {})
            kept |= {f"adam/{name}/{k}": torch.as_tensor(v) for k, v in state.items()}
        more, told = self.own()
        kept |= {f"own/{k}": v for k, v in more.items()}
        head = {**told, "recipe": self._recipe, "step": self.step, "updates": self.updates}
        tensors.write(self.checkpoint, kept, head, self.schema)

    def load(self) -> bool:
        """Continue from the checkpoint in ``out``; False when there is none. Raises StateError
        when it was made by another recipe."""
        path = self.checkpoint
        if not path.exists():
            return False
        kept, head = tensors.read(path, self.schema, _HINT)
        if _comparable(head.get("recipe", {})) != _comparable(self._recipe):
            raise StateError(
                f"{path} belongs to another recipe than this run's.",
                hint="Train into another folder, or give the options it was started with.",
            )

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model/"))
        self.average = {k: v.to(self.average[k].device) for k, v in part("average/").items()}
        state = self.optimiser.state_dict()
        found = {i: part(f"adam/{name}/") for i, name in enumerate(self._names())}
        state["state"] = {i: values for i, values in found.items() if values}
        self.optimiser.load_state_dict(state)
        self.step = int(head["step"])
        self.updates = int(head.get("updates", self.step))
        self.take(part("own/"), head)
        return True

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Those of another run's network, instead of the model's own."""
        self.model.load_state_dict(weights)
        self.average = {k: v.clone() for k, v in self._weights().items()}

    def _names(self) -> list[str]:
        """Parameter names in the optimiser's order."""
        named = {id(p): n for n, p in self.model.named_parameters()}
        return [named[id(p)] for p in self._trained()]

    def _trained(self) -> list[nn.Parameter]:
        """In the optimiser's order."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]


def averaged(out: Path) -> dict[str, Tensor]:
    """The averaged weights of the run in ``out``. Raises UsageError where there is none."""
    kept, _ = tensors.read(out / CHECKPOINT, Run.schema, _HINT)
    prefix = "average/"
    return {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}


@contextmanager
def patience(launched: bool = False) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are collected, for the end of a step, where they would have been heard at
    once; a second one does what it always did. ``launched``: no second one counts, as torchrun
    repeats every signal. Only in the main thread, to which signals belong."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    wanted = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: how for number, how in wanted.items() if callable(how)}

    def restore() -> None:
        for number, how in before.items():
            signal.signal(number, how)

    def hear(number: int, where: FrameType | None) -> None:
        heard.append(number)
        if not launched:
            restore()

    for number in before:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        restore()


def _comparable(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)
