"""Block linear attention with a state of constant size (SANA-Video, arXiv 2509.24695).

Per head, for a frame (or block of frames) whose rows of K~ are rotated keys and of K plain ones:

    S <- S + K~^T B V        z <- z + sum of rows of B K        o = (q~ S) / (q . z + 1e-15)

B, the diagonal of beta, is ours: 1 everywhere is the published rule. Nothing is ever forgotten:
right for a short clip; a stream fills it. State H Dk (Dv + 1) floats; a token costs Dk Dv
multiplications to write and as many to read. Without ``normalise`` keys may have any sign.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from retain.memory.carry import Shapes
from retain.memory.layers.base import Frame, Layer, LayerState, apart, per_head

FLOOR = 1e-15


@dataclass(frozen=True)
class BlockLinear(Layer):
    """See the module's text. Keys should come from ``base.phi`` where ``normalise`` is on."""

    normalise: bool = True

    @property
    def shapes(self) -> Shapes:
        matrix = {"s": (self.heads, self.key_dim, self.value_dim)}
        return matrix | ({"z": (self.heads, self.key_dim)} if self.normalise else {})

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        strength, plain = per_head(frame.beta), frame.k if frame.plain is None else frame.plain
        new = {"s": state["s"] + (strength * per_head(frame.k)).mT @ per_head(frame.v)}
        if self.normalise:
            new["z"] = state["z"] + (strength * per_head(plain)).sum(2)
        return new

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        return read_matrix(state, q, plain, FLOOR)

    def scan(
        self, state: LayerState, clip: Frame, q: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """All frames at once: running sums. See ``Layer.scan``."""
        like = state["s"]
        k, v, beta = (x.to(like) for x in (clip.k, clip.v, clip.beta))
        if valid is not None:
            beta = beta * valid[..., None, None].to(beta)
        weighted = (beta[..., None] * k).transpose(2, 3)
        sums = {"s": (weighted.mT @ v.transpose(2, 3)).cumsum(1) + state["s"][:, None]}
        if self.normalise:
            sums["z"] = weighted.sum(3).cumsum(1) + state["z"][:, None]
        return read_each(self, sums, q), {name: x[:, -1] for name, x in sums.items()}


def read_matrix(state: LayerState, q: Tensor, plain: Tensor | None, floor: float) -> Tensor:
    """q S, divided by q . z + ``floor`` where there is a z: [B, Q, H, Dv]."""
    s = state["s"]
    out = (per_head(q).to(s) @ s).transpose(1, 2)
    if "z" not in state:
        return out
    mass = (per_head(q if plain is None else plain).to(s) @ state["z"][..., None]).transpose(1, 2)
    return out / (mass + floor)


def read_each(layer: Layer, states: LayerState, q: Tensor) -> Tensor:
    """[B, F, Q, H, Dv]: from the state after each of F frames, [B, F, H', ...]."""
    flat = {name: x.flatten(0, 1) for name, x in states.items()}
    return apart(layer.read(flat, q.flatten(0, 1)), q.shape[:2])
