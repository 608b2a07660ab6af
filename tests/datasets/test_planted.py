"""Planted streams are what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from retain.datasets.planted import (
    Event,
    PlantedConfig,
    PlantedVideo,
    held_recall,
    planted_features,
)
from retain.pipeline.errors import UsageError


def test_a_stream_is_a_function_of_its_config() -> None:
    config = PlantedConfig(duration_s=120, events=3, flashes=2, cut_s=40)
    one, two = planted_features(config), planted_features(config)
    assert one.features.tobytes() == two.features.tobytes()
    assert one.events == two.events
    other = planted_features(PlantedConfig(duration_s=120, events=3, flashes=2, cut_s=40, seed=1))
    assert one.features.tobytes() != other.features.tobytes()


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_every_event_has_frames_that_leave_the_scene(fps: float) -> None:
    stream = planted_features(PlantedConfig(fps=fps, event_s=(0.5, 2.0), strength=(0.9, 1.0)))
    assert len(stream.events) == 8
    np.testing.assert_allclose(np.linalg.norm(stream.features, axis=1), 1, atol=1e-5)
    for start, end in stream.events:
        inside = np.flatnonzero((stream.times_s >= start) & (stream.times_s < end))
        assert len(inside) >= 1
        first = inside[0]
        assert stream.features[first] @ stream.features[first - 1] < 0.5
        assert stream.features[first - 1] @ stream.features[first - 2] > 0.9


def test_recall_counts_events_once() -> None:
    events = [Event(1, 2), Event(5, 6), Event(8, 9)]
    assert held_recall(events, [1.0, 1.5, 6.0, 8.2]) == pytest.approx(2 / 3)
    assert held_recall([], [1.0]) == 1.0


def test_a_video_shows_its_events_and_only_they_replace_the_scene() -> None:
    config = PlantedConfig(duration_s=60, events=2, fps=2.0, noise=0.0, strength=(1.0, 1.0))
    video = PlantedVideo(config, 96, 54)
    frames = list(video)
    assert len(frames) == len(video) == 120
    step = [0.0] + [
        float(np.abs(b[1].astype(int) - a[1]).mean()) for a, b in itertools.pairwise(frames)
    ]
    borders = {round(t * 2) for event in video.events for t in (event.start_s, event.end_s)}
    calm = [value for i, value in enumerate(step) if i not in borders]
    assert min(step[i] for i in borders) > 2 * max(calm)
    again = list(PlantedVideo(config, 96, 54))
    assert all((a[1] == b[1]).all() for a, b in zip(frames, again, strict=True))


def test_too_many_events_are_refused() -> None:
    with pytest.raises(UsageError, match="200 events do not fit"):
        PlantedConfig(events=200)
