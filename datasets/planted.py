"""Long streams with planted transients and their truth: does a memory still hold each event?

Two levels. ``planted_features`` draws unit feature vectors directly, fast enough for many repeats.
``PlantedVideo`` draws pictures: a textured scene, still and panning in turn, with short inserts of
other content, and with things that are *not* events: flashes, exposure ramps, sensor noise, cuts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

GAP_S = 3.0
"""Least time between events, and before the first."""


class Event(NamedTuple):
    """A transient, in seconds, end excluded."""

    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class PlantedConfig:
    """What a stream contains. Speeds and strengths are of unit features, times in seconds."""

    duration_s: float = 600.0
    fps: float = 1.0
    events: int = 8
    event_s: tuple[float, float] = (1.5, 1.5)
    """Shortest and longest event; never shorter than one frame."""
    regime_s: float = 30.0
    """Still for this long, panning for this long, and so on."""
    pan: float = 0.01
    """Radians per second a feature turns while panning (features only)."""
    noise: float = 0.05
    """Length of the noise added to a unit feature; of pictures, as a part of full scale."""
    strength: tuple[float, float] = (0.3, 0.7)
    """How much of an event's frame is the event: 1 replaces the scene."""
    ramp_s: float = 0.0
    """How long an event takes to come and go."""
    cut_s: float = 0.0
    """A new scene every so often; 0: one scene for ever."""
    scenes: int = 0
    """With cuts: how many scenes there are to return to; 0: each is new."""
    flashes: int = 0
    """Single frames that are no events (pictures: overexposed)."""
    exposure: float = 0.0
    """Depth of slow exposure ramps (pictures: gain; features: drift along one direction)."""
    positive: bool = False
    """Features like those of a rectified network: no negative entries, so all are alike."""
    dim: int = 384
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.fps > 0 and self.duration_s > 0 and self.events >= 0 and self.dim > 1):
            raise UsageError("A planted stream needs fps, duration_s > 0, events >= 0, dim > 1.")
        room = self.events * (max(*self.event_s, 1 / self.fps) + GAP_S) + GAP_S
        if room > self.duration_s:
            raise UsageError(f"{self.events} events do not fit into {self.duration_s} s.")


class PlantedStream(NamedTuple):
    """Unit ``features`` float32 [T, D] at ``times_s`` float64 [T], and the truth."""

    features: NDArray[np.float32]
    times_s: NDArray[np.float64]
    events: list[Event]
    flashes: list[int]
    """Frames that are flashes, rising."""


def plan_events(config: PlantedConfig, rng: np.random.Generator) -> list[Event]:
    """Events at random places, ``GAP_S`` apart or more, each with at least one frame."""
    lengths = np.maximum(rng.uniform(*config.event_s, config.events), 1.0 / config.fps)
    taken = np.cumsum(lengths + GAP_S)
    free = config.duration_s - GAP_S - float(taken[-1] if config.events else 0.0)
    starts = np.sort(rng.uniform(0.0, free, config.events)) + GAP_S + taken - lengths - GAP_S
    # On the frame grid, so that no event falls between two frames.
    starts = np.floor(starts * config.fps) / config.fps
    events = [Event(float(s), float(s + n)) for s, n in zip(starts, lengths, strict=True)]
    return events


def held_recall(events: Iterable[Event], held_s: Iterable[float]) -> float:
    """Share of ``events`` of which at least one of the held times is a part; 1 if there are none.

    >>> held_recall([Event(1, 2), Event(5, 6)], [0.5, 1.0, 6.0])
    0.5
    """
    times = np.fromiter(held_s, np.float64)
    found = [bool(((times >= start) & (times < end)).any()) for start, end in events]
    return sum(found) / len(found) if found else 1.0


def planted_features(config: PlantedConfig) -> PlantedStream:
    """A feature-level stream, a function of ``config`` alone."""
    rng = np.random.default_rng(config.seed)
    count = round(config.duration_s * config.fps)
    times = np.arange(count) / config.fps
    events = plan_events(config, rng)
    scene = _background(config, rng, times)
    drift = _direction(config, rng)
    if config.exposure:
        scene += config.exposure * np.sin(times * (2 * np.pi / 47.0))[:, None] * drift
    for event in events:
        weight = float(rng.uniform(*config.strength)) * _presence(event, times, config.ramp_s)
        scene += weight[:, None] * (_direction(config, rng) - scene)
    flashes = rng.choice(count, config.flashes, replace=False).tolist()
    for frame in flashes:
        scene[frame] = _direction(config, rng)
    scene += config.noise / np.sqrt(config.dim) * rng.standard_normal(scene.shape)
    if config.positive:
        scene = np.maximum(scene, 0.0)
    scene /= np.linalg.norm(scene, axis=1, keepdims=True)
    return PlantedStream(scene.astype(np.float32), times, events, sorted(flashes))


