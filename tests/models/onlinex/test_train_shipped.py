"""The weights that come with the package, on two rooms they have not seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retain.models.onlinex import evaluate, weights
from retain.models.onlinex.evaluate import Result
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Batch, SceneConfig, open_pool

FRAMES = 12


@pytest.fixture(scope="module")
def batch() -> Batch:
    return open_pool(SceneConfig(rooms=2, frames=FRAMES, split="test")).whole(np.arange(2), FRAMES)


@pytest.fixture(scope="module")
def found(batch: Batch) -> dict[str, Result]:
    torch.manual_seed(0)
    net = weights.load()
    evaluate_at = evaluate.AT
    evaluate.AT = (3, 7, 11)  # type: ignore[assignment]
    try:
        return {
            "shipped": evaluate.judge(net, batch),
            "untrained": evaluate.judge(OnlineX(net.config).eval(), batch),
            "still": evaluate.constant_pose(batch),
        }
    finally:
        evaluate.AT = evaluate_at


@pytest.mark.parametrize("peer", ["untrained", "still"])
def test_they_know_where_the_camera_is(found: dict[str, Result], peer: str) -> None:
    for name in ("translation", "rotation", "step_rotation"):
        ours, theirs = (np.mean(getattr(found[row], name)) for row in ("shipped", peer))
        assert ours < 0.8 * theirs, (name, ours, theirs)


def test_they_see_shapes_and_draw_views(found: dict[str, Result]) -> None:
    assert np.mean(found["shipped"].depth) < 0.6 * np.mean(found["untrained"].depth)
    assert np.mean(found["shipped"].psnr) > np.mean(found["untrained"].psnr) + 1


def test_the_file_is_small_and_tells_how_it_was_made() -> None:
    opened = weights.opened()
    assert weights.locate("auto").stat().st_size < 16_000_000
    assert opened.head["recipe"]["scenes"]["split"] == "train"
    assert not opened.net.training
