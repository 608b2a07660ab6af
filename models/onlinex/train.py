"""Training on procedural rooms: relative geometry alone, then sequences, then longer ones.

The first stage leaves the global part as it is, so all rows of the study share it. Runs are
deterministic and go on bit for bit from a checkpoint (``models.training.Run``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.models.onlinex import losses
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.fusion import Fused
from retain.models.onlinex.losses import Weights
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Batch, Pool, SceneConfig
from retain.models.onlinex.types import Maps, Out, inverse, transform
from retain.models.training import Progress, Run, groups
from retain.pipeline.errors import UsageError

SHARES = (0.2, 0.6, 0.2)
"""Of a run's time, by stage."""
_SECOND = 5_000_000
"""Steps of sequences draw from seeds above, as if so many pairs had been before."""
_MEASURED = 3
"""Steps of each stage from which the length of a run is told."""
_LATER = ("middle", "long", "late_lr", "window", "targets")
"""Of a recipe: what the first stage does not depend on."""
_HALVED = ("encoder", "relative", "director", "readout")
"""Parts that compute in bfloat16 on CUDA. Poses and heads do not: half a centimetre is lost there
at arm's length."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Of a curriculum: ``steps`` with ``batch`` sequences of ``frames`` (least, most)."""

    steps: int
    batch: int
    frames: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a run depends on. Raises UsageError for values that cannot work."""

    model: OnlineXConfig = field(default_factory=OnlineXConfig.tiny)
    scenes: SceneConfig = field(default_factory=SceneConfig)
    pairs: Stage = Stage(340, 3, (4, 4))
    middle: Stage = Stage(300, 2, (4, 8))
    long: Stage = Stage(60, 1, (8, 15))
    """With fusion, where the model has it."""
    window: int = 8
    """Frames through which gradients go back."""
    targets: int = 4
    """Views of a sequence that are drawn and judged."""
    lr: float = 1e-3
    """Of pairs, at its highest."""
    late_lr: float = 5e-4
    """Of sequences."""
    floor: float = 1e-5
    warm: int = 30
    """Steps, of pairs and of sequences."""
    decay: float = 0.05
    average: float = 0.99
    weights: Weights = field(default_factory=Weights)
    seed: int = 0

    def __post_init__(self) -> None:
        for stage in (self.pairs, self.middle, self.long):
            low, high = stage.frames
            if min(stage.steps, stage.batch) < 1 or not 2 <= low <= high:
                raise UsageError("A stage needs steps, a batch and two frames or more.")
        if self.model.side != self.scenes.side:
            raise UsageError(
                f"The network sees {self.model.side} pixels, the rooms have {self.scenes.side}."
            )
        if not min(self.lr, self.late_lr) > 0 or min(self.window, self.targets, self.warm) < 1:
            raise UsageError("A recipe needs lr, window, targets and warm above 0.")

    def rate(self, step: int, steps: int, highest: float) -> float:
        """Of a step: up in a line, down along a cosine."""
        along = 0.5 * (1 + math.cos(math.pi * step / steps))
        return (self.floor + (highest - self.floor) * along) * min(1.0, (step + 1) / self.warm)


def recipe(size: str) -> Recipe:
    """``tiny``: 64 pixels, for a CPU. ``small``: 128 pixels, for a GPU; never trained yet."""
    if size == "tiny":
        return Recipe()
    if size == "small":
        return Recipe(
            OnlineXConfig.small(),
            SceneConfig(side=128, rooms=512),
            Stage(1000, 96, (2, 2)), Stage(3000, 24, (4, 8)), Stage(1000, 12, (8, 15)),
            lr=3e-4, late_lr=2e-4, warm=300, average=0.999,
        )  # fmt: skip
    raise UsageError(f"There is no size {size!r} of this network.", hint="tiny or small.")


class PairRun(Run):
    """The relative part alone, on short sequences."""

    def __init__(self, recipe: Recipe, pool: Pool, out: Path, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        recipe = replace(recipe, model=replace(recipe.model, director="none", fusion=False))
        self.net = mixed(OnlineX(recipe.model).to(device))
        self.recipe, self.pool, self.device = recipe, pool, device
        own = {k: v for k, v in asdict(recipe).items() if k not in _LATER}
        super().__init__(
            self.net, groups(self.net.parameters(), recipe.decay), own, out,
            steps=recipe.pairs.steps, seed=recipe.seed, average=recipe.average, clip_norm=1.0,
            rate=lambda step: recipe.rate(step, recipe.pairs.steps, recipe.lr),
        )  # fmt: skip

    def loss(self, step: int) -> Tensor:
        batch = _drawn(self.recipe, self.pool, self.recipe.pairs, step).to(self.device)
        return pair_loss(self.net, batch, self.recipe.weights)


class SequenceRun(Run):
    """Everything, from where ``PairRun`` left the relative part."""

    def __init__(self, recipe: Recipe, pool: Pool, out: Path, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.net = mixed(OnlineX(recipe.model).to(device))
        self.recipe, self.pool, self.device = recipe, pool, device
        steps = recipe.middle.steps + recipe.long.steps
        super().__init__(
            self.net, groups(self.net.parameters(), recipe.decay), asdict(recipe), out,
            steps=steps, seed=recipe.seed, average=recipe.average, clip_norm=1.0,
            rate=lambda step: recipe.rate(step, steps, recipe.late_lr),
        )  # fmt: skip

    def loss(self, step: int) -> Tensor:
        r = self.recipe
        late = step >= r.middle.steps
        batch = _drawn(r, self.pool, r.long if late else r.middle, _SECOND + step)
        chosen = np.random.default_rng([r.seed, step, 0x7A6]).permutation(
            2 * batch.images.shape[1] - 1
        )[: r.targets]
        return sequence_loss(
            self.net, batch.to(self.device), r.weights,
            targets=chosen.tolist(), window=r.window, fused=late and r.model.fusion,
        )  # fmt: skip

    def begin_from(self, weights: dict[str, Tensor]) -> None:
        """Those of the parts that this network has in common with ``weights``."""
        own = self.net.state_dict()
        self.start_from({k: weights.get(k, v) for k, v in own.items()})


def pair_loss(net: OnlineX, batch: Batch, weights: Weights) -> Tensor:
    """What is said in the frame of the camera before, over all frames."""
    state = net.begin(len(batch.images))
    total = batch.images.new_zeros(())
    frames = batch.images.shape[1]
    for t in range(frames):
        out, state = net.step(batch.images[:, t], batch.K, state)
        total = total + relative_loss(out, batch, t, weights)
    return total / frames


def sequence_loss(
    net: OnlineX,
    batch: Batch,
    weights: Weights,
    *,
    targets: list[int],
    window: int,
    fused: bool,
) -> Tensor:
    """``L_global + relative * L_relative``, the mean over frames; the ``targets`` (numbers among
    the frames, then the views between them) are drawn from all Gaussians together."""
    state, total = net.begin(len(batch.images)), batch.images.new_zeros(())
    known: Fused | None = None
    maps: list[Maps] = []
    frames = batch.images.shape[1]
    for t in range(frames):
        if t and t % window == 0:
            state = state.detach()
        out, state = net.step(batch.images[:, t], batch.K, state)
        total = total + weights.relative * relative_loss(out, batch, t, weights)
        total = total + global_loss(out, batch, t, weights)
        if fused:
            known = net.fuse(known, out)
        else:
            maps.append(out.global_)
    scene = together(maps) if known is None else net.scene(known)
    views = [torch.cat(pair, 1) for pair in (
        (batch.clean, batch.between.images), (batch.c2w, batch.between.c2w),
        (batch.labels, batch.between.labels),
    )]  # fmt: skip
    images, c2w, labels = (view[:, targets] for view in views)
    drawn = losses.render(scene, batch.K, c2w, net.config.side)
    return total / frames + losses.view_loss(drawn, images, labels, weights)


def relative_loss(out: Out, batch: Batch, t: int, weights: Weights) -> Tensor:
    """Of frame ``t`` in the frame of camera t - 1 (of its own, for the first): pose, shape, and
    what is seen of its Gaussians from between the two."""
    home = inverse(batch.c2w[:, max(t - 1, 0)])
    c2w = home @ batch.c2w[:, t]
    total = _shape(out.relative, batch, t, c2w, weights)
    seen, at = batch.seen, t
    if t:
        total = total + weights.pose * losses.pose_error(out.relative_pose, c2w).mean()
        seen, at = batch.between, t - 1
    view = (home @ seen.c2w[:, at])[:, None]
    drawn = losses.render(out.relative, batch.K, view, batch.images.shape[-1])
    images, labels = seen.images[:, at : at + 1], seen.labels[:, at : at + 1]
    return total + losses.view_loss(drawn, images, labels, weights)


def global_loss(out: Out, batch: Batch, t: int, weights: Weights) -> Tensor:
    """Of frame ``t`` in the frame of the first camera: pose and shape."""
    c2w = batch.c2w[:, t]
    pose = losses.pose_error(out.pose, c2w).mean() if t else 0.0
    return weights.pose * pose + _shape(out.global_, batch, t, c2w, weights)


def _shape(maps: Maps, batch: Batch, t: int, c2w: Tensor, weights: Weights) -> Tensor:
    stride = batch.depth.shape[-1] // math.isqrt(maps.centres.shape[1])
    true = transform(c2w, losses.points(batch.depth[:, t], batch.K, stride))
    return losses.shape_loss(maps, true, c2w[:, :3, 3], weights)


def together(maps: list[Maps]) -> Maps:
    """All Gaussians of several maps, [B, sum n, ...]."""
    return Maps(*(torch.cat([getattr(m, name) for m in maps], 1) for name in Maps.__slots__))


def mixed(net: OnlineX) -> OnlineX:
    """``net``, its transformers in bfloat16 where they are on CUDA."""
    if next(net.parameters()).device.type == "cuda":
        for name in _HALVED:
            part = getattr(net, name)
            if part is not None:
                part.forward = _half(part.forward)
    return net


def _half(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*given: Tensor) -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            out = forward(*given)
        return out.float() if isinstance(out, Tensor) else tuple(part.float() for part in out)

    return run


def _drawn(recipe: Recipe, pool: Pool, stage: Stage, step: int) -> Batch:
    """Of a step counted through all stages."""
    seed = recipe.seed * 10_000_000 + step
    low, high = stage.frames
    frames = int(np.random.default_rng([seed, 0x1E6]).integers(low, high + 1))
    return pool.draw(stage.batch, frames, seed)


def timed(recipe: Recipe, pool: Pool, minutes: float, device: str = "cpu") -> Recipe:
    """``recipe`` with as many steps of each stage as take its share of ``minutes`` here, told from
    a few steps of each: CPU time of this process, or the clock's on CUDA."""
    runs = PairRun(recipe, pool, Path(), device), SequenceRun(recipe, pool, Path(), device)
    starts = (runs[0], 0), (runs[1], 0), (runs[1], recipe.middle.steps)
    counts = []
    for (run, start), share in zip(starts, SHARES, strict=True):
        took = min(_seconds(run, start + i, device) for i in range(_MEASURED))
        counts.append(max(1, round(60 * minutes * share / took)))
    stages = (recipe.pairs, recipe.middle, recipe.long)
    pairs, middle, long = (replace(s, steps=n) for s, n in zip(stages, counts, strict=True))
    return replace(recipe, pairs=pairs, middle=middle, long=long)


def _seconds(run: Run, step: int, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    loss = run.loss(step)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    run.optimiser.step()
    float(loss.detach())  # waits for the device
    return clock() - began


def run(run: Run, tell: Callable[[Progress], None] = lambda progress: None) -> None:
    """Go on from the checkpoint in the run's folder, if there is one, to the end."""
    run.out.mkdir(parents=True, exist_ok=True)
    run.load()
    run.train(tell)
