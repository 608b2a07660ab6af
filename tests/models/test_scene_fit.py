"""What estimated poses are fitted to: the newest keyframe, or the stable map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from retain.datasets.scene import trajectory
from retain.datasets.scene.source import SceneSource
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import UsageError
from retain.pipeline.results import Pose

ROOM = "room://?seed=12&frames=150&kind=walk&sensor=1"


def path(fit: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Estimated and true poses of the first frames of a walk."""
    stage = Reconstruct(poses="estimated", refine=0, fit=fit)
    estimate, truth = [], []
    for packet in SceneSource(ROOM, width=160, limit=36).packets():
        done = stage.process(packet)
        assert done is not None
        pose = done.get("pose", Pose)
        assert pose.state == "tracked"
        assert pose.truth is not None
        estimate.append(pose.c2w)
        truth.append(pose.truth)
    return estimate, truth


def test_keyframes_fitted_to_the_map_are_as_near_to_the_truth() -> None:
    plain, truth = path("keyframe")
    mapped, _ = path("map")
    assert trajectory.absolute_errors(plain, truth).rmse < 0.03
    assert trajectory.absolute_errors(mapped, truth).rmse < 0.03
    assert not np.array_equal(plain, mapped)


def test_another_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="keyframe or the map"):
        path("wall")
