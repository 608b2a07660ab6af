"""Memory layers of a small size, and clips for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from retain.memory.layers.base import Frame, Layer, LayerState
from retain.memory.layers.block_linear import BlockLinear
from retain.memory.layers.cached import Cached
from retain.memory.layers.frame_delta import FrameDelta
from retain.memory.layers.kalman import Kalman
from retain.memory.layers.mixture import Mixture
from retain.memory.layers.token_delta import TokenDelta


class Size(NamedTuple):
    heads: int
    key_dim: int
    value_dim: int


SIZE, MANY = Size(2, 8, 6), 3
BATCH, FRAMES, TOKENS = 3, 11, 5
EXACT = {"rtol": 1e-9, "atol": 1e-10}


def router() -> Tensor:
    rng = torch.Generator().manual_seed(11)
    return torch.randn(MANY, SIZE.heads, SIZE.key_dim, generator=rng, dtype=torch.float64)


LAYERS: dict[str, Callable[[], Layer]] = {
    "block-linear": lambda: BlockLinear(*SIZE, normalise=False),
    "block-linear-normalised": lambda: BlockLinear(*SIZE),
    "frame-delta": lambda: FrameDelta(*SIZE, normalise=False),
    "frame-delta-normalised": lambda: FrameDelta(*SIZE),
    "token-delta": lambda: TokenDelta(*SIZE),
    "kalman": lambda: Kalman(*SIZE),
    "cached-grm": lambda: Cached(TokenDelta(*SIZE), segment=2, cap=3),
    "cached-checkpoints": lambda: Cached(TokenDelta(*SIZE), segment=2, cap=3, fresh=False),
    "cached-ssc": lambda: Cached(TokenDelta(*SIZE), 2, 3, reading="ssc", full="evict"),
    "cached-soup-kalman": lambda: Cached(Kalman(*SIZE), 2, 3, reading="soup"),
    "cached-residual-frames": lambda: Cached(FrameDelta(*SIZE), 2, 3, reading="residual"),
    "cached-mixture": lambda: Cached(Mixture(TokenDelta(*SIZE), router()), 2, 3, reading="soup"),
    "mixture": lambda: Mixture(TokenDelta(*SIZE), router()),
    "mixture-frames": lambda: Mixture(FrameDelta(*SIZE), router(), top=1, shared=False),
    "mixture-kalman": lambda: Mixture(Kalman(*SIZE), router(), shared=False),
}


def tokens(batch: int, frames: int, count: int, seed: int) -> Frame:
    """A clip, float64: keys of length 1, strengths in 0.2..1, decays of 0.7..1."""
    rng = torch.Generator().manual_seed(seed)
    lead = (batch, frames, count, SIZE.heads)

    def normal(width: int) -> Tensor:
        return torch.randn(*lead, width, generator=rng, dtype=torch.float64)

    beta = 0.2 + 0.8 * torch.rand(lead, generator=rng, dtype=torch.float64)
    g = -0.35 * torch.rand(batch, frames, SIZE.heads, generator=rng, dtype=torch.float64)
    return Frame(normalize(normal(SIZE.key_dim), dim=-1), normal(SIZE.value_dim), beta, g)


def frame_of(clip: Frame, f: int) -> Frame:
    return clip.map(lambda x: x[:, f])


def run(layer: Layer, clip: Frame, valid: Tensor | None = None) -> list[LayerState]:
    """The state after every frame."""
    states, state = [], layer.init(len(clip.k), clip.k.dtype)
    for f in range(clip.k.shape[1]):
        state = layer.write(state, frame_of(clip, f), None if valid is None else valid[:, f])
        states.append(state)
    return states


def clip_of(seed: int = 0, **changes: int) -> Frame:
    return tokens(**({"batch": BATCH, "frames": FRAMES, "count": TOKENS, "seed": seed} | changes))


def replace_beta(frame: Frame, value: float) -> Frame:
    return frame._replace(beta=torch.full_like(frame.beta, value))
