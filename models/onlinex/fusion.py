"""Implicit Gaussian fusion: what falls into the same voxel becomes one, and a network says what.

As published, centres are means weighted by confidence, ``x' = sum c x / sum c``, and so are
features, of which an MLP makes the Gaussian. Ours holds at most one Gaussian per voxel, new ones of
one picture included: then the order does not matter, and a picture seen twice moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.memory.evolve import Policy, evolve
from retain.models.onlinex.blocks import Mlp
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.types import Maps

CAP = 200.0
"""Confidence that a Gaussian gathers at most; from there on it slowly forgets."""
_GRAIN = 0.7
"""Share of its width within which a Gaussian's likes are merged into it."""
_SPREAD = 0.6
"""Largest scale of a Gaussian as a share of its width, where no width is given."""
_LEVELS = 7
_BITS = 17
_HALF = 1 << (_BITS - 1)
_SAMPLE = (_LEVELS + 1) << (3 * _BITS)
"""Keys of one sample."""
_BATCH = 1 << 8
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Fused:
    """A map for each of a batch; rows of all of them in one, by sample and voxel."""

    batch: int
    keys: Tensor
    """i64[M], ascending: sample, level of the voxel and its three indices."""
    weight: Tensor
    """f[M], confidence gathered."""
    values: Tensor
    """f[M, 14 + language], means: centre, scale, turn (w >= 0), opacity, colour, code."""
    features: Tensor
    """f[M, F], means."""

    @property
    def counts(self) -> Tensor:
        """i64[B], Gaussians of each sample."""
        return torch.bincount(self.keys // _SAMPLE, minlength=self.batch)

    @property
    def maps(self) -> Maps:
        """The means themselves as Gaussians [B, m, ...], m the largest count. Rows that a sample
        does not have come last: opacity 0, confidence 0, centre 0, scale 1."""
        parts = torch.split(self.values, [3, 3, 4, 1, 3, self.values.shape[-1] - 14], -1)
        return self.padded(_gaussians(self.weight, *parts))

    def padded(self, rows: Maps) -> Maps:
        """``rows`` [M, ...] of this map as [B, m, ...]."""
        counts = self.counts
        most = int(counts.max()) if self.batch else 0
        if (counts == most).all():
            return _each(rows, lambda _, v: v.reshape(self.batch, most, *v.shape[1:]))
        sample = self.keys // _SAMPLE
        first = counts.cumsum(0) - counts
        at = torch.arange(len(sample), device=sample.device) - first[sample]

        def place(name: str, v: Tensor) -> Tensor:
            out = v.new_full((self.batch, most, *v.shape[1:]), float(name == "scales"))
            if name == "quats":
                out[..., 0] = 1
            return out.index_put((sample, at), v)

        return _each(rows, place)

    def detach(self) -> Fused:
        """Cut from the graph."""
        return Fused(
            self.batch,
            self.keys,
            self.weight.detach(),
            self.values.detach(),
            self.features.detach(),
        )


class Fusion(nn.Module):
    """The network that says what a fused Gaussian looks like. Before training it adds nothing to
    the means."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.mlp = Mlp(c.head_dim, 2 * c.head_dim, 11 + c.language)
        nn.init.zeros_(self.mlp.fc2.weight)
        nn.init.zeros_(self.mlp.fc2.bias)

    def forward(self, known: Fused) -> Maps:
        """The map as Gaussians [B, m, ...], padded as ``Fused.maps``; centres are the means."""
        language = self.config.language
        parts = torch.split(known.values, [3, 3, 4, 1, 3, language], -1)
        said = torch.split(self.mlp(known.features), [3, 4, 1, 3, language], -1)
        rows = _gaussians(
            known.weight,
            parts[0],
            parts[1] * said[0].tanh().exp(),
            parts[2] + said[1],
            (parts[3].clamp(_EPS, 1 - _EPS).logit() + said[2]).sigmoid(),
            parts[4] + 0.25 * said[3].tanh(),
            parts[5] + said[4],
        )
        return known.padded(rows)


def fuse(
    stored: Fused | None,
    maps: Maps,
    features: Tensor,
    cell: float,
    *,
    size: Tensor | None = None,
    cap: float = CAP,
    budget: int | None = None,
) -> Fused:
    """``stored`` and the Gaussians of new ``maps`` [B, n, ...] with ``features`` [B, n, F].

    Voxels have edges of ``cell`` * 2^level metres, by the ``size`` [B, n] of a Gaussian in metres
    (``Out.size``; else told from its scales). ``cell`` 0 merges nothing; a map keeps to one. Of
    more than ``budget`` Gaussians of a sample those go first that weigh, cover and hide least.
    Differentiable in all but keys, levels and the choice of what goes. Raises ValueError for a
    batch of another size or of 256 and more.
    """
    batch, n = maps.confidence.shape
    if batch >= _BATCH or (stored is not None and stored.batch != batch):
        raise ValueError(f"maps of {batch} samples do not join {stored and stored.batch}")
    values = torch.cat([
        maps.centres, maps.scales, torch.where(maps.quats[..., :1] < 0, -maps.quats, maps.quats),
        maps.opacities[..., None], maps.colours, maps.codes,
    ], -1).flatten(0, 1)  # fmt: skip
    if size is None:
        size = maps.scales.amax(-1) / _SPREAD
    if cell > 0:
        keys = voxels(maps.centres.detach(), size.detach(), cell).flatten()
    else:
        last = 0 if stored is None or not len(stored.keys) else int((stored.keys % _SAMPLE).max())
        keys = torch.arange(last + 1, last + 1 + n, device=values.device)
        keys = (keys + _SAMPLE * torch.arange(batch, device=values.device)[:, None]).flatten()
    return _merge(stored, batch, keys, maps.confidence.flatten(), values,
                  features.flatten(0, 1), cap, budget)  # fmt: skip


def voxels(centres: Tensor, size: Tensor, cell: float) -> Tensor:
    """Keys i64[B, n] of ``centres`` [B, n, 3]; ``size`` [B, n] metres chooses the level. Beyond
    65536 voxels from the origin everything is at the border."""
    level = (_GRAIN * size / cell).clamp(min=1e-9).log2().ceil().clamp(0, _LEVELS).long()
    edge = cell * torch.exp2(level.to(centres.dtype))
    index = (centres / edge[..., None]).floor().clamp(-_HALF, _HALF - 1).long() + _HALF
    sample = torch.arange(len(centres), device=centres.device)[:, None]
    key = sample * (_LEVELS + 1) + level
    for axis in index.unbind(-1):
        key = (key << _BITS) + axis
    return key


def _merge(
    stored: Fused | None, batch: int, keys: Tensor, sure: Tensor, values: Tensor,
    features: Tensor, cap: float, budget: int | None,
) -> Fused:  # fmt: skip
    """Rows of one picture into those that are there."""
    width = values.shape[-1]
    rows = torch.cat([values, features], -1)
    known = keys.new_empty(0) if stored is None else stored.keys
    union, at = torch.unique(torch.cat([known, keys]), return_inverse=True)
    old, new = at[: len(known)], at[len(known) :]
    came = sure.new_zeros(len(union)).index_add(0, new, sure)
    mean = rows.new_zeros(len(union), rows.shape[-1]).index_add(0, new, sure[:, None] * rows)
    mean = mean / torch.where(came > 0, came, torch.ones_like(came))[:, None]
    held, weight = torch.zeros_like(mean), torch.zeros_like(came)
    if stored is not None:
        held = held.index_add(0, old, torch.cat([stored.values, stored.features], -1))
        weight = weight.index_add(0, old, stored.weight)
    out, weight = evolve(held, mean, weight, came, Policy("confidence", cap))
    fused = Fused(batch, union, weight, out[:, :width], out[:, width:])
    return fused if budget is None else _dropped(fused, budget)


def _dropped(known: Fused, budget: int) -> Fused:
    """At most ``budget`` Gaussians of each sample: the least weight * opacity * area go."""
    counts = known.counts.tolist()
    if max(counts, default=0) <= budget:
        return known
    with torch.no_grad():
        scales = known.values[:, 3:6].sort(dim=-1).values
        worth = known.weight * known.values[:, 10] * scales[:, 1] * scales[:, 2]
        kept, first = [], 0
        for count in counts:
            part = worth[first : first + count]
            kept.append(first + part.topk(min(count, budget)).indices.sort().values)
            first += count
        rows = torch.cat(kept)
    return Fused(known.batch, known.keys[rows], known.weight[rows], known.values[rows],
                 known.features[rows])  # fmt: skip


def _gaussians(
    weight: Tensor, centres: Tensor, scales: Tensor, quats: Tensor, opacities: Tensor,
    colours: Tensor, codes: Tensor,
) -> Maps:  # fmt: skip
    return Maps(
        centres, weight, scales, functional.normalize(quats, dim=-1), opacities[..., 0], colours,
        functional.normalize(codes, dim=-1),
    )  # fmt: skip


def _each(maps: Maps, change: Callable[[str, Tensor], Tensor]) -> Maps:
    return Maps(**{name: change(name, getattr(maps, name)) for name in Maps.__slots__})
