"""CurveStream's frame router (arXiv 2603.19571): which frame is Clear, Blurred or Discarded.

``paper`` mode follows the publication. Where it is silent this is what we chose:

- EMA momentum: 0.9 (no value is published).
- Scoring starts at the third frame, the first with two displacements; the two before it are
  discarded, for the printed algorithm does nothing with them.
- The turn of a displacement of length zero is 0 (and reported as NaN).
- A frame without a usable feature (NaN, infinite, all zero) is discarded and leaves no trace.
- After a discontinuity the history starts again; the statistics stay.

``robust`` mode keeps the score and the two thresholds and repairs what measurement showed:

- a score is compared with the statistics of the frames *before* it, so z has no ceiling;
- statistics start from the mean and variance of the first ``warm_up`` scores;
- their memory is a half-life in seconds, so a change of frame rate changes nothing;
- one extreme score cannot carry them away (its surplus is clipped at ``clip_sigmas``);
- the turn counts only as far as there was displacement: C * min(1, |d1||d2| / turn_scale), since
  C alone is largest (1.5) where nothing but noise happens;
- a displacement under ``floor`` is a duplicate: discarded, history untouched;
- A -> B -> A is a flash: B was kept when it came, its return is not;
- time running backwards starts the history again, as a discontinuity does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retain.kernels.curvature import layout as at
from retain.memory.base import Json
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Reason, Route, State

Mode = Literal["paper", "robust"]
REASONS: tuple[Reason, ...] = get_args(Reason)
STATES: tuple[State, ...] = ("discard", "blurred", "clear")


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """How frames are routed. Raises UsageError when a value cannot work."""

    mode: Mode = "robust"
    lambda_: float = 0.2
    """Weight of the turn C against the motion M."""
    k1: float = 0.0
    """Discard below mean + k1 * sigma."""
    k2: float = 1.0
    """Clear from mean + k2 * sigma on."""
    gamma: float = 0.9
    """Momentum of the statistics per frame; paper mode."""
    half_life_s: float = 10.0
    """Half-life of the statistics in seconds; robust mode, as everything below."""
    warm_up: int = 8
    floor: float = 1e-3
    """Displacements shorter than this (of unit features) are duplicates."""
    sigma_floor: float = 1e-4
    turn_scale: float = 1.0
    """|d1||d2| from which the turn counts in full."""
    flash_curvature: float = 1.8
    cut_motion: float = 0.15
    """Least M of a hard cut, which must also stand ``cut_sigmas`` above the mean."""
    cut_sigmas: float = 3.0
    max_gap_s: float = math.inf
    """Keep at least one frame per so many seconds."""
    clip_sigmas: float = 2.0
    """What of a score stands further above the mean does not enter the statistics: cuts that come
    every few seconds would hide small events."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UsageError(f"Router mode is 'paper' or 'robust', not {self.mode!r}.")
        _check(0.0 < self.gamma < 1.0, "gamma", self.gamma, "between 0 and 1 (both excluded)")
        for name in ("lambda_", "floor", "sigma_floor", "cut_motion", "cut_sigmas"):
            _check(0.0 <= getattr(self, name) < math.inf, name, getattr(self, name), ">= 0")
        for name in ("half_life_s", "turn_scale", "clip_sigmas"):
            _check(0.0 < getattr(self, name) < math.inf, name, getattr(self, name), "> 0")
        _check(self.max_gap_s > 0.0, "max_gap_s", self.max_gap_s, "> 0")
        _check(self.flash_curvature >= 0.0, "flash_curvature", self.flash_curvature, ">= 0")
        _check(self.warm_up >= 0, "warm_up", self.warm_up, ">= 0")
        _check(-math.inf < self.k1 <= self.k2 < math.inf, "k1", self.k1, "at most k2, both finite")
        ceiling = 1.0 / math.sqrt(1.0 - self.gamma)
        if self.mode == "paper" and self.k2 >= ceiling:
            raise UsageError(
                f"With gamma = {self.gamma} no score can stand {self.k2} sigmas above the mean "
                f"(the most is {ceiling:.2f}), so no frame would ever be Clear.",
                hint=f"Use k2 < {ceiling:.2f} or a larger gamma.",
            )

    def params(self) -> NDArray[np.float64]:
        p = np.zeros(at.PARAMS)
        p[at.ROBUST] = self.mode == "robust"
        p[at.LAMBDA], p[at.GAMMA], p[at.HALF_LIFE] = self.lambda_, self.gamma, self.half_life_s
        p[at.K1], p[at.K2], p[at.WARM_UP] = self.k1, self.k2, self.warm_up
        p[at.FLOOR], p[at.SIGMA_FLOOR] = self.floor, self.sigma_floor
        p[at.TURN_SCALE], p[at.FLASH_CURVATURE] = self.turn_scale, self.flash_curvature
        p[at.CUT_MOTION], p[at.CUT_SIGMAS] = self.cut_motion, self.cut_sigmas
        p[at.MAX_GAP], p[at.CLIP_SIGMAS] = self.max_gap_s, self.clip_sigmas
        return p

    def as_json(self) -> dict[str, Json]:
        values = asdict(self)
        values["max_gap_s"] = None if math.isinf(self.max_gap_s) else self.max_gap_s
        return values

    @staticmethod
    def from_json(values: Mapping[str, Json]) -> RouterConfig:
        """What ``as_json`` gave. Raises StateError for anything else, UsageError for values that
        cannot work."""
        given = dict(values)
        if given.get("max_gap_s", 0) is None:
            given["max_gap_s"] = math.inf
        kinds = {f.name: str if f.name == "mode" else (int, float) for f in fields(RouterConfig)}
        if given.keys() != kinds.keys() or not all(
            isinstance(given[name], kind) for name, kind in kinds.items()
        ):
            raise StateError("The memory was written with router options of another version.")
        return RouterConfig(**given)  # type: ignore[arg-type]


