"""GRCL (arXiv 2309.15274): which parameters an update must leave alone.

After update j the importance u of each parameter is measured on the memory, made a gate
``g = u / max u > h``, and the last P gates are kept. What any of them marks, the next update holds
at the value it had: ``gamma * sum G (theta - theta_prev)^2`` with a large gamma.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Bits = NDArray[np.uint8]
"""[objects, P, ceil(size / 8)]: a bit per parameter of each kept gate; the newest gate first."""


def no_gates(objects: int, kept: int, size: int) -> Bits:
    return np.zeros((objects, kept, -(-size // 8)), np.uint8)


def gate_of(importance: Tensor, threshold: float) -> NDArray[np.bool_]:
    """bool [objects, size] of ``importance`` >= 0 of that shape: g. All False where nothing is
    important."""
    most = importance.amax(dim=1, keepdim=True)
    return np.asarray(((importance > threshold * most) & (most > 0)).cpu().numpy())


def remember(bits: Bits, gate: NDArray[np.bool_]) -> Bits:
    """``bits`` with ``gate`` [objects, size] as the newest; the oldest is forgotten."""
    newest = np.packbits(gate, axis=1)[:, None]
    return np.concatenate([newest, bits[:, :-1]], axis=1)


def union(bits: Bits, size: int) -> Tensor:
    """float32 [objects, size] of 0 and 1: G, the OR of all kept gates."""
    import torch

    any_of = np.bitwise_or.reduce(bits, axis=1)
    return torch.from_numpy(np.unpackbits(any_of, axis=1, count=size).astype(np.float32))


def hold(theta: Tensor, before: Tensor, gates: Tensor, gamma: float, rate: float) -> Tensor:
    """``theta`` after the implicit step of the penalty, [objects, size] each.

    The minimum of ``(x - theta)^2 / (2 rate) + gamma * G (x - before)^2``. Stable for any gamma,
    where an explicit gradient step of a stiff penalty is not.
    """
    pull = 2 * rate * gamma * gates
    return (theta + pull * before) / (1 + pull)