def _direction(config: PlantedConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.standard_normal(config.dim)
    if config.positive:
        vector = np.abs(vector) ** 2
    return np.asarray(vector / np.linalg.norm(vector))


def _background(
    config: PlantedConfig, rng: np.random.Generator, times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[T, D]: one scene or several, turning slowly towards new directions while panning."""
    known = [_direction(config, rng) for _ in range(config.scenes)]
    here = known[0] if known else _direction(config, rng)
    goal, regime, shot = _direction(config, rng), 0, 0
    rows = np.empty((len(times), config.dim))
    for i, t in enumerate(times.tolist()):
        if config.cut_s and int(t / config.cut_s) != shot:
            shot = int(t / config.cut_s)
            here = known[shot % len(known)].copy() if known else _direction(config, rng)
        if int(t / config.regime_s) != regime:
            regime, goal = int(t / config.regime_s), _direction(config, rng)
        if regime % 2:
            aside = goal - (goal @ here) * here
            here = here + config.pan / config.fps * aside / np.linalg.norm(aside)
            here = here / np.linalg.norm(here)
        rows[i] = here
    return rows


def _presence(event: Event, times: NDArray[np.float64], ramp_s: float) -> NDArray[np.float64]:
    """How far the event has come in, 0 to 1, at each time."""
    inside = (times >= event.start_s) & (times < event.end_s)
    if ramp_s <= 0:
        return inside.astype(np.float64)
    edge = np.minimum(times - event.start_s, event.end_s - times) + 1e-9
    return np.where(inside, np.clip(edge / ramp_s, 0.1, 1.0), 0.0)


class PlantedVideo:
    """A picture-level stream. Iterating draws it frame by frame: ``(seconds, image)``, images
    uint8 [height, width, 3] RGB. ``events`` is the truth. The same config, the same pixels."""

    def __init__(self, config: PlantedConfig, width: int = 320, height: int = 180) -> None:
        self.config, self.width, self.height = config, width, height
        self._seed = np.random.SeedSequence(config.seed)
        self.events = plan_events(config, np.random.default_rng(self._seed.spawn(1)[0]))

    def __len__(self) -> int:
        return round(self.config.duration_s * self.config.fps)

    def __iter__(self) -> Iterator[tuple[float, Image]]:
        c = self.config
        rng = np.random.default_rng(c.seed + 1)
        seeds = rng.integers(0, 2**31, 10_000)
        strengths = rng.uniform(*c.strength, len(self.events))
        flashes = set(rng.choice(len(self), c.flashes, replace=False).tolist())
        shown, canvas, inserts = -1, np.empty(0, np.uint8), dict[int, Image]()
        for i in range(len(self)):
            t = i / c.fps
            shot = int(t / c.cut_s) if c.cut_s else 0
            number = shot % c.scenes if c.scenes else shot
            if number != shown:
                shown, canvas = number, texture(int(seeds[number]), 3 * self.width, self.height)
            image = self._view(canvas, t).astype(np.float32)
            for k, event in enumerate(self.events):
                if event.start_s <= t < event.end_s:
                    if k not in inserts:
                        inserts = {k: texture(int(seeds[5000 + k]), self.width, self.height)}
                    weight = strengths[k] * float(_presence(event, np.array([t]), c.ramp_s)[0])
                    image = _insert(image, inserts[k], weight)
            if c.exposure:
                image *= 1.0 + c.exposure * np.sin(t * (2 * np.pi / 47.0))
            if i in flashes:
                image = 255.0 - 0.15 * (255.0 - image)
            image += 255.0 * c.noise * rng.standard_normal(image.shape, np.float32)
            yield t, np.clip(image, 0, 255).astype(np.uint8)

    def _view(self, canvas: Image, t: float) -> Image:
        """The window on the scene: still and panning in turn, to and fro over the canvas."""
        period, still = 2 * self.config.regime_s, self.config.regime_s
        panned = int(t / period) * still + max(t % period - still, 0.0)
        place = (panned / (4 * still)) % 2.0
        left = round(2 * self.width * (place if place <= 1 else 2 - place))
        return canvas[:, left : left + self.width]


def _insert(image: NDArray[np.float32], other: Image, strength: float) -> NDArray[np.float32]:
    """``other`` in the middle of ``image``, covering ``strength`` of its area."""
    height, width = image.shape[:2]
    h, w = (round(side * np.sqrt(min(strength, 1.0))) for side in (height, width))
    top, left = (height - h) // 2, (width - w) // 2
    image[top : top + h, left : left + w] = other[top : top + h, left : left + w]
    return image


def texture(seed: int, width: int, height: int) -> Image:
    """A scene of its own colours: octaves of smooth noise with some plain shapes on it."""
    import cv2

    rng = np.random.default_rng(seed)
    image = np.zeros((height, width, 3), np.float32)
    for cells in (2, 4, 9, 20, 45):
        grid = rng.standard_normal((max(2, cells), max(2, cells * width // height), 3))
        smooth = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        image += smooth * (30.0 / np.sqrt(cells))
    image += rng.uniform(40, 200, 3).astype(np.float32)
    picture = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    for _ in range(int(rng.integers(4, 14)) * max(1, width // (2 * height))):
        place = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        size = (int(rng.integers(8, height // 3)), int(rng.integers(8, height // 3)))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        if rng.random() < 0.5:
            cv2.ellipse(picture, place, size, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        else:
            cv2.rectangle(picture, place, (place[0] + size[0], place[1] + size[1]), colour, -1)
    return picture
