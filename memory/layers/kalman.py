"""Gated KalmaNet (arXiv 2511.21016): a ridge regression over everything written, fading.

Per head, keys and values being scaled by beta:

    H <- exp(g) H + K^T K        U <- exp(g) U + K^T V        o = U^T (q + alpha (x - q))
    x = (H + lambda I)^-1 q,  lambda = 0.02 |H|_F,  by a fixed number of Chebyshev steps

The eigenvalues of H + lambda I lie in [lambda, lambda + |H|_F], so the condition is never over 51,
and the number of steps trades time for recall without training anew. Published with one decay a
token, here with one a frame; the paper's 1 / sqrt(Dk) on the output, which the norm behind it
cancels, is left out, so that values come back as they were written, but for the ridge.

State H Dk (Dk + Dv) floats; a token costs Dk (Dk + Dv) multiplications to write and
steps Dk^2 + Dk Dv to read: reading is what is dear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from retain.memory.carry import Shapes
from retain.memory.layers.base import Frame, Layer, LayerState, apart, per_head, positive, spread
from retain.memory.layers.block_linear import read_each
from retain.pipeline.errors import UsageError

TINY = 1e-20
"""Added to |H|_F^2: an empty memory divides by its root and is then multiplied by U = 0."""


@dataclass(frozen=True)
class Kalman(Layer):
    """See the module's text. ``alpha`` 0 is linear attention, 1 the regression."""

    steps: int = 30
    ridge: float = 0.02
    alpha: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "heads", "key_dim", "value_dim", "steps")
        if not self.ridge > 0 or not 0 <= self.alpha <= 1:
            raise UsageError("Kalman needs a ridge > 0 and alpha in [0, 1].")

    @property
    def shapes(self) -> Shapes:
        h, dk, dv = self.heads, self.key_dim, self.value_dim
        return {"h": (h, dk, dk), "u": (h, dk, dv)}

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        k, both = _products(frame.k, frame.v, frame.beta)
        keep = frame.g.exp()
        h, u = torch.split(k.mT @ both, [self.key_dim, self.value_dim], -1)
        return {
            "h": spread(keep, h) * state["h"] + h,
            "u": spread(keep, u) * state["u"] + u,
        }

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        rows = per_head(q).to(state["h"])
        found = chebyshev(state["h"], rows, self.steps, self.ridge)
        return (torch.lerp(rows, found, self.alpha) @ state["u"]).transpose(1, 2)

    def scan(
        self, state: LayerState, clip: Frame, q: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """All frames at once: decayed running sums as one product. See ``Layer.scan``."""
        like = state["h"]
        k, v, beta, g = (x.to(like) for x in (clip.k, clip.v, clip.beta, clip.g))
        if valid is not None:
            beta, g = beta * spread(valid.to(like), beta), g * spread(valid.to(like), g)
        keys, both = _products(k.flatten(0, 1), v.flatten(0, 1), beta.flatten(0, 1))
        come = apart(keys.mT @ both, k.shape[:2])
        old = torch.cat([state["h"], state["u"]], -1)[:, None]
        held = torch.einsum("bhfe,behij->bfhij", _decays(g), torch.cat([old, come], 1))
        h, u = torch.split(held, [self.key_dim, self.value_dim], -1)
        return read_each(self, {"h": h, "u": u}, q), {"h": h[:, -1], "u": u[:, -1]}


def chebyshev(h: Tensor, q: Tensor, steps: int, ridge: float = 0.02) -> Tensor:
    """x [..., Q, D] with x (H + ridge |H|_F I) ~ q, for symmetric ``h`` [..., D, D] >= 0."""
    length = (h.square().sum((-2, -1), keepdim=True) + TINY).sqrt()
    shift = ridge * length
    tau = 2 / (2 * shift + length)
    quarter = (length / (2 * (2 * shift + length))) ** 2
    w, before, x = torch.full_like(length, 2.0), torch.zeros_like(q), tau * q
    for _ in range(steps - 1):
        w = 1 / (1 - quarter * w)
        residual = x @ h + shift * x - q
        before, x = x, w * (x - tau * residual) - (w - 1) * before
    return x


def _products(k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """beta K [B, H, T, Dk], and beta [K V]."""
    strength = per_head(beta)
    keys = strength * per_head(k)
    return keys, torch.cat([keys, strength * per_head(v)], -1)


def _decays(g: Tensor) -> Tensor:
    """[B, H, F, 1 + F]: what is left after frame f of the first state and of each frame before,
    of g [B, F, H]. Summed up rather than subtracted: see ``kernels/gated_delta/chunked.py``."""
    log = g.transpose(1, 2)
    each = log[..., None].expand(*log.shape, log.shape[-1])
    between = each.tril(-1).cumsum(-2).exp().tril()
    return torch.cat([log.cumsum(-1).exp()[..., None], between], -1)
