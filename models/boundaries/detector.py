"""A causal detector of shot boundaries: each frame is judged when it comes, by what came before.

A cut must be seen by both witnesses: the frame encoder (M, the cosine change of CurveStream's
router, arXiv 2603.19571) and the block colours of the picture. What each change is worth beyond
the mean of the last few frames, over its own scale, gives

    score = (M / motion)^w (P / pixels)^(1 - w)        a change of picture from 1 on

and a change of picture is a boundary unless

- its structure is that of the frame before: a sudden light (see ``structure_change``);
- it undoes the last sudden change within ``flash_s``: the way out turns against the way in. That
  is the router's curvature C, near 2 for A -> B -> A and about 1.5 among unrelated pictures;
- the picture is blank: what counts is whether the next picture is that of before. A blank that
  lasts ``blank_s`` is a boundary by itself.

A gradual transition is looked for over ``lags`` frames: the picture has changed, its structure too,
and on the way it was a steady mix of the two ends. A pan or an exposure ramp is not.

Pictures that no feature describes are judged by their blocks alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from retain.memory.base import Json, State
from retain.models.boundaries import measures
from retain.models.boundaries.measures import Grid
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Image
from retain.pipeline.results import Verdict

_TICK = 1e-6
"""Seconds of rounding in times."""
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
    structure: float = 0.06
    """Least change of structure of a boundary."""
    light: float = 0.25
    """How much more there must be where brightness went from none to full; less in proportion.
    With ``structure`` and ``light`` at 0, sudden lights are boundaries."""
    turn: float = 1.75
    """C from which a return is a flash: at least half of the way in is undone. Above 2: never."""
    flash_s: float = 0.2
    """Longest time away of a return."""
    blank: float = 3.0
    """Contrast under which a picture is blank."""
    blank_s: float = 0.1
    refractory_s: float = 0.1
    """Least time between cuts."""
    lags: tuple[int, ...] = (6, 10, 16)
    """Frames over which gradual transitions are looked for; empty: they are not."""
    longest_s: float = 1.0
    """A run of frames that lasts longer says nothing about a gradual transition."""
    bend: float = 0.37
    """Largest distance from a steady mix, as a share of the change."""
    uneven: float = 0.2
    """Largest error of the place on the way, as a share of the change."""
    gradual_motion: float = 0.2
    """Least M and P over a lag."""
    gradual_pixels: float = 14.0
    gradual_structure: float = 0.13
    gradual_light: float = 0.6
    """As ``structure`` and ``light``, over a lag."""
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

    def as_json(self) -> dict[str, Json]:
        return {**asdict(self), "lags": list(self.lags)}

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

    def structure(self, new: _Look) -> float:
        return measures.structure_change(self.grid, new.grid)

    def light(self, new: _Look) -> float:
        """Change of mean brightness, 0 to 1."""
        return abs(float(new.grid.mean()) - float(self.grid.mean())) / 255.0

    def minus(self, old: _Look) -> _Look:
        a, b = self.feature, old.feature
        return _Look(self.grid - old.grid, None if a is None or b is None else a - b)

    def turn(self, before: _Look) -> float:
        """C = 1 - cosine of two differences, in [0, 2]: of the features, else of the blocks."""
        a, b = self.feature, before.feature
        if a is None or b is None:
            a, b = self.grid.ravel(), before.grid.ravel()
        lengths = math.sqrt(float(a @ a) * float(b @ b))
        return 1.0 - float(a @ b) / lengths if lengths > 0 else math.nan


def _unit(feature: NDArray[np.floating]) -> NDArray[np.float32] | None:
    """float32 [D] of unit length; None where it has no direction."""
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
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._run: deque[tuple[float, _Look]] = deque(maxlen=max(self.config.lags, default=1))
        """Seconds and pictures since the last boundary."""
        self._past: deque[tuple[float, float]] = deque(maxlen=PAST)
        """M and P of the last frames without a sudden change."""
        self._shown: _Look | None = None
        """The newest picture that was not blank, unless a blank has become the scene."""
        self._before: _Look | None = None
        self._after: _Look | None = None
        """The pictures before and after the last sudden change."""
        self._dim = 0
        """Of the features, once there was one."""
        self._last_s = self._cut_s = self._change_s = self._gradual_s = -math.inf
        self._blank_s = math.inf
        """When the blank that is on screen began."""

    def step(self, image: Image, feature: NDArray[np.floating] | None, seconds: float) -> Verdict:
        """Judge the next frame.

        ``image``: uint8 [H, W, 3] RGB, any size; ``feature``: float [D] of any length, None or
        unusable (zero, not finite) where there is none. Time running backwards starts anew.
        Raises UsageError for features of another D than before, or for a time that is none.
        """
        if not math.isfinite(seconds):
            raise UsageError(f"A frame's time must be a finite number of seconds, not {seconds}.")
        if seconds < self._last_s:
            self.reset()
        look = _Look(measures.grid(image), self._usable(feature))
        self._last_s = seconds
        if measures.contrast(look.grid) < self.config.blank:
            return self._blank(seconds)
        verdict = self._judge(look, seconds)
        self._blank_s = math.inf
        if verdict.boundary:
            self._run.clear()
        self._run.append((seconds, look))
        self._shown = look
        return verdict

    def _usable(self, feature: NDArray[np.floating] | None) -> NDArray[np.float32] | None:
        unit = None if feature is None else _unit(feature)
        if unit is not None:
            if self._dim and len(unit) != self._dim:
                raise UsageError(
                    f"Features of {len(unit)} numbers came after features of {self._dim}.",
                    hint="One detector judges one stream, described by one encoder.",
                )
            self._dim = len(unit)
        return unit

    def _blank(self, seconds: float) -> Verdict:
        """A blank picture: nothing yet, or the scene from now on."""
        self._blank_s = min(self._blank_s, seconds)
        self._run.clear()
        if self._shown is None or seconds - self._blank_s < self.config.blank_s - _TICK:
            return Verdict(False, "none", 0.0)
        self._shown = self._before = self._after = None
        if self._settling(seconds):  # the end of a fade that was found on the way
            return Verdict(False, "none", 0.0)
        self._cut_s = seconds
        return Verdict(True, "cut", 1.0)

    def _judge(self, look: _Look, seconds: float) -> Verdict:
        """A picture that is not blank."""
        if self._shown is None:
            if self._blank_s == math.inf:  # the first of the stream
                return Verdict(False, "none", 0.0)
            self._cut_s = seconds
            return Verdict(True, "cut", 1.0)
        motion = self._shown.motion(look)
        pixels = measures.block_change(self._shown.grid, look.grid)
        score = self._score(motion, pixels)
        if score >= 1.0:
            return self._sudden(self._shown, look, seconds, (score, motion, pixels))
        self._past.append((0.0 if math.isnan(motion) else motion, pixels))
        if self._gradual(look, seconds):
            self._gradual_s = self._cut_s = seconds
            return Verdict(True, "gradual", score, motion, pixels)
        back = self._blank_s < math.inf
        return Verdict(False, "flash" if back else "none", score, motion, pixels)

    def _sudden(
        self, old: _Look, look: _Look, seconds: float, numbers: tuple[float, float, float]
    ) -> Verdict:
        """Another picture: of another shot, or only another light, or the one before again."""
        config = self.config
        structure, turn = old.structure(look), self._turn(look, seconds)
        self._before, self._after, self._change_s = old, look, seconds
        least = config.structure + config.light * old.light(look)
        if structure < least or turn >= config.turn:
            return Verdict(False, "flash", *numbers, structure, turn)
        if seconds - self._cut_s < config.refractory_s - _TICK:
            return Verdict(False, "none", *numbers, structure, turn)
        self._cut_s = seconds
        self._past.clear()
        return Verdict(True, "cut", *numbers, structure, turn)

    def _turn(self, look: _Look, seconds: float) -> float:
        """C of the path from before the last sudden change over the picture after it to this one:
        what moved meanwhile is left out. NaN when that change is too long ago."""
        before, after = self._before, self._after
        if before is None or after is None:
            return math.nan
        if seconds - self._change_s > self.config.flash_s + _TICK:
            return math.nan
        return look.minus(after).turn(after.minus(before))

    def _score(self, motion: float, pixels: float) -> float:
        """1 from where a change is one of picture."""
        config = self.config
        usual = sum(np.array(self._past), np.zeros(2)) / max(len(self._past), 1) * config.past
        p = max(pixels - float(usual[1]), 0.0) / config.pixels
        if math.isnan(motion):
            return p
        m = max(motion - float(usual[0]), 0.0) / config.motion
        return float(m**config.weight * p ** (1.0 - config.weight))

    def _settling(self, seconds: float) -> bool:
        """Whether a gradual transition was just found: its end is not another one."""
        return seconds - self._gradual_s < self.config.gradual_s

    def _gradual(self, look: _Look, seconds: float) -> bool:
        """Whether the picture has been mixed into another over one of the lags."""
        config = self.config
        if self._settling(seconds):
            return False
        for lag in config.lags:
            if len(self._run) < lag:
                break
            since, old = self._run[-lag]
            if seconds - since > config.longest_s or old.motion(look) < config.gradual_motion:
                continue
            if measures.block_change(old.grid, look.grid) < config.gradual_pixels:
                continue
            least = config.gradual_structure + config.gradual_light * old.light(look)
            if old.structure(look) < least:
                continue
            held = islice(self._run, len(self._run) - lag, None)
            off, place = measures.bend(np.stack([*(one.grid for _, one in held), look.grid]))
            if off <= config.bend and place <= config.uneven:
                return True
        return False

    def snapshot(self) -> State:
        """All there is to go on from, bit for bit."""
        three = (self._shown, self._before, self._after)
        kept = [one for one in three if one is not None]
        times = (self._last_s, self._cut_s, self._change_s, self._gradual_s, self._blank_s)
        tensors: dict[str, np.ndarray] = {
            "numbers": np.array(
                [*times, self._dim, *(one is not None for one in three)], np.float64
            ),
            "past": np.array(self._past, np.float64).reshape(-1, 2),
            "run.seconds": np.array([seconds for seconds, _ in self._run], np.float64),
        }
        for name, looks in (("run", [look for _, look in self._run]), ("kept", kept)):
            grids = [look.grid for look in looks]
            tensors[f"{name}.grid"] = np.array(grids, np.float32).reshape(-1, *measures.SHAPE)
            tensors[f"{name}.feature"] = np.zeros((len(looks), self._dim), np.float32)
            for row, look in zip(tensors[f"{name}.feature"], looks, strict=True):
                row[:] = 0.0 if look.feature is None else look.feature
        return State(tensors, self.config.as_json())

    def restore(self, state: State) -> None:
        """Go on from ``state``. Raises StateError, changing nothing, when it does not fit."""
        fresh = BoundaryDetector(self.config)
        try:
            fresh._take(state.tensors)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise StateError(f"This is no state of a boundary detector: {error}.") from error
        self.__dict__.update(fresh.__dict__)

    def _take(self, tensors: Mapping[str, np.ndarray]) -> None:
        *times, dim, shown, before, after = tensors["numbers"].tolist()
        if any(math.isnan(t) for t in times) or dim < 0:
            raise ValueError("its numbers are impossible")
        self._last_s, self._cut_s, self._change_s, self._gradual_s, self._blank_s = times
        self._dim = int(dim)
        run, kept = (list(self._looks(tensors, name)) for name in ("run", "kept"))
        seconds, past = tensors["run.seconds"].tolist(), tensors["past"]
        if len(run) > self._run_room() or len(past) > PAST or not np.isfinite(past).all():
            raise ValueError("it holds more than a detector can")
        self._run.extend(zip(seconds, run, strict=True))
        self._past.extend((m, p) for m, p in past.tolist())
        wanted = [bool(shown), bool(before), bool(after)]
        if len(kept) != sum(wanted):
            raise ValueError("pictures are missing")
        self._shown, self._before, self._after = (kept.pop(0) if has else None for has in wanted)

    def _run_room(self) -> int:
        return self._run.maxlen or 0

    def _looks(self, tensors: Mapping[str, np.ndarray], name: str) -> Iterable[_Look]:
        grids, features = tensors[f"{name}.grid"], tensors[f"{name}.feature"]
        good = grids.shape[1:] == measures.SHAPE and features.shape == (len(grids), self._dim)
        types = grids.dtype == features.dtype == np.float32
        if not (good and types and np.isfinite(grids).all() and np.isfinite(features).all()):
            raise ValueError(f"its {name} is {grids.dtype} {list(grids.shape)}")
        for grid, feature in zip(grids, features, strict=True):
            yield _Look(grid.copy(), feature.copy() if feature.any() else None)

    @property
    def nbytes(self) -> int:
        """Of the state: flat, at most ``lags`` + 3 pictures and features."""
        return sum(array.nbytes for array in self.snapshot().tensors.values())
