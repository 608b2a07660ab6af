"""The ray caster against other ways to find the same: polynomials, and all shapes for all rays."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.scene.room import Room
from retain.datasets.scene.room_cast import FAR, hit, normal
from retain.datasets.scene.room_shapes import Kind, Shape, distance, table
from retain.kernels.geometry import rigid


def placed(kind: Kind, size: tuple[float, float, float], seed: int) -> Shape:
    rng = np.random.default_rng(seed)
    turn = rigid.exp([*rng.normal(0, 2, 3), 0, 0, 0])[:3, :3]
    return Shape(kind, size, rng.normal(0, 1, 3), turn, 0, 1, 1)


SHAPES = [
    placed(Kind.BOX, (0.3, 0.02, 0.7), 0),
    placed(Kind.SPHERE, (0.4, 0, 0), 1),
    placed(Kind.FRUSTUM, (0.5, 0.2, 0.2), 2),
    placed(Kind.FRUSTUM, (0.4, 0.5, 0.0), 3),
    placed(Kind.FRUSTUM, (0.3, 0.01, 0.3), 4),
    placed(Kind.TORUS, (0.4, 0.1, 0), 5),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.kind.name} {s.size}")
def test_rays_end_where_they_first_touch(shape: Shape) -> None:
    """Aimed at places in and near a shape: the hit is on the surface and none lies before it; a ray
    that misses stays outside all along."""
    rng, rows = np.random.default_rng(9), table([shape])
    hits = 0
    for _ in range(250):
        start = shape.centre + rng.normal(size=3) * 2
        if distance(shape, start[None])[0] < 0.1:
            continue
        aim = shape.centre + rng.uniform(-1, 1, 3) * shape.bound * 0.8 - start
        t = hit(rows, 0, *start, *aim)
        end = min(t, 3.0)
        way = start + np.linspace(0, end, 400)[:, None] * aim
        gaps = distance(shape, way)
        assert gaps[:-1].min() > -1e-6
        if t < FAR:
            hits += 1
            assert abs(gaps[-1]) < 2e-7
            n = np.array(normal(rows, 0, *way[-1]))
            assert np.linalg.norm(n) == pytest.approx(1)
            assert n @ aim < 1e-6
            # Outwards is where the distance grows.
            outside = distance(shape, way[-1:] + 1e-5 * n)[0]
            assert outside == pytest.approx(1e-5, abs=2e-6)
    assert hits > 60


def test_the_sides_of_a_shape_seen_from_inside_are_met() -> None:
    for shape in SHAPES[:4]:
        middle = shape.centre + shape.turn @ (0, 0, -0.1 * shape.size[0])
        t = hit(table([shape]), 0, *middle, 1.0, 0.2, 0.1)
        assert abs(distance(shape, (middle + t * np.array([1.0, 0.2, 0.1]))[None])[0]) < 1e-6


def torus_roots(o: np.ndarray, d: np.ndarray, ring: float, tube: float) -> float:
    """The least positive root of the quartic, d a unit; FAR for none."""
    b, c = o @ d, o @ o + ring**2 - tube**2
    flat_dd, flat_od = d[0] ** 2 + d[1] ** 2, o[0] * d[0] + o[1] * d[1]
    flat_oo = o[0] ** 2 + o[1] ** 2
    quartic = np.polymul([1, 2 * b, c], [1, 2 * b, c])
    quartic[2:] -= 4 * ring**2 * np.array([flat_dd, 2 * flat_od, flat_oo])
    roots = np.roots(quartic)
    real = roots.real[(np.abs(roots.imag) < 1e-6) & (roots.real > 1e-9)]
    return float(real.min()) if len(real) else FAR


def test_a_torus_is_met_by_rays_along_its_tube_too() -> None:
    """They pass the tube at a fraction of a millimetre before they enter it."""
    ring, tube = 0.062, 0.02
    shape = Shape(Kind.TORUS, (ring, tube, 0), np.zeros(3), np.eye(3), 0, 1, 1)
    rows, rng = table([shape]), np.random.default_rng(0)
    compared = 0
    for _ in range(1500):
        top = np.array([rng.normal(0, 0.01), ring + rng.normal(0, 0.004), tube])
        d = np.array([1.0, *rng.normal(0, 0.02, 2)])
        d /= np.linalg.norm(d)
        top[2] += rng.normal(0, 0.0008)
        o = top - 0.15 * d
        expected, found = torus_roots(o, d, ring, tube), hit(rows, 0, *o, *d)
        if (expected == FAR) != (found == FAR):
            # Either may take a touch within a ten-thousandth of a millimetre for a hit or a miss.
            t = min(expected, found)
            gaps = distance(shape, o + np.linspace(t - 0.02, t + 0.02, 4001)[:, None] * d)
            assert gaps.min() > -2e-7
        elif found < FAR:
            compared += 1
            assert found == pytest.approx(expected, abs=2e-4)
            assert abs(distance(shape, (o + found * d)[None])[0]) < 2e-7
    assert compared > 500


def test_tiles_hide_nothing() -> None:
    """Each ray against every shape of the room gives the same depth."""
    room = Room(11, frames=200)
    shapes = room.plan.tables.shapes
    for index in (0, 70, 140):
        depth, c2w = room.truth(index).depth, room.poses[index]
        rays = room.camera.rays().astype(np.float64) @ c2w[:3, :3].T
        for v in range(3, 240, 9):
            for u in range(index % 7, 320, 9):
                ray = (*c2w[:3, 3], *rays[v, u])
                first = min(hit(shapes, i, *ray) for i in range(len(shapes)))
                assert depth[v, u] <= first * (1 + 1e-6)
