"""Online learning of the heads: a few steps on examples, with or without GRCL and RMSCL.

    L(theta) = sum_n |d_n W_n (Y_n - sigmoid(D_theta(X_n)))|^2 + lambda |theta|^2

W_n evens out object and background; d_n says how much an example counts. Steps are Adam's, whose
moments go on from update to update.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from retain.models.object import head, importance, selection
from retain.models.object.importance import Bits
from retain.models.object.selection import Weights
from retain.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from retain.memory.examples import Examples
    from retain.models.object.features import Maps

Mode = Literal["none", "fifo", "grcl", "rmscl", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)

_FIRST, _SECOND, _TINY = 0.9, 0.99, 1e-8
"""Decay of Adam's moments, and what keeps its divisor from zero."""
SHOWN = 0.5
"""A mask that is nowhere likelier than that shows no object."""
_MOST = 40.0
"""How much more than an average pixel one of a small object can count."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How heads are trained.

    mode  ``none``: on the first frame only; ``fifo``: on the newest examples as well; ``grcl``,
          ``rmscl``, ``hybrid``: with gates, with selection, with both
    """

    mode: Mode = "hybrid"
    every: int = 5
    """Delta_C: frames between two updates."""
    first_steps: int = 60
    steps: int = 3
    """Per update."""
    first_rate: float = 0.02
    rate: float = 0.005
    decay: float = 1e-3
    """lambda."""
    anchor: float = 0.9
    """Share of the loss that the first frame has."""
    fade: float = 0.95
    """Of an example's weight per newer example, without selection."""
    most: int = 8
    """Examples of an update, with selection."""
    sparsity: float = 0.1
    """Of the lasso, of the least that makes all coefficients zero."""
    gates: int = 20
    """P: gates that are kept."""
    threshold: float = 0.5
    """h, in (0, 1)."""
    gamma: float = 1e6

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(
                f"There is no way to learn called {self.mode!r}.", hint=nearest(self.mode, MODES)
            )
        if not 0 < self.threshold < 1 or not 0 < self.anchor <= 1 or self.gates < 1:
            raise UsageError("threshold is in (0, 1), anchor in (0, 1], gates from 1.")

    @property
    def gated(self) -> bool:
        return self.mode in ("grcl", "hybrid")

    @property
    def selects(self) -> bool:
        return self.mode in ("rmscl", "hybrid")


@dataclass(frozen=True, slots=True)
class Learned:
    """The heads and all that goes on from one update to the next."""

    theta: Tensor
    """float32 [objects, size]."""
    first: Tensor
    """Adam's moments, of that shape."""
    second: Tensor
    count: int
    """Steps taken."""
    gates: Bits
    given: Tensor
    """The heads that knew the first frame only, of the shape of ``theta``."""


def untaught(objects: int, recipe: Recipe, seed: int = 0) -> Learned:
    """Heads that know nothing yet."""
    import torch

    zero = torch.zeros(objects, head.SIZE)
    gates = importance.no_gates(objects, recipe.gates, head.SIZE)
    theta = head.fresh(objects, seed)
    return Learned(theta, zero, zero.clone(), 0, gates, theta)


def teach_first(learned: Learned, examples: Examples, recipe: Recipe) -> Learned:
    """Learn the given masks, from examples that are all pinned."""
    weights = selection.balanced(examples.weight, examples.pinned, recipe.anchor)
    late = recipe.first_steps // 3
    early = _taught(
        learned, examples, weights, recipe, recipe.first_steps - late, recipe.first_rate
    )
    done = _taught(early, examples, weights, recipe, late, recipe.first_rate / 2)
    return replace(done, given=done.theta)


def teach(learned: Learned, examples: Examples, now: Tensor, recipe: Recipe) -> Learned:
    """One update. ``now``: the digest of the current frame, which selection goes by."""
    if recipe.selects:
        weights = selection.explained(examples.digest, now, recipe.sparsity, recipe.most)
    else:
        weights = selection.recent(examples.weight, examples.pinned, recipe.fade)
    weights = selection.balanced(weights, examples.pinned, recipe.anchor)
    return _taught(learned, examples, weights, recipe, recipe.steps, recipe.rate)


def _taught(
    learned: Learned,
    examples: Examples,
    weights: Weights,
    recipe: Recipe,
    steps: int,
    rate: float,
) -> Learned:
    """``steps`` of them on the examples with a weight, then the gate of what mattered."""
    import torch

    before = learned.theta
    held = importance.union(learned.gates, head.SIZE) if recipe.gated else None
    lessons = [
        (*examples.pair(n), float(weights[n]), bool(examples.pinned[n]))
        for n in np.flatnonzero(weights)
    ]
    for step in range(steps):
        slopes = list(gradients(learned.theta, lessons))
        slope = torch.stack(slopes).sum(0) + 2 * recipe.decay * learned.theta
        learned = _stepped(learned, slope, rate)
        if held is not None:
            theta = importance.hold(learned.theta, before, held, recipe.gamma, rate)
            learned = replace(learned, theta=theta)
            if step == steps - 1:
                matters = torch.stack(slopes).abs().mean(0)
                gate = importance.gate_of(matters, recipe.threshold)
                learned = replace(learned, gates=importance.remember(learned.gates, gate))
    return learned


Lesson = tuple["Maps", "Tensor", float, bool]
"""X, Y and d of one example, and whether Y is known for sure."""


def gradients(theta: Tensor, lessons: Sequence[Lesson]) -> Iterator[Tensor]:
    """The slope of each lesson's loss, [objects, size] like ``theta``."""
    import torch

    for maps, masks, weight, known in lessons:
        with torch.enable_grad():
            at = theta.detach().requires_grad_()
            loss = weight**2 * misfit(head.logits(at, maps).sigmoid(), masks, known)
            (slope,) = torch.autograd.grad(loss, at)
        yield slope


def misfit(found: Tensor, masks: Tensor, known: bool = True) -> Tensor:
    """Sum of W^2 (Y - D)^2 of masks [objects, h, w].

    The mean error on the object and that on the rest have equal say, but for a tiny object, whose
    pixels count at most ``_MOST`` times. Of a mask that is not ``known`` but predicted, each pixel
    counts as far as it is certain, and an object that it does not show teaches nothing.
    """
    share = masks.mean((1, 2), keepdim=True).clamp(1e-3, 1 - 1e-3)
    balance = (masks * (0.5 / share) + (1 - masks) * (0.5 / (1 - share))).clamp(max=_MOST)
    balance = balance / balance.sum((1, 2), keepdim=True)
    shown = masks.amax((1, 2), keepdim=True) >= SHOWN
    error = (masks - found).square()
    if not known:
        certain = (2 * masks - 1).abs()
        error = certain * (masks.round() - found).square()
    return (shown * balance * error).sum()


def _stepped(learned: Learned, slope: Tensor, rate: float) -> Learned:
    """Adam's step."""
    count = learned.count + 1
    first = learned.first * _FIRST + slope * (1 - _FIRST)
    second = learned.second * _SECOND + slope.square() * (1 - _SECOND)
    size = (second / (1 - _SECOND**count)).sqrt() + _TINY
    theta = learned.theta - rate * (first / (1 - _FIRST**count)) / size
    return replace(learned, theta=theta, first=first, second=second, count=count)
