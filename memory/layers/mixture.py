"""MoM, a mixture of memories (arXiv 2502.13685): tokens are sorted into several states.

    r = softmax(router k), the ``top`` largest of M kept and brought to the sum of 1
    written: the chosen states, by the rule of ``inner``       o = sum of r_m S_m(q) (+ shared)

A state that no token of a frame chose stays bit for bit, and does not fade. The shared one takes
every token. Queries are routed as keys are. In the paper a token also has projections of its own
for every memory; here the states share keys, so that the layer has the interface of the others.

State M (+ 1) times that of ``inner``; what is needed is top (+ 1) times the work of ``inner``, but
this reference writes and reads every state, masked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from retain.memory.carry import Shapes
from retain.memory.layers.base import Frame, Layer, LayerState, apart
from retain.pipeline.errors import UsageError


@dataclass(frozen=True, eq=False)
class Mixture(Layer):
    """See the module's text. ``router`` [M, H, Dk], learned or random. Raises UsageError."""

    heads: int = field(init=False)
    key_dim: int = field(init=False)
    value_dim: int = field(init=False)
    inner: Layer
    router: Tensor
    top: int = 2
    shared: bool = True

    def __post_init__(self) -> None:
        for name in ("heads", "key_dim", "value_dim"):
            object.__setattr__(self, name, getattr(self.inner, name))
        if self.router.dim() != 3 or self.router.shape[1:] != (self.heads, self.key_dim):
            raise UsageError(
                f"The router of a mixture is [M, {self.heads}, {self.key_dim}], "
                f"not {list(self.router.shape)}."
            )
        if not 1 <= self.top <= len(self.router):
            raise UsageError(f"A mixture of {len(self.router)} has no top {self.top}.")

    @property
    def states(self) -> int:
        return len(self.router) + self.shared

    @property
    def folded(self) -> Layer:
        """All states as heads of one layer, those of a head next to each other."""
        return replace(self.inner, heads=self.heads * self.states)

    @property
    def shapes(self) -> Shapes:
        return self.folded.shapes

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        return self.folded.update(state, self._sorted(frame))

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        unrotated = None if plain is None else self._repeated(plain)
        out = self.folded.read(state, self._repeated(q), unrotated)
        return self._joined(out, self.route(q if plain is None else plain).to(out))

    def scan(
        self, state: LayerState, clip: Frame, q: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """As parallel as ``inner``'s."""
        size = q.shape[:2]
        flat = self._sorted(clip.map(lambda x: x.flatten(0, 1)))
        folded = flat.map(lambda x: apart(x, size))
        asked = apart(self._repeated(q.flatten(0, 1)), size)
        out, state = self.folded.scan(state, folded, asked, valid)
        return self._joined(out, apart(self.route(q.flatten(0, 1)), size).to(out)), state

    def route(self, k: Tensor) -> Tensor:
        """[B, T, M], summing to 1, of k [B, T, H, Dk]."""
        r = torch.einsum("bthd,mhd->btm", k, self.router.to(k)).softmax(-1)
        most = r.topk(self.top, -1)
        kept = torch.zeros_like(r).scatter(-1, most.indices, most.values)
        return kept / kept.sum(-1, keepdim=True)

    def _sorted(self, frame: Frame) -> Frame:
        """The frame as ``folded`` takes it."""
        plain = frame.k if frame.plain is None else frame.plain
        taken = (self.route(plain) > 0).to(frame.beta)
        if self.shared:
            taken = torch.cat([taken, torch.ones_like(taken[..., :1])], -1)
        touched = taken.amax(1)
        return Frame(
            self._repeated(frame.k),
            self._repeated(frame.v),
            (frame.beta[..., None] * taken[:, :, None]).flatten(2),
            (frame.g[..., None] * touched[:, None]).flatten(1),
            None if frame.plain is None else self._repeated(frame.plain),
        )

    def _repeated(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.states, 2)

    def _joined(self, out: Tensor, r: Tensor) -> Tensor:
        """[..., Q, H (M + 1), Dv] weighted by r [..., Q, M], the shared state by 1."""
        out = out.reshape(*out.shape[:-2], self.heads, self.states, -1)
        if self.shared:
            r = torch.cat([r, torch.ones_like(r[..., :1])], -1)
        return (out * r[..., None, :, None]).sum(-2)
