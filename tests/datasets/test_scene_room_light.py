"""Colour and light of rooms, against formulas of their own."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.scene.room_bake import bake
from retain.datasets.scene.room_materials import PICTURE_PX, Palette
from retain.datasets.scene.room_shade import CELL_M, LIGHT, OPEN, SUN, WAVES, colour
from retain.datasets.scene.room_shapes import Kind, Shape, Tables, table

NO_SHAPES = np.zeros((0, 18))
STILL = (0.0, 0.0, 0.0)


def textured() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables of one material that has a texture."""
    palette = Palette(np.random.default_rng(2))
    palette.busy()
    return palette.tables()


def test_textures_are_the_sums_of_cosines_they_say() -> None:
    materials, textures, images = textured()
    waves = textures[0].astype(np.float64)
    for point in np.random.default_rng(0).uniform(-4, 4, (200, 3)):
        cosines = np.cos(2 * np.pi * (point @ waves[:3] + waves[3]))
        expected = np.maximum(materials[0, :3] * (1 + waves[4:] @ cosines), 0.004)
        found = colour(materials, textures, images, NO_SHAPES, 0, tuple(point), STILL, STILL)
        assert found[:3] == pytest.approx(expected, abs=2e-3)


def test_texture_amplitudes_fall_with_the_root_of_the_frequency() -> None:
    _, textures, _ = textured()
    frequency = np.linalg.norm(textures[0, :3], axis=0)
    amplitude = np.linalg.norm(textures[0, 4:], axis=0) * np.sqrt(frequency)
    assert len(frequency) == WAVES
    assert np.ptp(amplitude) < 0.8 * amplitude.mean()
    assert abs(np.corrcoef(amplitude, frequency)[0, 1]) < 0.4


def test_a_texture_finer_than_the_pixels_is_its_mean() -> None:
    """Coarse pixels see less and less of it, and never more than is there."""
    materials, textures, images = textured()
    points = np.random.default_rng(1).uniform(-4, 4, (300, 3))
    spread = []
    for metres in (0.0, 0.02, 0.1, 2.0):
        u, v = (metres, 0.0, 0.0), (0.0, metres, 0.0)
        seen = [
            colour(materials, textures, images, NO_SHAPES, 0, tuple(p), u, v)[0] for p in points
        ]
        spread.append(np.std(seen))
    assert spread == sorted(spread, reverse=True)
    assert spread[3] < 0.1 * spread[0]


def test_pictures_keep_their_mean_when_seen_from_afar() -> None:
    palette = Palette(np.random.default_rng(3))
    palette.picture()
    materials, textures, images = palette.tables()
    whole = Shape(Kind.BOX, (0.5, 0.01, 0.5), np.zeros(3), np.eye(3), 0, 6, 7)
    shapes = table([whole])
    far = 1.0 / 6  # a pixel is a sixth of the picture
    grid = np.linspace(-0.4, 0.4, 9)
    seen = [
        colour(
            materials, textures, images, shapes, 0, (x, 0.01, z), (far, 0.0, 0.0), (0.0, 0.0, far)
        )[:3]
        for x in grid
        for z in grid
    ]
    expected = materials[0, :3] * images[0, 0].mean(axis=(0, 1))
    assert np.mean(seen, axis=0) == pytest.approx(expected, rel=0.12)
    near = colour(materials, textures, images, shapes, 0, (0.0, 0.01, 0.0), STILL, STILL)
    middle = images[0, 0, PICTURE_PX // 2 - 1 : PICTURE_PX // 2 + 1]
    middle = middle[:, PICTURE_PX // 2 - 1 : PICTURE_PX // 2 + 1].mean(axis=(0, 1))
    assert near[:3] == pytest.approx(materials[0, :3] * middle, abs=1e-6)


def test_shadows_lie_where_a_board_is_between_a_point_and_the_light() -> None:
    """A board of 1 m half way up under a small light: its shadow on the floor is 2 m wide."""
    board = Shape(Kind.BOX, (0.5, 0.5, 0.01), np.array([0, 0, 1.0]), np.eye(3), 0, 8, 7)
    glass = Shape(Kind.BOX, (0.01, 1.5, 0.85), np.array([1.99, 0, 1.6]), np.eye(3), 0, 5, 8)
    room = Tables(
        half=np.array([2.0, 2.0, 2.5]),
        shapes=table([board, glass]),
        materials=np.zeros((1, 7), np.float32),
        textures=np.zeros((1, 7, WAVES), np.float32),
        images=np.zeros((1, 5, 8, 8, 3), np.float32),
        lights=np.array([[0, 0, 2.0, 0, 0, -1, 1, 1, 1, 0.05]]),
        sun=np.array([0.8, 0, 0.6, 1, 1, 1]),
        ambient=np.ones(3),
        windows=np.array([1]),
    )
    grid = bake(room)
    assert grid.min() >= 0
    assert grid.max() <= 1 + 1e-6

    def at(x: float, y: float, z: float) -> np.ndarray:
        cell = np.round(np.array([x + 2, y + 2, z]) / CELL_M).astype(int)
        return grid[tuple(cell)]

    assert at(0, 0, 0)[LIGHT] == at(0.75, 0, 0)[LIGHT] == 0
    assert at(1.25, 0, 0)[LIGHT] == at(0, 0, 1.5)[LIGHT] == pytest.approx(1)
    # The sun comes in along a slope of 3 in 4: over the board and past it, not through it.
    assert at(0.5, 0, 0)[SUN] == at(-1, 1.0, 0)[SUN] == pytest.approx(1)
    assert at(-1, 0, 0)[SUN] == 0
    assert at(-1.75, 1.0, 0)[SUN] == at(0.5, 1.75, 0)[SUN] == 0
    assert at(0, 0, 0.875)[OPEN] < 0.7 < 0.9 < at(-1.75, -1.75, 0.5)[OPEN]
