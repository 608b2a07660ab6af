"""A teacher's features in 16 numbers: an orthonormal basis that grows while the stream goes on.

Principal components of everything would need everything first, and codes in a map cannot be made
anew. So directions are only ever added: codes given before keep their meaning, those of new
directions being 0. The first picture may take half of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.kernels.rasterize.gaussians import CODE
from retain.pipeline.errors import StateError

Floats = NDArray[np.float32]

FIRST = CODE // 2
"""Directions that the first features may take."""
ENOUGH = 0.95
"""Share of a feature's energy from which it counts as kept, whatever is usual."""
SPREADS = 3.0
"""How far below what is usual in the first features others count as new: noise is the same
everywhere, and must not use up the directions that what comes later needs. In spreads below the
median, but no less than half of it; a spread is a normal distribution's standard deviation."""
NEW = 0.01
"""Share of features that are new from which a direction is added for them."""


class Basis:
    """``vectors`` float32 [E, 16]: orthonormal columns, then zeros that are still free. Features
    are not centred, so that cosines with words stay cosines. Deterministic."""

    def __init__(self, dim: int) -> None:
        self.vectors = np.zeros((dim, CODE), np.float32)
        self.rank = 0
        self.floor = ENOUGH
        """Share of a feature's energy below which it is new."""

    @property
    def dim(self) -> int:
        return len(self.vectors)

    def extend(self, features: Floats) -> float:
        """Add what ``features`` [..., E] need, one direction or, at first, up to ``FIRST``. Returns
        the kept share of their energy, after it. Rows of zeros do not count."""
        rows = features.reshape(-1, self.dim)
        rows = rows[np.einsum("ne,ne->n", rows, rows) > 0]
        first = self.rank == 0
        most, few = (FIRST, 0.0) if first else (min(CODE, self.rank + 1), NEW * len(rows))
        while self.rank < most:
            poor = self._shares(rows) < self.floor
            if poor.sum() <= few:
                break
            self._add(self._missing(rows[poor]))
        if first and len(rows):
            low, usual = np.quantile(self._shares(rows), (0.16, 0.5))
            self.floor = min(ENOUGH, float(max(usual - SPREADS * (usual - low), usual / 2)))
        return self.kept(rows)

    def codes(self, features: Floats) -> Floats:
        """[..., 16]. Not of unit length: what the basis lacks is missing."""
        return np.asarray(features @ self.vectors, np.float32)

    def kept(self, features: Floats) -> float:
        """Mean share of the squared length of unit ``features`` that codes keep: the mean squared
        cosine between them and what codes stand for."""
        rows = features.reshape(-1, self.dim)
        return float(self._shares(rows).mean()) if len(rows) else 1.0

    def _shares(self, rows: Floats) -> Floats:
        codes = self.codes(rows)
        return np.asarray(np.einsum("nc,nc->n", codes, codes))

    def _missing(self, rows: Floats) -> NDArray[np.float64]:
        """The direction [E] in which the basis lacks most of ``rows``."""
        rest = (rows - self.codes(rows) @ self.vectors.T).astype(np.float64)
        return np.asarray(np.linalg.eigh(rest.T @ rest)[1][:, -1])

    def _add(self, direction: NDArray[np.float64]) -> None:
        own = self.vectors[:, : self.rank].astype(np.float64)
        direction = direction - own @ (own.T @ direction)
        # Of two opposite ones, that in which the largest number is positive.
        direction *= np.sign(direction[np.abs(direction).argmax()])
        self.vectors[:, self.rank] = direction / np.linalg.norm(direction)
        self.rank += 1

    @staticmethod
    def of(vectors: NDArray[np.float32], floor: float = ENOUGH) -> Basis:
        """The basis whose ``vectors`` these are. Raises StateError when they are none."""
        if vectors.ndim != 2 or vectors.shape[1] != CODE:
            raise StateError(f"A language basis is [E, {CODE}], not {list(vectors.shape)}.")
        basis = Basis(len(vectors))
        basis.vectors, basis.floor = np.array(vectors, np.float32), floor
        gram = basis.vectors.T.astype(np.float64) @ basis.vectors
        basis.rank = int(np.rint(np.diag(gram)).sum())
        wanted = np.diag((np.arange(CODE) < basis.rank).astype(float))
        if not np.allclose(gram, wanted, atol=1e-4):
            raise StateError("The columns of this language basis are not orthonormal.")
        return basis
