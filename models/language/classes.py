"""A teacher without weights: procedural rooms say what stands where, and each class has a code."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.room_classes import CLASSES, CODE_SIZE, codes
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.frame import Image

Floats = NDArray[np.float32]

CONE = 1.5
"""Length of what all words have in common, against 1 of what is their own: CLIP's embeddings lie
in a cone (arXiv 2203.02053)."""


class ClassTeacher:
    """Knows the words of procedural rooms and, of labelled pictures, where they are.

    dim    16: the class codes themselves; more: a space like CLIP's, in which all words have
           something in common
    patch  pixels of the side of one patch, which is as its middle pixel
    noise  length of what is random in a patch, against 1 of what it means; the same for the same
           labels
    """

    canonical = CLASSES[1:]

    def __init__(self, dim: int = CODE_SIZE, patch: int = 1, noise: float = 0.0) -> None:
        if dim < CODE_SIZE or patch < 1 or not 0 <= noise < np.inf:
            raise UsageError(
                f"The teacher 'classes' needs at least {CODE_SIZE} numbers, patches of 1 pixel or "
                f"more and noise >= 0, not {dim}, {patch} and {noise}."
            )
        self.name, self.dim = f"classes:{dim},{patch},{noise:g}", dim
        self.patch, self._noise = patch, noise
        self._table = codes() if dim == CODE_SIZE else _cone(dim)

    @classmethod
    def of(cls, variant: str) -> ClassTeacher:
        """Of ``DIM,PATCH,NOISE``, or the first of them. Raises UsageError."""
        try:
            dim, patch, noise = (*variant.split(","), "1", "0")[:3] if variant else ("16", "1", "0")
            return cls(int(dim), int(patch), float(noise))
        except ValueError:
            raise UsageError(
                f"The teacher 'classes' cannot be {variant!r}.",
                hint="Write classes, classes:512, or classes:512,8,0.5: numbers, patch, noise.",
            ) from None

    def dense(self, image: Image, labels: NDArray[np.uint8] | None = None) -> Floats:
        """float32 [h, w, dim], unit, zero without label. Raises UsageError without ``labels``."""
        if labels is None:
            raise UsageError(
                "The teacher 'classes' needs pictures whose pixels are labelled.",
                hint="Use a generated scene, room://?seed=1, or --language clip.",
            )
        size, half = self.patch, self.patch // 2
        height, width = labels.shape[0] // size, labels.shape[1] // size
        middle = labels[half::size, half::size][:height, :width]
        rows: Floats = self._table[np.minimum(middle, len(self._table) - 1)]
        if not self._noise:
            return rows
        named = np.linalg.norm(rows, axis=2, keepdims=True)
        rng = np.random.default_rng(zlib.crc32(labels.tobytes()))
        noise = rng.standard_normal(rows.shape).astype(np.float32)
        rows = rows + noise * named * np.float32(self._noise / np.sqrt(self.dim))
        return np.asarray(
            rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-9), np.float32
        )

    def text(self, words: Sequence[str]) -> Floats:
        """float32 [n, dim]. Raises UsageError for a word that is no class."""
        for word in words:
            if word not in CLASSES[1:]:
                raise UsageError(
                    f"The teacher 'classes' knows no {word!r}.", hint=nearest(word, CLASSES[1:])
                )
        return self._table[[CLASSES.index(word) for word in words]]


def _cone(dim: int) -> Floats:
    """[17, dim] unit vectors about a common one; zeros for "none"."""
    rng = np.random.default_rng(0x7EAC4E5)
    rows = rng.standard_normal((len(CLASSES), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[1:] += CONE * rows[0]
    rows[0] = 0
    rows[1:] /= np.linalg.norm(rows[1:], axis=1, keepdims=True)
    return rows.astype(np.float32)
