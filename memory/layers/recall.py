"""Associative recall without training: what a layer still knows of pairs written one by one."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, normalize

from retain.memory.layers.base import Frame, Layer


def associative_recall(layer: Layer, pairs: int, seeds: int = 64) -> float:
    """Mean cosine between what each key reads at the end and the value written with it.

    Random keys of length 1 and normal values, one pair a frame, written in full without decay; the
    seeds are rows of one batch. ``layer`` has one head and takes keys of any sign.
    """
    rng = torch.Generator().manual_seed(pairs)
    k = normalize(torch.randn(seeds, pairs, 1, layer.key_dim, generator=rng), dim=-1)
    v = torch.randn(seeds, pairs, 1, layer.value_dim, generator=rng)
    one, zero, state = torch.ones(seeds, 1, 1), torch.zeros(seeds, 1), layer.init(seeds)
    with torch.inference_mode():
        for t in range(pairs):
            state = layer.write(state, Frame(k[:, t : t + 1], v[:, t : t + 1], one, zero))
        return float(cosine_similarity(layer.read(state, k), v, dim=-1).mean())
