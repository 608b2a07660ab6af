"""Merging Gaussians that share a voxel: the definition, in plain torch, one voxel at a time.

Rows that share a key become the first of them. With their confidences c, and C the sum over those
that join, centre, colour, opacity and normal go the share K of the way to the confidence-weighted
mean of the newcomers; the covariance is that of the mixture, so that neither mass nor spread is
lost:

    mu' = (1 - K) mu + K sum c_i mu_i / C
    S'  = (1 - K) (S + d d^T) + K sum c_i (S_i + d_i d_i^T) / C,    d = mu - mu', d_i = mu_i - mu'

With K = C / (W + C) that is the weighted mean of all, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def targets(keys: Tensor, start: int) -> Tensor:
    """For each row >= ``start`` of ``keys`` int64 [N] the first row with the same key; int64."""
    first: dict[int, int] = {}
    for row, key in enumerate(keys.tolist()):
        first.setdefault(key, row)
    return torch.tensor([first[key] for key in keys.tolist()[start:]], dtype=torch.int64)


def covariances(quats: Tensor, scales: Tensor) -> Tensor:
    """[N, 3, 3] of unit quaternions [N, 4] wxyz and scales [N, 3]."""
    w, x, y, z = quats.unbind(-1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)  # fmt: skip
    turned = rotation * scales[:, None, :]
    return turned @ turned.transpose(1, 2)


def merge(
    keys: Tensor,
    means: Tensor,
    covariance: Tensor,
    values: Tensor,
    weights: Tensor,
    gain: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One Gaussian for each key, in order of first appearance.

    ``keys`` int64 [N]; ``means`` [N, 3]; ``covariance`` [N, 3, 3]; ``values`` [N, A], whatever is
    averaged (opacity, colour, normal, code); ``weights`` [N]. ``gain`` (weight [1], evidence [1])
    gives the share K and the new weight. Returns keys, means, covariances, values, weights, in the
    type they came in.
    """
    out: list[tuple[Tensor, ...]] = []
    for key in dict.fromkeys(keys.tolist()):
        rows = (keys == key).nonzero()[:, 0]
        head, rest = rows[:1], rows[1:]
        if not len(rest):
            out.append((keys[head], means[head], covariance[head], values[head], weights[head]))
            continue
        evidence = weights[rest].sum()[None]
        k, weight = gain(weights[head], evidence)
        share = torch.cat([1 - k, k * weights[rest] / evidence])
        mean = (share[:, None] * means[rows]).sum(0)
        d = means[rows] - mean
        spread = covariance[rows] + d[:, :, None] * d[:, None, :]
        mixed = (share[:, None, None] * spread).sum(0)
        value = (share[:, None] * values[rows]).sum(0)
        out.append((keys[head], mean[None], mixed[None], value[None], weight))
    parts = [torch.cat(column) for column in zip(*out, strict=True)]
    return parts[0], parts[1], parts[2], parts[3], parts[4]
