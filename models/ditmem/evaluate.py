"""How well a guided backbone follows a world's law, on worlds it has never seen.

Conditions differ in what the memory is shown: references of the right world, of a wrong one, of the
right one with their frames in another order, or nothing. All see the same two frames and the same
noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.datasets.worlds.config import Kind, WorldConfig
from retain.datasets.worlds.draw import Clips, draw
from retain.datasets.worlds.metrics import read
from retain.models.ditmem import flow
from retain.models.ditmem.guided import Guided
from retain.models.ditmem.inject import MemoryRows

Shown = Literal["none", "right", "wrong", "shuffled"]
SHOWN: tuple[Shown, ...] = get_args(Shown)
GIVEN = 2
SAMPLES, STEPS = 6, 12
ORDER = (3, 6, 0, 5, 1, 7, 2, 4)
"""Of the frames of references that are shuffled; of longer clips the rest follows."""

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """Per world, [W]: mean distance in pixels of objects from where they should be."""

    single: Scores
    """Of one sample, the mean over samples."""
    mean: Scores
    """Of the mean of all samples."""


@dataclass(frozen=True, slots=True)
class Test:
    """Worlds to judge by."""

    frames: Tensor
    """[W, T, 1, S, S]: clips to be continued."""
    centres: Tensor
    """[W, T, N, 2]."""
    references: Tensor
    """[W, K, T, 1, S, S]."""
    params: Tensor
    """[W, P]."""
    other: Tensor
    """[W, T, 1, S, S]: the same beginnings, continued by another world's law."""
    kind: Kind = "ball"


def unseen(config: WorldConfig, worlds: int, references: int, seed: int) -> Test:
    """``worlds`` of the split ``config`` names."""

    def tensors(clips: Clips) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(clips.frames), torch.from_numpy(clips.centres)

    made = draw(config, worlds, 1 + references, seed)
    frames, places = tensors(made)
    other, _ = tensors(draw(config, worlds, 1, seed, laws_seed=seed + 1))
    return Test(
        frames[:, 0],
        places[:, 0],
        frames[:, 1:],
        torch.from_numpy(made.params),
        other[:, 0],
        config.kind,
    )


def memory(
    guided: Guided, test: Test, shown: Shown, scale: tuple[Tensor, Tensor]
) -> MemoryRows | None:
    """What ``guided`` remembers of what it is shown. ``scale``: mean and deviation of params."""
    if shown == "none" or guided.config.source == "none":
        return None
    if guided.config.source == "oracle":
        params = test.params.roll(1, 0) if shown == "wrong" else test.params
        return guided.told((params - scale[0]) / scale[1])
    clips = test.references
    if shown == "wrong":
        clips = clips.roll(1, 0)
    if shown == "shuffled":
        order = [t for t in ORDER if t < clips.shape[2]] + list(range(len(ORDER), clips.shape[2]))
        clips = clips[:, :, order]
    return guided.rows(clips)


def given(test: Test) -> Tensor:
    """The first two frames, bool [W, T]."""
    return (torch.arange(test.frames.shape[1]) < GIVEN).expand(test.frames.shape[:2])


@torch.no_grad()
def judge(
    guided: Guided, test: Test, rows: MemoryRows | None, samples: int = SAMPLES, seed: int = 0
) -> Judged:
    """Continue every clip ``samples`` times and read where its objects are."""
    found = []
    for k in range(samples):
        generator = torch.Generator().manual_seed(seed + k)
        clips = flow.sample(
            guided.dit, test.frames, given(test), rows, steps=STEPS, generator=generator
        )
        found.append(places(test.kind, clips))
    truth = test.centres.numpy()[:, GIVEN:]
    single = np.mean([_distance(one, truth) for one in found], 0)
    return Judged(single, _distance(np.mean(found, 0), truth))


def places(kind: Kind, clips: Tensor) -> Scores:
    """Centres [W, T - 2, N, 2] in the frames not given; the middle for an object that is not there,
    so that a mean of samples has a place (``metrics.scores`` counts it as half a side away)."""
    found = np.asarray(read(kind, clips.numpy()), np.float64)[:, GIVEN:]
    return np.where(np.isnan(found), clips.shape[-1] / 2, found)


def _distance(found: Scores, truth: Scores) -> Scores:
    return np.asarray(np.linalg.norm(found - truth, axis=-1).mean((-2, -1)))


@torch.no_grad()
def novelty(
    guided: Guided, test: Test, rows: MemoryRows | None, draws: int = 4, seed: int = 0
) -> tuple[Scores, Scores]:
    """Surprise with and without memory, less the latter: of the true futures and of those of
    another world, [W] each."""

    def score(frames: Tensor) -> Scores:
        total = torch.zeros(len(frames))
        for k in range(draws):
            for sign, memory in ((1, rows), (-1, None)):
                generator = torch.Generator().manual_seed(seed + k)
                total += sign * flow.surprise(
                    guided.dit, frames, given(test), memory, generator=generator
                )
        return (total / draws).double().numpy()

    return score(test.frames), score(test.other)


@torch.no_grad()
def filled(guided: Guided, test: Test, rows: MemoryRows | None, seed: int = 0) -> dict[str, Scores]:
    """Every other frame dropped and filled in: squared error of its pixels, [W]. ``linear``: the
    mean of the frames on both sides."""
    kept = (torch.arange(test.frames.shape[1]) % 2 == 0).expand(test.frames.shape[:2])
    inner = ~kept[0]
    inner[-1] = False  # the last has nothing after it to interpolate with

    def error(clips: Tensor) -> Scores:
        return (clips - test.frames)[:, inner].square().mean((1, 2, 3, 4)).double().numpy()

    between = (test.frames.roll(1, 1) + test.frames.roll(-1, 1)) / 2
    out = {"linear": error(between)}
    for name, memory in (("none", None), ("right", rows)):
        drawn = []
        for k in range(SAMPLES):
            generator = torch.Generator().manual_seed(seed + k)
            drawn.append(
                flow.sample(guided.dit, test.frames, kept, memory, steps=STEPS, generator=generator)
            )
        out[name] = error(torch.stack(drawn).mean(0))
    return out


def auc(usual: Scores, odd: Scores) -> float:
    """Chance that one of ``odd`` scores above one of ``usual``, ties half."""
    above = (odd[:, None] > usual[None]).mean() + 0.5 * (odd[:, None] == usual[None]).mean()
    return float(above)
