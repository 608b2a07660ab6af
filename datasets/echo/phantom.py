"""Echo phantom: apical clips drawn from physics and anatomy, with truth at every frame.

Not a patient anywhere: scatterers, beams and a moving heart. The cavity label follows the
convention of hand outlines: the inner border of the wall, closed by a straight line between the
hinges of the mitral leaflets, papillary muscles inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.clip import ATRIUM, CAVITY, MYOCARDIUM, EchoClip
from retain.datasets.echo.grid import GRID_SIZE
from retain.datasets.echo.phantom_heart import Heart, Pose, draw_heart
from retain.datasets.echo.phantom_look import DIFFICULTY, draw_look, draw_pose
from retain.datasets.echo.phantom_motion import Cycle, fill
from retain.datasets.echo.phantom_paint import paint
from retain.datasets.echo.phantom_render import Beams, Renderer, finish
from retain.pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class PhantomConfig:
    """What a clip is. Raises UsageError for what cannot be drawn."""

    size: int = GRID_SIZE
    """Side of the square, pixels."""
    frames: int = 10
    """Frames of ``make_clip``."""
    preset: Literal["easy", "default", "poor"] = "default"
    span: Literal["systole", "any"] = "systole"
    """``systole``: from end-diastole (first) to end-systole (last), evenly, as CAMUS is resampled.
    ``any``: consecutive frames of a beat, starting anywhere, at 15 to 50 per second."""

    def __post_init__(self) -> None:
        if self.preset not in DIFFICULTY:
            raise UsageError(f"preset {self.preset!r} is none of {', '.join(DIFFICULTY)}")
        if not 32 <= self.size <= 512:
            raise UsageError(f"size must be 32 to 512 pixels, got {self.size}")
        if self.frames < 2:
            raise UsageError(f"a clip needs at least 2 frames, got {self.frames}")


def make_clip(seed: int, config: PhantomConfig = PhantomConfig()) -> EchoClip:
    """One clip, always the same for a seed. EF, EDV and ESV are exact for the drawn outline."""
    case = _Case(seed, config)
    n = config.frames
    if config.span == "systole":
        step = case.beats[0].seconds * case.cycle.systole / (n - 1)
        times = step * np.arange(n)
    else:
        step = 1.0 / case.rng.uniform(15, 50)
        times = case.rng.uniform(0, case.beats[0].seconds) + step * np.arange(n)
    return case.clip(times, 1.0 / step)


def make_stream(
    seed: int, seconds: float = 4.0, fps: float = 40.0, config: PhantomConfig = PhantomConfig()
) -> EchoClip:
    """Several beats in real time; ``ed`` and ``es`` are those of the first whole beat."""
    count = round(seconds * fps)
    if count < 2 or fps <= 0:
        raise UsageError(f"{seconds} s at {fps} frames per second is not a clip")
    return _Case(seed, config).clip(np.arange(count) / fps, fps)


@dataclass(frozen=True, slots=True)
class _Beat:
    start: float
    seconds: float
    strength: float
    """Contraction at its end-systole, 1 for the first beat."""

    @property
    def end(self) -> float:
        return self.start + self.seconds


class _Case:
    """Everything a seed decides."""

    def __init__(self, seed: int, config: PhantomConfig) -> None:
        self.seed, self.config = seed, config
        self.rng = rng = np.random.default_rng([seed, 0x6EC40])
        level = DIFFICULTY[config.preset]
        low = bool(rng.random() < 0.4)
        ef = float(np.clip(rng.normal(0.36, 0.09) if low else rng.normal(0.60, 0.06), 0.12, 0.78))
        heart = draw_heart(rng, low)
        self.pose, half, depth = draw_pose(rng, heart)
        self.heart = _with_ef(heart, ef, self.pose, rng.uniform(0.2, 0.34))
        self.look = draw_look(rng, level, config.size, half, depth)
        rough = rng.normal(0, level.rough, 2)
        zoom = 1.0 + rng.normal(0, level.rough)
        self.beams = Beams(self.look, config.size, (rough[0], rough[1]), zoom)
        self.cycle = Cycle(systole=rng.uniform(0.33, 0.42))
        self.seconds = 60.0 / rng.uniform(50, 105)
        self.irregular = rng.uniform(0.1, 0.25) if rng.random() < 0.15 else 0.01
        self.beats = [_Beat(0.0, self.seconds, 1.0)]
        self.drift = rng.normal(0, 1, 4)
        self.sweep = rng.uniform(0.5, 3.0) if rng.random() < 0.3 else 0.5
        self.renderer = Renderer(rng, self.heart, paint(rng, self.heart, level.hard), self.beams)

    def _beat(self, t: float) -> _Beat:
        """The beat at time ``t``; beats are drawn as far as they are asked for."""
        while self.beats[-1].end < t:
            last = self.beats[-1]
            seconds = self.seconds * float(np.clip(self.rng.normal(1, self.irregular), 0.55, 1.6))
            # A short pause fills less, so the next beat throws out less.
            strength = float(np.clip(1 + 0.6 * (last.seconds / self.seconds - 1), 0.7, 1.0))
            self.beats.append(_Beat(last.end, seconds, strength))
        return next(b for b in self.beats if t <= b.end + 1e-9)

    def clip(self, times: NDArray[np.floating[Any]], fps: float) -> EchoClip:
        """Render the frames at ``times`` (seconds from the first end-diastole)."""
        size = self.config.size
        frames = np.zeros((len(times), size, size), np.uint8)
        masks = np.zeros_like(frames)
        contraction = np.empty(len(times))
        for i, t in enumerate(times):
            beat = self._beat(float(t))
            phase = (t - beat.start) / beat.seconds
            c = contraction[i] = beat.strength * self.cycle.contraction(phase)
            walls, pose = self.heart.at(c), self._pose(float(t), c)
            grey = self.renderer.frame(walls, pose, self.cycle.opening(phase), c)
            frames[i] = finish(self.look, self.beams.convert(grey), self.beams.fan)
            self._label(masks[i], pose, c)
        ed, es = self._phases(times, contraction)
        edv, esv = (
            self.heart.volume(contraction[ed], self.pose),
            self.heart.volume(contraction[es], self.pose),
        )
        return EchoClip(
            name=f"phantom-{self.config.preset}-{self.seed}",
            frames=frames,
            masks=masks,
            spacing_mm=(10.0 / self.beams.px_per_cm,) * 2,
            fps=fps,
            patient=f"phantom{self.seed}",
            view="4CH" if self.heart.ventricle > 0 else "2CH",
            ed=ed,
            es=es,
            ef=100.0 * (edv - esv) / edv,
            edv_ml=edv,
            esv_ml=esv,
        )

    def _phases(self, times: NDArray[np.floating[Any]], c: NDArray[np.float64]) -> tuple[int, int]:
        first = times <= self.beats[0].seconds if self.config.span == "systole" else times >= 0
        return int(np.where(first, c, 9.0).argmin()), int(np.where(first, c, -9.0).argmax())

    def _pose(self, t: float, c: float) -> Pose:
        """The heart rocks a little with each beat; hand and breath move the probe slowly."""
        p, d = self.pose, self.drift
        slow = self.sweep * (math.sin(1.5 * t + d[0]) - math.sin(d[0]))
        return Pose(
            p.x + 0.05 * d[1] * c + 0.15 * d[2] * slow,
            p.depth + 0.06 * d[3] * c + 0.1 * d[1] * slow,
            p.tilt + math.radians(1.5 * d[0] * c + 2.0 * d[3] * slow),
            p.mirror,
            p.shear,
        )

    def _label(self, mask: NDArray[np.uint8], pose: Pose, c: float) -> None:
        walls = self.heart.at(c)
        for outline, value in (
            (self.heart.epicardium(walls), MYOCARDIUM),
            (self.heart.left_atrium(walls), ATRIUM),
            (self.heart.cavity(walls), CAVITY),
        ):
            fill(self.beams.to_pixels(pose.place(outline)), mask, value)
        mask[~self.beams.fan] = 0


def _with_ef(heart: Heart, ef: float, pose: Pose, share: float) -> Heart:
    """The heart with a part ``share`` of the ejection done along the axis, the rest across."""
    return replace(heart, shortening=share * ef).contracting(ef, pose)
