"""Choices made with the whole stream at hand: marks no causal policy has to reach.

Each returns at most ``k`` distinct places of unit ``features`` [T, D], the most important first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Places = NDArray[np.int64]


def uniform(features: Features, k: int) -> Places:
    """Evenly spread, both ends included, ordered so that every beginning is spread too."""
    places = np.unique(np.linspace(0, len(features) - 1, min(k, len(features))).round())
    # Bit-reversed order: halves, quarters, eighths, ...
    width = max(1, (len(places) - 1).bit_length())
    turned = [int(f"{i:0{width}b}"[::-1], 2) for i in range(len(places))]
    return places[np.argsort(turned, kind="stable")].astype(np.int64)


def k_centre(features: Features, k: int) -> Places:
    """Farthest-point traversal (Gonzalez 1985): at most twice the best worst-case distance."""
    chosen = [0]
    nearest = features @ features[0]
    while len(chosen) < min(k, len(features)):
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, features @ features[chosen[-1]])
    return np.array(list(dict.fromkeys(chosen)), np.int64)


def k_medoids(features: Features, k: int, rounds: int = 8) -> Places:
    """Spherical k-means from evenly spread frames, each mean replaced by the frame nearest to it;
    largest group first. Small mean distance, offline."""
    centres = features[uniform(features, k)]
    for _ in range(rounds):
        group = (features @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, group, features)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres)
    size = np.bincount(group, minlength=len(centres))
    places = (features @ centres.T).argmax(axis=0)[np.argsort(-size, kind="stable")]
    return np.array(list(dict.fromkeys(places.tolist())), np.int64)
