"""A causal detector of shot boundaries: each frame is judged when it comes, by what came before.

A cut must be seen by both witnesses: the frame encoder (M, the cosine change of CurveStream's
router, arXiv 2603.19571) and the block colours of the picture. What each change is worth beyond
the mean of the last few frames, over its own scale, gives

    score = (M / motion)^w (P / pixels)^(1 - w)        a change of picture from 1 on

and a change of picture is a boundary unless

- its structure is that of the frame before: a sudden light (see ``structure_change``);
- it undoes the last boundary within ``flash_s``: the step out turns against the step in. That is
  the router's curvature C, near 2 for A -> B -> A and about 1.5 among unrelated pictures;
- the picture is blank: what counts is whether the next picture is that of before. A blank that
  lasts ``blank_s`` is a boundary by itself.

A gradual transition is looked for over ``lags`` frames: the picture has changed, its structure too,
and on the way it was a steady mix of the two ends. A pan or an exposure ramp is not.

Pictures that no feature describes are judged by their blocks alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from retain.models.boundaries import measures
from retain.models.boundaries.measures import Grid
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image
from retain.pipeline.results import Verdict

PAST = 5
"""Frames whose changes a new one is compared with."""


@dataclass(frozen=True, slots=True)
class BoundaryConfig:
    """Raises UsageError when a value cannot work."""

    motion: float = 0.18
    """M of a cut, in [0, 2]."""
    pixels: float = 11.0
    """P of a cut, the median block change, 0 to 255."""
    weight: float = 0.5
    """Of M against P: 1 for M alone, 0 for P alone."""
    past: float = 0.5
    """Share of the mean change of the last frames that a change must stand above."""
    structure: float = 0.07
    """Least change of structure; 0 takes sudden lights for boundaries."""
    turn: float = 1.8
    """Curvature from which a return is a flash; above 2 there are none."""
    flash_s: float = 0.2
    """Longest time away of a return."""
    blank: float = 3.0
    """Contrast under which a picture is blank."""
    blank_s: float = 0.1
    refractory_s: float = 0.12
    """Least time between cuts."""
    lags: tuple[int, ...] = (8, 16)
    """Frames over which gradual transitions are looked for; empty: they are not."""
    longest_s: float = 1.0
    """A run of frames that lasts longer says nothing about a gradual transition."""
    bend: float = 0.33
    """Largest distance from a steady mix, as a share of the change."""
    uneven: float = 0.25
    """Largest error of the place on the way, as a share of the change."""
    gradual_pixels: float = 14.0
    gradual_structure: float = 0.17
    gradual_s: float = 1.0
    """Least time from a gradual boundary to the next one."""

    def __post_init__(self) -> None:
        for name in ("motion", "pixels", "flash_s", "longest_s"):
            self._check(name, 0.0 < getattr(self, name) < math.inf, "> 0")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                self._check(field.name, 0.0 <= value < math.inf, ">= 0")
        self._check("weight", self.weight <= 1.0, "at most 1")
        good = all(4 <= lag <= 250 for lag in self.lags)
        self._check("lags", good and list(self.lags) == sorted(set(self.lags)), "rising, 4 to 250")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise UsageError(f"Boundary option {name} must be {wanted}, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class _Look:
    """A picture, or a difference of two."""

    grid: Grid
    feature: NDArray[np.float32] | None

    def motion(self, new: _Look) -> float:
        """M = 1 - cosine, in [0, 2]; NaN where a feature is missing."""
        if self.feature is None or new.feature is None:
            return math.nan
        return 0.5 * float(((new.feature - self.feature) ** 2).sum())

    def minus(self, old: _Look) -> _Look:
        both = self.feature is not None and old.feature is not None
        return _Look(self.grid - old.grid, self.feature - old.feature if both else None)

    def turn(self, before: _Look) -> float:
        """C = 1 - cosine of two differences, in [0, 2]: of the features, else of the blocks."""
        a, b = self.feature, before.feature
        if a is None or b is None:
            a, b = self.grid.ravel(), before.grid.ravel()
        lengths = math.sqrt(float(a @ a) * float(b @ b))
        return 1.0 - float(a @ b) / lengths if lengths > 0 else math.nan


def _unit(feature: NDArray[np.floating] | None) -> NDArray[np.float32] | None:
    """float32 [D] of unit length; None where it has no direction."""
    if feature is None:
        return None
    wide = np.asarray(feature, np.float64)
    length = math.sqrt(float(wide @ wide)) if np.isfinite(wide).all() else 0.0
    return np.asarray(wide / length, np.float32) if length > 1e-12 else None


class BoundaryDetector:
    """Judges the frames of one stream.

    >>> detector = BoundaryDetector()
    >>> verdict = detector.step(image, feature, seconds)
    """

    def __init__(self, config: BoundaryConfig | None = None) -> None:
        self.config = config or BoundaryConfig()
        self._depth = max(self.config.lags, default=0) + 1
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._run = np.zeros((self._depth, *measures.SHAPE), np.float32)
        """Grids since the last boundary, the newest last; ``_count`` of them are in use."""
        self._run_s = np.zeros(self._depth)
        self._count = 0
        self._past = np.zeros((PAST, 2))
        """M and P of the last frames, the newest last; ``_past_count`` of them are in use."""
        self._past_count = 0
        self._shown: _Look | None = None
        """The newest picture that was not blank, unless a blank has become the scene."""
        self._step: _Look | None = None
        """Into the last cut: the picture after it minus the one before."""
        self._last_s = self._cut_s = self._gradual_s = -math.inf
        self._blank_s = math.inf
        """When the blank that is on screen began."""

    def step(self, image: Image, feature: NDArray[np.floating] | None, seconds: float) -> Verdict:
        """Judge the next frame.

        ``image``: uint8 [H, W, 3] RGB, any size; ``feature``: float [D] of any length, None or
        unusable (zero, not finite) where there is none. Time running backwards starts anew.
        Raises UsageError for features of another length than before, or for no time.
        """
        if not math.isfinite(seconds):
            raise UsageError(f"A frame's time must be a finite number of seconds, not {seconds}.")
        look = _Look(measures.grid(image), _unit(feature))
        if seconds < self._last_s:
            self.reset()
        self._last_s = seconds
        if measures.contrast(look.grid) < self.config.blank:
            return self._blank(seconds)
        verdict = self._judge(look, seconds)
        self._blank_s = math.inf
        if verdict.boundary:
            self._count = 0
        self._remember(look, seconds)
        return verdict

    def _blank(self, seconds: float) -> Verdict:
        """A blank picture: nothing yet, or the scene from now on."""
        self._blank_s = min(self._blank_s, seconds)
        self._count = 0
        lasted = seconds - self._blank_s >= self.config.blank_s
        if self._shown is None or not lasted:
            return Verdict(False, "none", 0.0)
        self._shown = None
        if self._settling(seconds):
            return Verdict(False, "none", 0.0)
        self._cut_s, self._step = seconds, None
        return Verdict(True, "cut", 1.0)

    def _judge(self, look: _Look, seconds: float) -> Verdict:
        if self._shown is None:
            if self._blank_s == math.inf:
                return Verdict(False, "none", 0.0)
            self._cut_s, self._step = seconds, None
            return Verdict(True, "cut", 1.0)
        old, config = self._shown, self.config
        motion, pixels = old.motion(look), measures.block_change(old.grid, look.grid)
        score = self._score(motion, pixels)
        if score < 1.0:
            self._push(motion, pixels)
            if self._gradual(look, seconds):
                self._gradual_s = seconds
                return Verdict(True, "gradual", score, motion, pixels)
            light = self._blank_s < math.inf
            return Verdict(False, "flash" if light else "none", score, motion, pixels)
        structure = measures.structure_change(old.grid, look.grid)
        turn, step = math.nan, look.minus(old)
        if self._step is not None and seconds - self._cut_s <= config.flash_s + 1e-6:
            turn = step.turn(self._step)
        numbers = score, motion, pixels, structure, turn
        if structure < config.structure or turn >= config.turn:
            self._step = None
            return Verdict(False, "flash", *numbers)
        if seconds - self._cut_s < config.refractory_s or self._settling(seconds):
            return Verdict(False, "none", *numbers)
        self._cut_s, self._step = seconds, step
        self._past_count = 0
        return Verdict(True, "cut", *numbers)

    def _score(self, motion: float, pixels: float) -> float:
        """1 from where a change is one of picture."""
        held = self._past[PAST - self._past_count :]
        usual = held.mean(0) if self._past_count else np.zeros(2)
        config = self.config
        p = max(pixels - config.past * float(usual[1]), 0.0) / config.pixels
        if math.isnan(motion):
            return p
        m = max(motion - config.past * float(usual[0]), 0.0) / config.motion
        return float(m**config.weight * p ** (1.0 - config.weight))

    def _settling(self, seconds: float) -> bool:
        """Whether a gradual transition was just found: its end is not another boundary."""
        return seconds - self._gradual_s < self.config.gradual_s

    def _gradual(self, look: _Look, seconds: float) -> bool:
        config = self.config
        if self._settling(seconds):
            return False
        for lag in config.lags:
            first = self._depth - lag
            if self._count < lag or seconds - self._run_s[first] > config.longest_s:
                break
            old = self._run[first]
            if (
                measures.block_change(old, look.grid) >= config.gradual_pixels
                and measures.structure_change(old, look.grid) >= config.gradual_structure
            ):
                off, place = measures.bend(np.concatenate([self._run[first:], look.grid[None]]))
                if off <= config.bend and place <= config.uneven:
                    return True
        return False

    def _push(self, motion: float, pixels: float) -> None:
        self._past[:-1] = self._past[1:]
        self._past[-1] = 0.0 if math.isnan(motion) else motion, pixels
        self._past_count = min(self._past_count + 1, PAST)

    def _remember(self, look: _Look, seconds: float) -> None:
        self._run[:-1], self._run_s[:-1] = self._run[1:], self._run_s[1:]
        self._run[-1], self._run_s[-1] = look.grid, seconds
        self._count = min(self._count + 1, self._depth)
        self._shown = look
