"""What may happen to an echo clip on its way from the probe to the network, for training.

All functions take one clip and a generator, and do the same to all its frames unless they say so.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.clip import BACKGROUND
from retain.datasets.echo.normalise import normalise

Frames = NDArray[np.float32]
"""[T, H, W], 0..1."""
Labels = NDArray[np.uint8]


def augment(
    frames: NDArray[np.uint8], masks: Labels, rng: np.random.Generator
) -> tuple[Frames, Labels]:
    """Where the heart lies, then how it looks; normalised as live frames are."""
    looks, masks = place(frames.astype(np.float32) / np.float32(255), masks, rng)
    return normalise(look(looks, rng)), masks


def place(frames: Frames, masks: Labels, rng: np.random.Generator) -> tuple[Frames, Labels]:
    """Mirrored one time in four (both display conventions are in use), turned, scaled, shifted."""
    side = frames.shape[-1]
    angle, scale = rng.normal(0, 7), float(np.exp(rng.normal(0, 0.12)))
    shape = np.exp(rng.normal(0, 0.06))
    shift = rng.normal(0, 0.045, 2) * side
    centre = (side - 1) / 2
    turn = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    turn[:, 0] *= shape
    turn[:, 2] = centre + shift - turn[:, :2] @ (centre, centre)
    if rng.random() < 0.25:
        turn[0] = (0, 0, side - 1) - turn[0]
    size = (side, side)
    moved = np.stack(
        [cv2.warpAffine(frame, turn, size, flags=cv2.INTER_LINEAR) for frame in frames]
    )
    labels = np.stack(
        [
            cv2.warpAffine(mask, turn, size, flags=cv2.INTER_NEAREST, borderValue=BACKGROUND)
            for mask in masks
        ]
    )
    return moved, labels


def look(frames: Frames, rng: np.random.Generator) -> Frames:
    """Gain over depth and width, haze, transfer curve, grain, blur: what machines differ in."""
    out = frames * np.exp(field(frames.shape[-1], rng, 4, rng.uniform(0, 0.5)))
    if rng.random() < 0.3:
        out = out + rng.uniform(0, 0.15) * np.exp(field(frames.shape[-1], rng, 3, 1.0)) * (
            frames > 0
        )
    out = np.clip(out, 0, None) ** np.float32(np.exp(rng.normal(0, 0.3)))
    out = np.clip(out - rng.uniform(0, 0.08) * (rng.random() < 0.3), 0, None)
    out *= np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.4:
        sigma = rng.uniform(0.3, 1.3)
        out = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in out])
    if rng.random() < 0.5:
        coarse = int(rng.integers(1, 3))
        side = frames.shape[-1] // coarse
        grain = rng.standard_normal((len(out), side, side), np.float32) * rng.uniform(0.02, 0.25)
        out = out * (1 + np.stack([cv2.resize(g, out.shape[1:]) for g in grain]))
        out = out + rng.uniform(0, 0.02) * rng.standard_normal(out.shape, np.float32) * (frames > 0)
    result: Frames = np.clip(out, 0, 1).astype(np.float32)
    return result


def field(side: int, rng: np.random.Generator, knots: int, strength: float) -> NDArray[np.float32]:
    """A smooth random picture [side, side], mean about 0, standard deviation ``strength``."""
    coarse = rng.standard_normal((knots, knots)).astype(np.float32) * np.float32(strength)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def corrupt(frames: Frames, rng: np.random.Generator, probability: float) -> Frames:
    """A run of 1 to 3 frames, never the first, goes black, dim or half into shadow; often the last.

    This is what makes the memory worth having: on clean clips every frame answers for itself.
    """
    out = frames.copy()
    last = len(out) - 1
    if last < 1:
        return out
    if rng.random() < probability:
        start = int(rng.integers(1, last + 1))
        damage(out, range(start, min(start + int(rng.integers(1, 4)), last + 1)), rng)
    if rng.random() < probability / 2:
        damage(out, range(max(1, last - int(rng.integers(0, 2))), last + 1), rng)
    return out


def damage(frames: Frames, which: range, rng: np.random.Generator) -> None:
    """Black, dim with noise, or half shadowed, in place."""
    kind = int(rng.integers(3))
    side = frames.shape[-1]
    for t in which:
        if kind == 0:
            frames[t] = 0
        elif kind == 1:
            noise = 0.03 * rng.standard_normal(frames[t].shape, np.float32)
            frames[t] = np.clip(0.25 * frames[t] + noise * (frames[t] > 0), 0, 1)
        elif rng.random() < 0.5:
            frames[t][:, : side // 2] *= 0.1
        else:
            frames[t][:, side // 2 :] *= 0.1
