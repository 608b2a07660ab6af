"""Memory Caching (arXiv 2602.24281): states of past segments are kept beside the present one.

A stream is cut in segments of so many frames. With M_i the memory at the end of segment i, M_s the
present one and p_i the mean key of a segment, a query q reads

    residual   M_s(q) + sum of M_i(q)
    grm        sum of g_i M_i(q), M_s among them       g = softmax(sharpness q . p_i)
    soup       M*(q), the state of M* being the sum of g_i M_i: the same where M is linear in it
    ssc        grm over M_s and the ``top`` segments of the largest q . p_i

The paper's learned projection of the query before the softmax is the caller's. ``fresh`` starts
every segment empty (independent compressors), otherwise it goes on from the last (checkpoints).

Ours: ``cap`` segments are kept at most, so that the bytes are bounded: "evict" drops the oldest
one, "merge" joins those two neighbours whose mean keys are most alike: the sum of both where they
are independent, the mean by tokens where they are checkpoints.

State (cap + 1) times that of ``inner``, and a key per segment and head; a query reads all of them.
Only the sums of ``ssc`` are sparse here: this reference reads every segment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

from retain.memory.carry import Shapes
from retain.memory.layers.base import (
    Frame,
    Layer,
    LayerState,
    apart,
    chosen,
    per_head,
    positive,
    spread,
)

Reading = Literal["residual", "grm", "soup", "ssc"]


@dataclass(frozen=True)
class Cached(Layer):
    """See the module's text. Raises UsageError when a number is not positive."""

    heads: int = field(init=False)
    key_dim: int = field(init=False)
    value_dim: int = field(init=False)
    inner: Layer
    segment: int
    cap: int
    reading: Reading = "grm"
    full: Literal["merge", "evict"] = "merge"
    fresh: bool = True
    top: int = 2
    sharpness: float = 40.0

    def __post_init__(self) -> None:
        for name in ("heads", "key_dim", "value_dim"):
            object.__setattr__(self, name, getattr(self.inner, name))
        positive(self, "segment", "cap", "top")

    @property
    def shapes(self) -> Shapes:
        online = {f"online.{name}": shape for name, shape in self.inner.shapes.items()}
        cached = {
            f"cache.{name}": (shape[0], self.cap, *shape[1:])
            for name, shape in self.inner.shapes.items()
        }
        h, d = self.heads, self.key_dim
        return {
            **online,
            **cached,
            "mean.online": (h, d),
            "mean.cache": (h, self.cap, d),
            "tokens.online": (h,),
            "tokens.cache": (h, self.cap),
            "frames": (h,),
        }

    def update(self, state: LayerState, frame: Frame) -> LayerState:
        over = state["frames"][:, 0] >= self.segment
        if bool(over.any()):
            state = chosen(over, self._closed(state), state)
        new = self.inner.update(self._part(state, "online"), frame)
        plain = per_head(frame.k if frame.plain is None else frame.plain)
        tokens, came = state["tokens.online"], plain.shape[2]
        share = (came / (tokens + came))[..., None]
        return {
            **state,
            **{f"online.{name}": x for name, x in new.items()},
            "mean.online": torch.lerp(state["mean.online"], plain.mean(2), share),
            "tokens.online": tokens + came,
            "frames": state["frames"] + 1,
        }

    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        slots = self._slots(state)
        if self.reading == "soup":
            return self._soup(slots, self._gates(state, q if plain is None else plain), q, plain)
        many = self.cap + 1
        each = {name: x.transpose(1, 2).flatten(0, 1) for name, x in slots.items()}
        asked = q.repeat_interleave(many, 0)
        unrotated = None if plain is None else plain.repeat_interleave(many, 0)
        out = apart(self.inner.read(each, asked, unrotated), (len(q), many))
        if self.reading == "residual":
            return out.sum(1)
        gates = self._gates(state, q if plain is None else plain)
        return (gates.permute(0, 3, 1, 2)[..., None] * out).sum(1)

    def _soup(self, slots: LayerState, gates: Tensor, q: Tensor, plain: Tensor | None) -> Tensor:
        """One state for every query."""
        mixed = {}
        for name, x in slots.items():
            own = gates.repeat_interleave(x.shape[1] // self.heads, 2)
            mixed[name] = torch.einsum("bqhn,bhn...->bqh...", own, x).flatten(0, 1)
        unrotated = None if plain is None else plain.flatten(0, 1)[:, None]
        out = self.inner.read(mixed, q.flatten(0, 1)[:, None], unrotated)
        return apart(out[:, 0], q.shape[:2])

    def _gates(self, state: LayerState, q: Tensor) -> Tensor:
        """[B, Q, H, cap + 1], the present segment last; nothing for places not used."""
        mean, tokens = self._index(state)
        # A memory that is empty reads zero from its present segment.
        unused = pad(tokens[:, :, :-1] == 0, (0, 1))
        score = self.sharpness * torch.einsum("bqhd,bhnd->bqhn", q.to(mean), mean)
        score = score.masked_fill(unused[:, None], -torch.inf)
        if self.reading == "ssc" and self.top < self.cap:
            past = score[..., :-1]
            least = past.topk(self.top, -1).values[..., -1:]
            score = torch.cat([past.masked_fill(past < least, -torch.inf), score[..., -1:]], -1)
        return score.softmax(-1)

    def _closed(self, state: LayerState) -> LayerState:
        """With the present segment cached and the next one begun."""
        slots, (mean, tokens) = self._slots(state), self._index(state)
        full = tokens[:, 0, 0] > 0
        merging = full & (self.full == "merge")
        alike = cosine_similarity(mean[:, :, :-1], mean[:, :, 1:], -1).mean(1)
        gone = torch.where(merging, alike.argmax(-1), 0)
        both = _pair(tokens, gone)
        share = both / both.sum(2, keepdim=True).clamp(min=1)
        new = dict(state)
        for name, x in slots.items():
            pair = _pair(x, gone)
            if not self.fresh:
                own = share.repeat_interleave(x.shape[1] // self.heads, 1)
                pair = pair * spread(own, pair)
            new[f"cache.{name}"] = _without(x, gone, pair.sum(2), merging)
        keys = (_pair(mean, gone) * share[..., None]).sum(2)
        new["mean.cache"] = _without(mean, gone, keys, merging)
        new["tokens.cache"] = _without(tokens, gone, both.sum(2), merging)
        cleared = ["mean.online", "tokens.online", "frames"]
        if self.fresh:
            cleared += [f"online.{name}" for name in slots]
        return new | {name: torch.zeros_like(state[name]) for name in cleared}

    def _part(self, state: LayerState, which: str) -> LayerState:
        return {name: state[f"{which}.{name}"] for name in self.inner.shapes}

    def _slots(self, state: LayerState) -> LayerState:
        """Cached and present states, [B, H', cap + 1, ...]; oldest first."""
        online, cached = self._part(state, "online"), self._part(state, "cache")
        return {name: torch.cat([cached[name], x[:, :, None]], 2) for name, x in online.items()}

    def _index(self, state: LayerState) -> tuple[Tensor, Tensor]:
        """Of each of them the mean key [B, H, cap + 1, Dk] and how many tokens, 0 where unused."""
        mean = torch.cat([state["mean.cache"], state["mean.online"][:, :, None]], 2)
        return mean, torch.cat([state["tokens.cache"], state["tokens.online"][:, :, None]], 2)


def _pair(x: Tensor, at: Tensor) -> Tensor:
    """[B, H', 2, ...]: places ``at`` [B] and the one after of x [B, H', n, ...]."""
    rows = torch.arange(len(x), device=x.device)
    return torch.stack([x[rows, :, at], x[rows, :, at + 1]], 2)


def _without(x: Tensor, gone: Tensor, joined: Tensor, merging: Tensor) -> Tensor:
    """x [B, H', n + 1, ...] without the place ``gone`` [B]; where ``merging`` [B], the place after
    it holds ``joined`` [B, H', ...]."""
    rows = torch.arange(len(x), device=x.device)
    x = x.clone()
    x[rows, :, gone + 1] = torch.where(spread(merging, joined), joined, x[rows, :, gone + 1])
    places = torch.arange(x.shape[2] - 1, device=x.device)
    places = places + (places >= gone[:, None])
    return x[rows[:, None], :, places].transpose(1, 2)