def _check(good: bool, name: str, value: float, wanted: str) -> None:
    if not good:
        raise UsageError(f"Router option {name} must be {wanted}, got {value}.")


@dataclass(slots=True)
class RouterState:
    """What B streams carry from frame to frame: arrays only, so it saves and restores as it is."""

    history: NDArray[np.float32]
    """[B, 2, D], unit features, a ring."""
    numbers: NDArray[np.float64]
    """[B, 9], columns in kernels/curvature/layout.py."""

    @staticmethod
    def fresh(streams: int, dim: int) -> RouterState:
        numbers = np.zeros((streams, at.STATE))
        numbers[:, [at.LAST_TIME, at.LAST_KEPT]] = -math.inf
        return RouterState(np.zeros((streams, 2, dim), np.float32), numbers)

    @property
    def nbytes(self) -> int:
        return self.history.nbytes + self.numbers.nbytes

    def tensors(self) -> dict[str, np.ndarray]:
        return {"router.history": self.history.copy(), "router.numbers": self.numbers.copy()}

    def load(self, history: np.ndarray, numbers: np.ndarray) -> None:
        """Take saved arrays in place. Raises StateError when they are not of this router."""
        for name, mine, given in (
            ("history", self.history, history),
            ("numbers", self.numbers, numbers),
        ):
            if given.shape != mine.shape or given.dtype != mine.dtype:
                raise StateError(
                    f"Router {name} is {given.dtype} {list(given.shape)}, "
                    f"but this router needs {mine.dtype} {list(mine.shape)}."
                )
        ring = numbers[:, [at.DEPTH, at.HEAD]]
        if not (np.isin(ring[:, 0], (0, 1, 2)).all() and np.isin(ring[:, 1], (0, 1)).all()):
            raise StateError("Router numbers hold an impossible history position.")
        times = numbers[:, [at.LAST_TIME, at.LAST_KEPT]]
        counts = np.delete(numbers, [at.LAST_TIME, at.LAST_KEPT], axis=1)
        possible = ((counts >= 0) & (counts < 2**53)).all() and (times < math.inf).all()
        if not possible or not (np.abs(history) < 1.001).all():
            raise StateError("Router state holds numbers that no stream leads to.")
        self.history[...] = history
        self.numbers[...] = numbers


class Router:
    """Routes the frames of ``streams`` streams, one step of all of them per call.

    >>> router = Router(RouterConfig(), dim=1280)
    >>> route, = router.step(feature[None], [seconds])
    """

    def __init__(self, config: RouterConfig, dim: int, streams: int = 1) -> None:
        self.config = config
        self.state = RouterState.fresh(streams, dim)
        self._params = config.params()
        self._decision = np.zeros((streams, at.DECISION))
        self._flags = np.zeros(streams, np.uint8)
        self._shape = (streams, dim)

    def step(
        self,
        features: NDArray[np.floating],
        times_s: ArrayLike,
        discontinuity: Sequence[bool] | None = None,
        query: Sequence[bool] | None = None,
    ) -> list[Route]:
        """Decide for the next frame of every stream.

        ``features``: [B, D], any float type (widened to float32 before anything is subtracted),
        any length; ``times_s``: [B] seconds. Raises UsageError for other shapes.
        """
        # Loading the compiled code takes a moment, and only routing needs it.
        from retain.kernels.curvature.cpu import step

        features = np.ascontiguousarray(features, np.float32)
        times = np.ascontiguousarray(times_s, np.float64)
        if features.shape != self._shape or times.shape != self._shape[:1]:
            raise UsageError(
                f"The router expects features {list(self._shape)} and {self._shape[0]} times, "
                f"got {list(features.shape)} and {list(times.shape)}."
            )
        flags = self._flags
        flags[:] = 0
        if discontinuity is not None:
            flags |= np.where(discontinuity, at.DISCONTINUITY, 0).astype(np.uint8)
        if query is not None:
            flags |= np.where(query, at.QUERY, 0).astype(np.uint8)
        state = self.state
        step(features, state.history, state.numbers, times, flags, self._params, self._decision)
        return [_route(row) for row in self._decision.tolist()]


def _route(row: list[float]) -> Route:
    state, reason, motion, curvature, score, mean, sigma, z, low, high, flash, cut = row
    return Route(
        STATES[int(state)],
        REASONS[int(reason)],
        motion,
        curvature,
        score,
        mean,
        sigma,
        z,
        low,
        high,
        flash > 0,
        cut > 0,
    )
