"""A textured thing over a fifth of the picture moves on its own: the camera's path does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.kernels.geometry import rigid
from retain.models.scene.tracking.polish import STEP, Front, Polish
from retain.models.scene.tracking.rgbd import RgbdTracker

WIDTH, HEIGHT, FRAMES = 160, 120, 20
SIDE, Z = 62, 1.2
"""Of a square card, pixels and metres: a fifth of the picture, before everything else."""


@cache
def room(seed: int) -> tuple[Shot, ...]:
    made = Room(seed, 150, WIDTH, HEIGHT, kind="walk", jitter=True, sensor=True)
    return tuple(made[i] for i in range(FRAMES))


def with_card(shots: tuple[Shot, ...], step: float, still: int = 0) -> Iterator[Shot]:
    """A card of coloured squares that slides by ``step`` pixels a shot, after ``still`` shots."""
    squares = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    card = cv2.resize(squares, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    for i, shot in enumerate(shots):
        assert shot.depth is not None
        way = step * max(i - still, 0)
        place = np.array([[1, 0, 10 + way], [0, 1, 25 + 0.2 * way]], np.float32)
        size = WIDTH, HEIGHT
        over = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), place, size) > 0.5
        image, depth = shot.image.copy(), shot.depth.copy()
        image[over], depth[over] = cv2.warpAffine(card, place, size)[over], Z
        yield replace(shot, image=image, depth=depth)


def farthest(shots: tuple[Shot, ...], seen: Iterator[Shot]) -> float:
    """Metres between where the camera was and where the tracker says, at most."""
    tracker, off = RgbdTracker(), [0.0]
    assert shots[0].c2w is not None
    for shot in seen:
        tracked = tracker.track(shot)
        assert tracked.state == "tracked"
        assert shot.c2w is not None
        truth = rigid.inverse(shots[0].c2w) @ shot.c2w
        off.append(float(np.linalg.norm(truth[:3, 3] - tracked.c2w[:3, 3])))
    return max(off)


@pytest.mark.parametrize(("seed", "step", "still"), [(3, 0.5, 0), (1, 2.0, 0), (3, 1.0, 8)])
def test_a_moving_card_does_not_drag_the_camera(seed: int, step: float, still: int) -> None:
    shots = room(seed)
    assert farthest(shots, with_card(shots, step, still)) < 0.08


def test_the_picture_tells_the_camera_from_the_card() -> None:
    """The pose that makes the card stand still costs more than the true one, however exactly."""
    shots = room(1)
    one, two = (list(with_card(shots, 3.0))[i] for i in (5, 6))
    assert one.c2w is not None
    assert two.c2w is not None
    dense, truth = Polish(Front.of_shot(one, one.c2w), two), two.c2w
    aside = truth @ rigid.exp([0, 0, 0, 0.1, 0, 0])
    assert dense.cost(truth) < 0.5 * dense.cost(aside)
    assert dense.polished(aside) is None, f"farther than {STEP}"
    found = dense.instead(aside, [aside, truth])
    assert found is not None
    assert np.linalg.norm(found[:3, 3] - truth[:3, 3]) < 0.02
    assert dense.instead(truth, [aside, truth]) is None
    across, down = np.meshgrid(np.arange(4.0, WIDTH, 8), np.arange(4.0, HEIGHT, 8))
    uv = np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float32)
    depth = two.depth
    assert depth is not None
    card = depth[uv[:, 1].astype(int), uv[:, 0].astype(int)] == np.float32(Z)
    trusted = dense.trusted(truth, uv)
    assert trusted[~card].mean() > 0.7
    assert trusted[card].mean() < 0.5
