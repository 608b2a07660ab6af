"""How good a network is on phantoms it has not seen; what `retain eval echo` prints.

Phantom scores say nothing about patients: they compare networks, and find what broke.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from retain.datasets.echo import metrics, volumes
from retain.datasets.echo.clip import CAVITY, LABELS, EchoClip
from retain.datasets.echo.normalise import Normaliser
from retain.datasets.echo.phantom import PhantomConfig, make_clip
from retain.models.gdkvm.data import to_input
from retain.models.gdkvm.network import Gdkvm

HELD_OUT = 9_000_000
"""Seeds from here on are never trained on."""

Labels = NDArray[np.uint8]


class Segmenter(Protocol):
    """Anything that labels a clip of normalised grey frames [T, H, W], 0..1, in order of time."""

    def __call__(self, frames: NDArray[np.float32]) -> Labels: ...


def held_out(
    clips: int, preset: str = "default", size: int = 112, frames: int = 10
) -> list[EchoClip]:
    """Phantoms from end-diastole to end-systole whose seeds no training uses."""
    config = PhantomConfig(size=size, frames=frames, preset=preset)  # type: ignore[arg-type]
    return [make_clip(HELD_OUT + i, config) for i in range(clips)]


def streaming(model: Gdkvm) -> Segmenter:
    """``model`` frame by frame from an empty state; labels are those of ``LABELS``."""
    palette = np.array([0, *(LABELS.index(name) + 1 for name in model.config.objects)], np.uint8)

    def segment(frames: NDArray[np.float32]) -> Labels:
        out = np.zeros(frames.shape, np.uint8)
        with torch.inference_mode():
            state = model.start(1)
            for t, picture in enumerate(to_input(frames)):
                answer, state = model.step(model.describe(picture[None]), state, first=t == 0)
                out[t] = palette[answer.logits[0].argmax(dim=0).numpy()]
        return out

    return segment


def normalised(clip: EchoClip) -> NDArray[np.float32]:
    """Frames as a live stream would normalise them."""
    levels = Normaliser()
    return np.stack([levels(frame.astype(np.float32) / 255) for frame in clip.frames])


@dataclass(frozen=True, slots=True)
class Score:
    """Means over clips, each with its bootstrap interval."""

    ends: metrics.PatientMean
    """Cavity Dice at end-diastole and end-systole."""
    middle: metrics.PatientMean
    """Cavity Dice of the frames between."""
    hd95_mm: metrics.PatientMean
    ef: metrics.Agreement
    """Single-plane area-length EF from the masks against the phantom's exact one, per cent."""


def score(segment: Segmenter, clips: Sequence[EchoClip], label: int = CAVITY) -> Score:
    """Segment every clip as it is and compare with its truth."""
    ends, middle, far = _Cases(), _Cases(), _Cases()
    predicted, reference = [], []
    for clip in clips:
        found = segment(normalised(clip)) == label
        truth = clip.masks == label
        for t in range(len(found)):
            at_end = t in (clip.ed, clip.es)
            (ends if at_end else middle).add(clip, metrics.dice(found[t], truth[t]))
            if at_end:
                gap = metrics.distances(found[t], truth[t], clip.spacing_mm)
                far.add(clip, gap.hd95 if gap else None)
        if label == CAVITY:
            predicted.append(_ef(found, clip))
            reference.append(clip.ef)
    agreement = metrics.agreement(predicted, reference)
    return Score(ends.interval(), middle.interval(), far.interval(), agreement)


class _Cases:
    """Scores and whose they are."""

    def __init__(self) -> None:
        self.patients: list[str] = []
        self.scores: list[float | None] = []

    def add(self, clip: EchoClip, score: float | None) -> None:
        self.patients.append(clip.patient)
        self.scores.append(score)

    def interval(self) -> metrics.PatientMean:
        return metrics.patient_mean(self.patients, self.scores)


def _ef(found: NDArray[np.bool_], clip: EchoClip) -> float:
    """Area-length EF at the clip's own ED and ES; 0 where a mask is empty."""
    edv, esv = (
        volumes.area_length(volumes.largest_part(found[t]), clip.spacing_mm).volume
        for t in (clip.ed, clip.es)
    )
    ef = volumes.ejection_fraction(edv, esv)
    return ef if np.isfinite(ef) else 0.0


Damage = Callable[[NDArray[np.float32]], None]
"""Damages the frames of a clip in place."""


def damaged_dice(
    segment: Segmenter, clips: Iterable[EchoClip], hit: Sequence[int], damage: Damage
) -> list[float]:
    """Mean cavity Dice, per clip, on the frames ``hit`` after ``damage`` was done to them."""
    scores = []
    for clip in clips:
        frames = normalised(clip)
        hurt = frames[list(hit)]
        damage(hurt)
        frames[list(hit)] = hurt
        found = segment(frames) == CAVITY
        each = [metrics.dice(found[t], clip.masks[t] == CAVITY) for t in hit]
        scores.append(float(np.mean([d for d in each if d is not None])))
    return scores


def blacked(frames: NDArray[np.float32]) -> None:
    """No contact."""
    frames[:] = 0


def half_shadowed(frames: NDArray[np.float32]) -> None:
    """Behind a rib."""
    frames[..., : frames.shape[-1] // 2] *= 0.1


def state_norms(model: Gdkvm, frames: NDArray[np.float32]) -> list[float]:
    """|S| of the gated-delta state after each frame of a clip."""
    norms: list[float] = []
    with torch.inference_mode():
        state = model.start(1)
        for t, picture in enumerate(to_input(frames)):
            _, state = model.step(model.describe(picture[None]), state, first=t == 0)
            norms.append(float(torch.linalg.vector_norm(state.delta)))
    return norms
