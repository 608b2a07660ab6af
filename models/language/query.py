"""Words against features: which word a place is, and how much it is one word rather than any.

Everything here is cosines of unit vectors and works on patches, pixels and Gaussians alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import UsageError

Floats = NDArray[np.float32]

SHARP = 100.0
"""Factor on cosines before the softmax over words: CLIP's own, at the end of its training."""
RELEVANT = 10.0
"""Factor on cosines before the softmax of relevancy (LERF, LangSplat)."""
MOST = 254
"""Words at once: masks are 8 bits, 0 is none, 255 stays free as DAVIS has it."""
CANONICAL = ("object", "things", "stuff", "texture")
"""What a word is compared with for its relevancy (LERF, arXiv 2303.09553)."""
BACKGROUND = ("background", "wall", "floor", "ceiling", "sky", "ground", "grass", "road")
"""Words that compete with those asked for; where one of them wins, nothing is named."""
PHRASES = (
    "a photo of a {}.", "a photo of the {}.", "a picture of one {}.", "a close view of a {}.",
    "a {} far away.", "a blurred photo of a {}.", "a {} in a room.", "a {} outdoors.",
)  # fmt: skip
"""A word's embedding is the mean over these; the authors of CLIP-DINOiser use ImageNet's 80."""


def words_in(text: str) -> tuple[str, ...]:
    """``"cat, a red car"`` as words. Raises UsageError for none, too many, or one twice."""
    words = tuple(" ".join(word.split()) for word in text.split(","))
    words = tuple(word for word in words if word)
    if not words:
        raise UsageError(
            "--text names nothing to look for.", hint="Write words with commas: --text 'cat,dog'."
        )
    if len(words) > MOST:
        raise UsageError(f"--text names {len(words)} things; masks have room for {MOST}.")
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise UsageError(f"--text names {twice[0]!r} twice.")
    return words


def probabilities(features: Floats, words: Floats, background: Floats | None = None) -> Floats:
    """[..., K]: how probable each of ``words`` [K, E] is at ``features`` [..., E], unit rows both.

    What is left to 1 goes to the likeliest of ``background`` [M, E], so that adding a synonym to
    it moves nothing else.
    """
    every = words if background is None else np.concatenate([words, background])
    logits = SHARP * (features @ every.T)
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    own, other = exponents[..., : len(words)], exponents[..., len(words) :]
    rest = other.max(axis=-1, initial=0.0)
    out = own / (own.sum(axis=-1) + rest)[..., None]
    return np.asarray(out, np.float32)


def relevancy(features: Floats, word: Floats, canonical: Floats) -> Floats:
    """[...], 0 to 1: how much ``features`` [..., E] are ``word`` [E] rather than the one of
    ``canonical`` [M, E] they are likest; 0.5 is as much."""
    against = features @ canonical.T - (features @ word)[..., None]
    worst = against.max(axis=-1)
    return np.asarray(1 / (1 + np.exp(RELEVANT * worst)), np.float32)


def mean_phrases(embedded: Floats, count: int) -> Floats:
    """[K, E] unit rows: of the embeddings [K * count, E] of each word in ``count`` phrases, word by
    word, the mean."""
    rows = embedded.reshape(-1, count, embedded.shape[1]).mean(axis=1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def phrased(words: Sequence[str]) -> list[str]:
    return [phrase.format(word) for word in words for phrase in PHRASES]
