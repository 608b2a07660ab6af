"""Clips with their provenance, and the questions a bank of them answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Span:
    """Frames ``first`` to ``last``, both included, of ``stream``."""

    stream: str
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Window:
    """Frames of a stream that follow each other."""

    frames: Frames = field(repr=False)
    """uint8 [T, H, W, C], C 1 (grey) or 3 (RGB)."""
    span: Span
    start_s: float
    end_s: float
    score: float = 0.0
    """The highest of its frames: the router's, or a novelty."""

    def described(
        self,
        descriptor: NDArray[np.floating],
        coarse: NDArray[np.floating] | None = None,
        *,
        score: float | None = None,
        origin: str = "",
        caption: str = "",
    ) -> Clip:
        """The clip to write into a bank; ``score`` instead of the window's own."""
        kept = self.score if score is None else score
        return Clip(
            self.frames, descriptor, self.span, self.start_s, self.end_s, kept,
            coarse, origin, caption,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clip:
    """A reference clip: what a bank takes in and gives back."""

    frames: Frames = field(repr=False)
    """uint8 [T, H, W, C]."""
    descriptor: NDArray[np.floating] = field(repr=False)
    """[E] of any length but zero; kept as float32 of unit length."""
    span: Span
    start_s: float = 0.0
    end_s: float = 0.0
    score: float = 0.0
    """Why it was worth keeping, at the time."""
    coarse: NDArray[np.floating] | None = field(default=None, repr=False)
    """[F], likewise, for banks with a coarse stage."""
    origin: str = ""
    """Where it is from, for people: a file, a world and its clip. The first 96 bytes are kept."""
    caption: str = ""
    """Found by exact match only."""
    synthetic: bool = False
    """A model made it, in whole or in part. No bank takes it."""


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """Which clips to find: the ``k`` most like ``descriptor``, no two of them too much alike."""

    descriptor: NDArray[np.floating]
    """[E]."""
    k: int = 3
    coarse: NDArray[np.floating] | None = None
    """[F]: the ``pool`` nearest by it are the candidates. Without it the nearest by descriptor."""
    own: Span | None = None
    """The asker's own frames. Clips of the same stream within ``guard`` frames are no answer: the
    best reference to a clip is itself, and proves nothing."""
    guard: int | None = None
    """Twice the length of ``own`` if None."""
    only: str | None = None
    """Clips of this stream."""
    caption: str | None = None
    """Clips with exactly this caption."""
    diversity: float = 0.3
    """Weight against likeness to those already chosen (maximal marginal relevance); 0: none."""
    pool: int = 32


@dataclass(frozen=True, slots=True)
class Match:
    """A clip found, and its cosine to the question (NaN where all were asked for)."""

    clip: Clip
    cosine: float


def as_model(clips: Sequence[Frames]) -> NDArray[np.float32]:
    """Clips uint8 [T, H, W, C] as models take them: float32 [K, T, C, H, W] in 0..1."""
    return np.stack(clips).transpose(0, 1, 4, 2, 3).astype(np.float32) / np.float32(255)


def as_bytes(frames: NDArray[np.floating]) -> Frames:
    """float [T, C, H, W] in 0..1 as a bank keeps it: uint8 [T, H, W, C]."""
    steps = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(steps.transpose(0, 2, 3, 1))


def key(text: str) -> int:
    """A number that stands for ``text`` of any length, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def packed(text: str, size: int) -> Frames:
    """The first ``size`` bytes of ``text``, zeros after its end, no character cut in two."""
    kept = text.replace("\0", " ").encode("utf-8", "replace")[:size]
    whole = kept.decode("utf-8", "ignore").encode()
    return np.frombuffer(whole.ljust(size, b"\0"), np.uint8)


def unpacked(row: Frames) -> str:
    """The text of ``packed``."""
    return row.tobytes().rstrip(b"\0").decode("utf-8", "replace")
