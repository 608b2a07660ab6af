"""Flow matching over clips: the loss, the sampler, and how new something is to a model.

x(s) = (1 - s) x0 + s e with noise e; the target is e - x0 (rectified flow, arXiv 2209.03003; times
shifted towards noise as in Wan2.1). Frames that are given are never noised and have no loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from retain.models.distributed import ALONE, Share
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.inject import MemoryRows

SHIFT = 3.0
LEVELS = (0.3, 0.5, 0.7, 0.85)
"""Times at which novelty is measured."""


def shifted(u: Tensor) -> Tensor:
    """Even times ``u`` in 0..1, moved towards 1."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def contexts(clips: int, frames: int, generator: torch.Generator) -> Tensor:
    """Which frames are given, bool [clips, frames]: half of the times the first two (predict),
    else each with probability 0.3 and the first in any case (fill in)."""
    some = torch.rand(clips, frames, generator=generator) < 0.3
    some[:, 0] = True
    some[:, -1] &= ~some.all(1)
    first = torch.arange(frames) < 2
    return torch.where(torch.rand(clips, 1, generator=generator) < 0.5, first, some)


def losses(
    model: VideoDit,
    frames: Tensor,
    given: Tensor,
    s: Tensor,
    noise: Tensor,
    memory: MemoryRows | None = None,
) -> Tensor:
    """Squared error of the velocity per clip, [B], over the frames that are not ``given``.

    ``frames`` [B, T, C, H, W] in 0..1, ``given`` bool [B, T] (not all), ``s`` [B], ``noise`` as
    frames.
    """
    x = frames * 2 - 1
    at = s[:, None, None, None, None]
    found: Tensor = model((1 - at) * x + at * noise, s, x, given, memory)
    error: Tensor = (found - (noise - x)).square().mean((2, 3, 4))
    free = (~given).to(error.dtype)
    of_free: Tensor = (error * free).sum(1) / free.sum(1)
    return of_free


def flow_loss(
    model: VideoDit,
    frames: Tensor,
    generator: torch.Generator,
    memory: MemoryRows | None = None,
    share: Share = ALONE,
) -> Tensor:
    """Mean loss at random times, noise and contexts drawn from ``generator`` (on the CPU).

    ``share``: of the batch that ``frames`` are; the parts' losses add up.
    """
    clips = share.world * len(frames)  # drawn for all, as by one process
    given = share.own(contexts(clips, frames.shape[1], generator)).to(frames.device)
    s = shifted(share.own(torch.rand(clips, generator=generator))).to(frames)
    drawn = torch.randn((clips, *frames.shape[1:]), generator=generator)
    noise = share.own(drawn).to(frames)
    return losses(model, frames, given, s, noise, memory).mean() / share.world


@torch.no_grad()
def sample(
    model: VideoDit,
    frames: Tensor,
    given: Tensor,
    memory: MemoryRows | None = None,
    *,
    steps: int = 12,
    generator: torch.Generator,
) -> Tensor:
    """A clip that agrees with the ``given`` frames, [B, T, C, H, W] in 0..1, by Euler's steps.

    What ``frames`` shows where nothing is given is not read.
    """
    known = given[:, :, None, None, None]
    clean = torch.where(known, frames * 2 - 1, 0.0)
    x = torch.randn(frames.shape, generator=generator).to(frames)
    times = shifted(torch.linspace(1, 0, steps + 1)).tolist()
    for now, then in pairwise(times):
        s = frames.new_full(frames.shape[:1], now)
        x = x + (then - now) * model(x, s, clean, given, memory)
    return torch.where(known, frames, ((x + 1) / 2).clamp(0, 1))


@torch.no_grad()
def surprise(
    model: VideoDit,
    frames: Tensor,
    given: Tensor,
    memory: MemoryRows | None = None,
    *,
    levels: Sequence[float] = LEVELS,
    generator: torch.Generator,
) -> Tensor:
    """How badly the model foresees the frames that are not ``given``: mean loss per clip, [B].

    With and without memory from generators of one seed, the difference is the novelty: what the
    references do not explain.
    """
    total = frames.new_zeros(len(frames))
    for level in levels:
        noise = torch.randn(frames.shape, generator=generator).to(frames)
        total += losses(model, frames, given, frames.new_full((len(frames),), level), noise, memory)
    return total / len(levels)
