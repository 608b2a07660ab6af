"""Which rows of a bank are read, and which make room: a policy ranks them, as in eviction.py.

The highest ranks are read, the lowest leave. Random policies draw from a counter (seed, turn, row),
so nothing has to be saved but the turn, any device sees the same rows, and a read leaves the state
as it was. ``uniform`` is MAMBA's, for both; ``score`` and ``frequency`` are the alternatives its
paper names (that ``frequency`` samples without replacement is our reading); ``lasso`` is RMSCL's
selection (arXiv 2309.15274), by ``reconstruct``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.memory.eviction import Fifo, Policy, Ranks, ScoreDecay, ScoreHeap
from retain.memory.table import Table
from retain.pipeline.errors import UsageError, nearest

_MASK = (1 << 64) - 1


def draws(seed: int, turn: int, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """SplitMix64 of (seed, turn, number): [n] in (0, 1), the same on every machine."""
    start = (seed * 0xD1342543DE82EF95 + (turn + 1) * 0xA0761D6478BD642F) & _MASK
    z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = z + np.full(1, start, np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.asarray(((z >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53))


@dataclass
class Uniform(Policy):
    """Each row is as likely as another, drawn anew every turn."""

    seed: int = 0

    def rank(self, held: Table) -> Ranks:
        return draws(self.seed, held.turn, held.order)


@dataclass
class Frequency(Policy):
    """Rows drawn without replacement, each with a probability as the softmax of its score."""

    seed: int = 0

    def rank(self, held: Table) -> Ranks:
        noise = -np.log(-np.log(draws(self.seed, held.turn, held.order)))
        return np.asarray(held["key"] + noise, np.float64)


@dataclass
class RecentHeap(ScoreHeap):
    """The newest ``recent`` rows stay; of the others those of the best scores."""

    recent: int = 150

    def rank(self, held: Table) -> Ranks:
        rank = super().rank(held)
        if not len(held):
            return rank
        order = held.order
        least = np.partition(order, max(len(order) - self.recent, 0))[-self.recent :].min()
        return np.where(order >= least, 1e9 + order, rank)


class Lasso(Policy):
    """Rows that help to rebuild what is seen now; of those that do not, the newest.

    Its ranks need the rows themselves: ``ranks`` in place of ``rank``.
    """

    def ranks(self, held: Table, rows: Tensor, target: Tensor) -> Ranks:
        """``rows`` [n, C] of the bank, ``target`` [T, C] of the frame, T >= 0."""
        order = held.order
        newest = np.asarray(order / (1.0 + order.max(initial=0)) * 1e-9)
        if not len(target) or not len(rows):
            return newest
        psi = reconstruct(rows, target.mean(0)).abs()
        return np.asarray(psi.double().cpu().numpy() + newest)


def reconstruct(rows: Tensor, target: Tensor, sparsity: float = 0.1, steps: int = 30) -> Tensor:
    """psi [n] that minimises 1/2 |x - sum psi_n x_n|^2 + lambda |psi|_1, ``target`` x [C] and
    ``rows`` x_n [n, C], all scaled to unit length.

    ``lambda`` is ``sparsity`` times the least that makes psi zero. Accelerated proximal gradient
    (FISTA), ``steps`` of them.
    """
    atoms = torch.nn.functional.normalize(rows.float(), dim=-1)
    wanted = torch.nn.functional.normalize(target.float(), dim=-1)
    limit = sparsity * (atoms @ wanted).abs().max()
    rate = 1.0 / _curvature(atoms)
    psi = ahead = torch.zeros(len(rows), device=rows.device)
    t = 1.0
    for _ in range(steps):
        slope = atoms @ (ahead @ atoms - wanted)
        moved = torch.nn.functional.softshrink(ahead - rate * slope, 0.0)
        moved = moved.sign() * (moved.abs() - rate * limit).clamp(min=0.0)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = moved + (t - 1) / following * (moved - psi)
        psi, t = moved, following
    return psi


def _curvature(atoms: Tensor) -> float:
    """Somewhat above the largest eigenvalue of the Gram matrix of ``atoms`` [n, C]."""
    vector = torch.ones(len(atoms), device=atoms.device)
    for _ in range(12):
        vector = torch.nn.functional.normalize(atoms @ (vector @ atoms), dim=0)
    return 1.2 * float((vector @ atoms).square().sum()) + 1e-6


def chosen(rank: Ranks, order: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The places of the ``count`` lowest ranks, of equals the oldest. O(n)."""
    if count >= len(rank):
        return np.arange(len(rank))
    if count <= 0:
        return np.zeros(0, np.int64)
    edge = np.partition(rank, count - 1)[count - 1]
    sure, tied = np.flatnonzero(rank < edge), np.flatnonzero(rank == edge)
    oldest = tied[np.argsort(order[tied], kind="stable")]
    return np.sort(np.concatenate([sure, oldest[: count - len(sure)]]))


POLICIES: dict[str, Callable[[int, int], Policy]] = {
    "uniform": lambda seed, recent: Uniform(seed),
    "score": lambda seed, recent: ScoreHeap(),
    "score-decay": lambda seed, recent: ScoreDecay(),
    "frequency": lambda seed, recent: Frequency(seed),
    "fifo": lambda seed, recent: Fifo(),
    "recent-heap": lambda seed, recent: RecentHeap(recent),
    "lasso": lambda seed, recent: Lasso(),
}
"""By name, of (seed, recent). ``fifo`` keeps, and reads, what is newest."""


def bank_policy(name: str, seed: int = 0, recent: int = 150) -> Policy:
    """The policy called ``name``. Raises UsageError for an unknown one."""
    if name not in POLICIES:
        raise UsageError(f"Unknown bank policy {name!r}.", hint=nearest(name, POLICIES))
    return POLICIES[name](seed, recent)
