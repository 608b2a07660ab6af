"""Who remembers what without training, and layers as memories of streams."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from layer_parts import LAYERS, SIZE, tokens

from retain.memory.layers.base import Layer
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached
from retain.memory.layers.kalman import Kalman
from retain.memory.layers.memory import FrameWrite, LayerMemory
from retain.memory.layers.recall import associative_recall
from retain.memory.layers.token_delta import TokenDelta

D = 32
DELTA = TokenDelta(1, D, D)
PAIRS = (8, 16, 32, 64, 128, 256)
KNOWN = {
    "linear": (BlockLinear(1, D, D, normalise=False), (0.902, 0.830, 0.707, 0.580, 0.447, 0.334)),
    "delta": (DELTA, (0.929, 0.860, 0.664, 0.454, 0.243, 0.125)),
    "kalman": (Kalman(1, D, D), (0.999, 0.993, 0.910, 0.697, 0.496, 0.352)),
    "grm": (Cached(DELTA, 16, 16), (0.929, 0.860, 0.739, 0.669, 0.558, 0.456)),
    "ssc": (Cached(DELTA, 16, 16, "ssc"), (0.929, 0.860, 0.739, 0.645, 0.518, 0.395)),
}
"""Mean cosines of a separate study of the same rules, eight seeds."""


@functools.cache
def score(name: str, pairs: int) -> float:
    return associative_recall(KNOWN[name][0], pairs, seeds=24)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_recall_is_as_known(name: str) -> None:
    _, wanted = KNOWN[name]
    found = [score(name, pairs) for pairs in PAIRS]
    assert found == pytest.approx(wanted, abs=0.03)


def test_below_its_capacity_the_regression_wins_and_far_above_the_cache() -> None:
    assert max(KNOWN, key=lambda name: score(name, 16)) == "kalman"
    assert max(KNOWN, key=lambda name: score(name, 256)) == "grm"


def item(seed: int = 0) -> FrameWrite:
    clip = tokens(batch=1, frames=1, count=4, seed=seed).map(torch.Tensor.float)
    return FrameWrite(clip.k[0, 0], clip.v[0, 0], clip.beta[0, 0], clip.g[0, 0])


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_closed_gate_writes_nothing_and_an_open_one_all(name: str) -> None:
    layer: Layer = LAYERS[name]()
    memory, query = LayerMemory(layer), item(9).k
    memory.write("s", item(1))
    before = memory.read("s", query)
    memory.write("s", item(2), gate=0.0)
    assert torch.equal(memory.read("s", query), before)
    assert memory.stats("s")["frames"] == 1
    memory.write("s", item(2))
    assert not torch.equal(memory.read("s", query), before)
    assert memory.read("s", query).shape == (4, SIZE.heads, SIZE.value_dim)


def test_frames_that_could_break_a_state_are_refused() -> None:
    memory, good = LayerMemory(LAYERS["frame-delta"]()), item()
    memory.write("s", good)
    before = memory.snapshot("s").tensors["s"]
    for bad in (
        replace(good, k=1.1 * good.k / good.k.norm(dim=-1, keepdim=True)),
        replace(good, k=torch.full_like(good.k, torch.nan)),
        replace(good, v=torch.full_like(good.v, torch.inf)),
        replace(good, beta=good.beta + 1),
        replace(good, beta=-good.beta),
        replace(good, g=good.g + 1),
        FrameWrite(good.k[:0], good.v[:0], good.beta[:0], good.g),
    ):
        with pytest.raises(ValueError, match="a frame needs"):
            memory.write("s", bad)
    with pytest.raises(ValueError, match="v is"):
        memory.write("s", replace(good, v=good.k))
    with pytest.raises(ValueError, match="gate"):
        memory.write("s", good, gate=1.5)
    assert (memory.snapshot("s").tensors["s"] == before).all()


def test_hundreds_of_alike_frames_stay_bounded() -> None:
    """A still picture: the same strong frame again and again, without decay."""
    clip = tokens(batch=1, frames=1, count=16, seed=0).map(torch.Tensor.float)
    still = FrameWrite(
        clip.k[0, 0, :1].expand(16, -1, -1), clip.v[0, 0, :1].expand(16, -1, -1),
        torch.ones(16, SIZE.heads), torch.zeros(SIZE.heads),
    )  # fmt: skip
    memory = LayerMemory(LAYERS["frame-delta"]())
    for _ in range(500):
        memory.write("s", still)
    torch.testing.assert_close(memory.read("s", still.k), still.v * 4, rtol=1e-4, atol=1e-5)
