"""Frame-wise gated delta net (SANA-WM, SANA-Streaming): a frame is two matrix products.

Per head, for the T tokens of a frame, whose rows of K~ are rotated keys and of K plain ones, each
of length 1 at most and then times T^-1/2:

    P = exp(g) S          S <- P + K~^T B (V - K~ P)
    p = exp(g) z          z <- p + K^T b * (1 - K p)          o = (q~ S) / (q . z + eps)

All tokens see the same snapshot P, so only frames wait for each other, and even they can be joined
in parallel: with A = exp(g) (I - K~^T B K~) and U = K~^T B V, two frames after each other are one
frame of A_2 A_1 and A_2 U_1 + U_2.

**The key scale is required.** With it the trace of K~^T B K~ is at most 1, hence I - K~^T B K~ has
eigenvalues in [0, 1] and no frame enlarges what is held. Without it parallel keys, which is what a
picture has, make that matrix an amplifier. ``key_scale`` other than "tokens" is there to show that.

Nothing but the writes themselves keeps q . z from 0; eps only makes an empty memory read zero.

State H Dk (Dv + 1) floats; a token costs 2 Dk Dv multiplications to write, Dk Dv to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from retain.memory.carry import Shapes
from retain.memory.layers.base import Frame, Layer, LayerState, apart, per_head, spread
from retain.memory.layers.block_linear import read_each, read_matrix

EPS = 1e-6


@dataclass(frozen=True)
class FrameDelta(Layer):
    """See the module's text. Keys should come from ``base.phi`` where ``normalise`` is on."""

    normalise: bool = True
    key_scale: Literal["tokens", "none"] = "tokens"

    @property
    def shapes(self) -> Shapes:
        matrix = {"s": (self.heads, self.key_dim, self.value_dim)}
        return matrix | ({"z": (self.heads, self.key_dim)} if self.normalise else {})

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        decay, beta = frame.g.exp(), per_head(frame.beta)
        new = {"s": _written(state["s"], decay, beta, self._scaled(frame.k), per_head(frame.v))}
        if self.normalise:
            plain = self._scaled(frame.k if frame.plain is None else frame.plain)
            new["z"] = _written(
                state["z"][..., None], decay, beta, plain, torch.ones_like(beta)
            ).squeeze(-1)
        return new

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        return read_matrix(state, q, plain, EPS)

    def scan(
        self, state: LayerState, clip: Frame, q: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """All frames at once: 2 log2 F rounds of products. See ``Layer.scan``."""
        like = state["s"]
        k, v, beta, g = (x.to(like).transpose(0, 1) for x in (clip.k, clip.v, clip.beta, clip.g))
        if valid is not None:
            there = valid.to(like).T
            beta, g = beta * spread(there, beta), g * spread(there, g)
        frames, batch = k.shape[:2]
        # The normaliser is one more column of values, all ones.
        v = torch.cat([v, torch.ones_like(v[..., :1])], -1) if self.normalise else v
        keys = self._scaled(k.flatten(0, 1))
        come = (per_head(beta.flatten(0, 1)) * keys).mT
        keep = torch.eye(self.key_dim).to(like) - come @ keys
        keep = spread(g.flatten(0, 1).exp(), keep) * keep
        each = come @ per_head(v.flatten(0, 1))
        keep, each = prefix(apart(keep, (frames, batch)), apart(each, (frames, batch)))
        start = [state["s"], state["z"][..., None]] if self.normalise else [state["s"]]
        held = (keep @ torch.cat(start, -1) + each).transpose(0, 1)
        states = {"s": held[..., : self.value_dim]}
        if self.normalise:
            states["z"] = held[..., self.value_dim]
        return read_each(self, states, q), {name: x[:, -1] for name, x in states.items()}

    def _scaled(self, k: Tensor) -> Tensor:
        """[B, T, H, Dk] -> [B, H, T, Dk], times T^-1/2."""
        return per_head(k) * (k.shape[1] ** -0.5 if self.key_scale == "tokens" else 1.0)


def prefix(keep: Tensor, add: Tensor) -> tuple[Tensor, Tensor]:
    """Running composition of the maps S -> keep S + add along the first axis, by doubling."""
    step = 1
    while step < len(keep):
        later, earlier = keep[step:], keep[:-step]
        add = torch.cat([add[:step], later @ add[:-step] + add[step:]])
        keep = torch.cat([keep[:step], later @ earlier])
        step *= 2
    return keep, add


def _written(state: Tensor, decay: Tensor, beta: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """P + K^T B (V - K P) of state [B, H, Dk, Dv], k [B, H, T, Dk], v [B, H, T, Dv]."""
    past = spread(decay, state) * state
    return past + k.mT @ (beta * (v - k @ past))
