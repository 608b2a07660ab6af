"""RMSCL (arXiv 2309.15274): the examples that explain the current frame are those to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.memory.bank.policies import reconstruct

if TYPE_CHECKING:
    from torch import Tensor

Weights = NDArray[np.float64]
"""[n] d of each example; those with 0 are left out."""

_NOTHING = 1e-4
"""Of the largest: what the iteration has not yet taken to zero exactly."""


def explained(digests: Tensor, now: Tensor, sparsity: float, most: int, steps: int = 60) -> Weights:
    """|psi| of the sparse combination of ``digests`` [n, D] that rebuilds ``now`` [D].

    At most the ``most`` largest; the others, and those the lasso left out, are 0. What all frames
    share explains nothing about which of them is like this one, so their mean is taken off first.
    """
    mean = digests.mean(0)
    psi = reconstruct(digests - mean, now - mean, sparsity, steps).abs().double().cpu().numpy()
    psi[psi < _NOTHING * psi.max(initial=0.0)] = 0
    if np.count_nonzero(psi) > most:
        psi[np.argsort(-psi, kind="stable")[most:]] = 0
    return np.asarray(psi)


def recent(weights: Weights, pinned: NDArray[np.bool_], fade: float) -> Weights:
    """``weights`` [n], oldest first, times ``fade`` for each step back in time; pinned ones do not
    fade."""
    age = np.arange(len(weights))[::-1]
    return np.where(pinned, weights, weights * fade**age)


def balanced(weights: Weights, pinned: NDArray[np.bool_], anchor: float) -> Weights:
    """``weights`` scaled so that the squares of pinned ones add up to ``anchor`` and those of the
    others to 1 - ``anchor``: the first frame, the only one that is known for sure, keeps its say.

    Where all are pinned their squares add up to 1. Pinned ones without a weight get equal ones.
    """
    out = weights.astype(np.float64)
    if not out[pinned].any():
        out[pinned] = 1.0
    loose = ~pinned & (out > 0)
    share = anchor if loose.any() else 1.0
    for some, total in ((pinned, share), (loose, 1 - share)):
        size = float(np.square(out[some]).sum())
        if size > 0:
            out[some] *= np.sqrt(total / size)
    return out
