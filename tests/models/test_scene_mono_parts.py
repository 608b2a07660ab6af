"""The parts of the tracker without depth, on points and pictures whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking import landmarks
from retain.models.scene.tracking.bundle import Window, adjust, errors
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.growth import along
from retain.models.scene.tracking.landmarks import Landmarks, view_of
from retain.models.scene.tracking.sharpen import sharpened
from retain.models.scene.tracking.start import UNIT, Begun, begin, triangulate
from retain.models.scene.tracking.sweep import enlarged, sweep

CAMERA = Camera(125.0, 125.0, 80.0, 60.0, 160, 120)
ASIDE = rigid.exp([0.02, -0.05, 0.01, 0.3, 0.02, 0.05])
"""c2w of a second camera."""


def cloud(count: int = 300, seed: int = 0, flat: bool = False) -> np.ndarray:
    """Points [N, 3] that cameras near the origin see."""
    rng = np.random.default_rng(seed)
    z = np.full(count, 2.0) if flat else rng.uniform(1.5, 4.0, count)
    uv = rng.uniform((20, 15), (140, 105), (count, 2))
    return np.stack([(uv[:, 0] - 80) / 125 * z, (uv[:, 1] - 60) / 125 * z, z], axis=1)


def seen(points: np.ndarray, c2w: np.ndarray, noise: float = 0.0, seed: int = 1) -> np.ndarray:
    uv = CAMERA.project(rigid.transform(rigid.inverse(c2w), points))
    return uv + noise * np.random.default_rng(seed).normal(size=uv.shape)


def started(p: np.ndarray, q: np.ndarray) -> Begun | str:
    return begin(CAMERA, p, q, np.ones(len(p)))


def test_begins_with_the_motion_at_unit_scale() -> None:
    points = cloud()
    p, q = seen(points, np.eye(4), 0.2), seen(points, ASIDE, 0.2, 2)
    q[::10] = q[::10][::-1]  # a tenth of the pairs are wrong
    begun = started(p, q)
    assert isinstance(begun, Begun)
    scale = float(np.median(points[begun.rows, 2])) / UNIT
    off = rigid.log(rigid.inverse(ASIDE) @ begun.c2w)
    assert np.linalg.norm(off[:3]) < np.deg2rad(1.0)
    assert np.allclose(begun.c2w[:3, 3] * scale, ASIDE[:3, 3], atol=0.03)
    assert np.median(begun.points[:, 2]) == pytest.approx(UNIT)
    ratio = np.linalg.norm(begun.points * scale - points[begun.rows], axis=1)
    assert np.median(ratio) < 0.1


@pytest.mark.parametrize(
    ("flat", "c2w", "said"),
    [
        (False, rigid.exp([0, 0.2, 0, 0, 0, 0]), "only turned"),
        (False, np.eye(4), "waiting for the camera to move"),
        (True, ASIDE, "one plane"),
    ],
)
def test_says_why_it_cannot_begin(flat: bool, c2w: np.ndarray, said: str) -> None:
    points = cloud(flat=flat)
    begun = started(seen(points, np.eye(4), 0.1), seen(points, c2w, 0.1, 2))
    assert isinstance(begun, str)
    assert said in begun


def test_too_few_pairs_begin_nothing() -> None:
    points = cloud(40)
    assert "40 corners" in str(started(seen(points, np.eye(4)), seen(points, ASIDE)))


def test_triangulates_exactly_and_refuses_parallel_rays() -> None:
    points = cloud(50)
    p, q = seen(points, np.eye(4)), seen(points, ASIDE)
    found, angle = triangulate(CAMERA, np.eye(4), ASIDE, p, q)
    assert np.allclose(found, points, atol=1e-9)
    assert (angle > 0).all()
    nothing, angle = triangulate(CAMERA, np.eye(4), np.eye(4), p, p)
    assert np.isnan(nothing).all()
    assert np.allclose(angle, 0, atol=1e-6)


def window(noise: float = 0.3, off: float = 0.02) -> tuple[Window, np.ndarray, np.ndarray]:
    """Five cameras around 120 points, two of them fixed; the true ``w2c`` and points."""
    rng = np.random.default_rng(3)
    points = cloud(120, 4)
    c2w = np.array([rigid.exp([0, -0.05 * k, 0.01 * k, 0.1 * k, 0.02 * k, 0.0]) for k in range(5)])
    view, point = np.repeat(np.arange(5), 120), np.tile(np.arange(120), 5)
    uv = np.concatenate([seen(points, pose, noise, 10 + k) for k, pose in enumerate(c2w)])
    w2c = rigid.inverse(c2w)
    guess = np.array(
        [m if k < 2 else rigid.exp(off * rng.normal(size=6)) @ m for k, m in enumerate(w2c)]
    )
    start = points + 0.05 * rng.normal(size=points.shape)
    made = Window(guess, np.arange(5) >= 2, start, view, point, uv, np.full(len(uv), 0.3))
    return made, w2c, points


def test_adjustment_finds_the_truth() -> None:
    made, w2c, points = window(noise=0.0)
    done = adjust(made, CAMERA, steps=20)
    assert np.allclose(done.w2c, w2c, atol=1e-4)
    assert np.allclose(done.points, points, atol=1e-3)
    assert done.good.all()


def test_adjustment_with_noise_is_as_good_as_the_truth_or_better() -> None:
    made, w2c, points = window(noise=0.3)
    done = adjust(made, CAMERA, steps=20)
    truth, _ = errors(made, CAMERA, w2c, points)
    found, _ = errors(made, CAMERA, done.w2c, done.points)
    assert found.mean() < truth.mean()
    assert np.array_equal(done.w2c[:2], made.w2c[:2])


def test_wrong_observations_are_told_and_hardly_pull() -> None:
    made, w2c, _ = window(noise=0.1)
    uv = made.uv.copy()
    uv[::25] += 20.0
    done = adjust(replace(made, uv=uv), CAMERA, steps=20)
    assert not done.good[::25].any()
    assert done.good.mean() > 0.9
    assert np.abs(done.w2c - w2c).max() < 0.02


def test_adjustment_step_solves_the_whole_system() -> None:
    """Elimination of the points against the dense normal equations."""
    made, _, _ = window()
    one = adjust(made, CAMERA, steps=1)
    h, g = _dense_system(made)
    step = -np.linalg.solve(h + np.diag(1e-4 * np.diag(h) + 1e-8), g)
    moved = np.array([rigid.exp(step[6 * k : 6 * k + 6]) @ made.w2c[2 + k] for k in range(3)])
    assert np.allclose(one.w2c[2:], moved, atol=1e-9)
    assert np.allclose(one.points, made.points + step[18:].reshape(-1, 3), atol=1e-9)


def _dense_system(made: Window) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the three free cameras and all points, by finite differences."""
    n = 18 + 3 * len(made.points)

    def residuals(x: np.ndarray) -> np.ndarray:
        w2c = made.w2c.copy()
        for k in range(3):
            w2c[2 + k] = rigid.exp(x[6 * k : 6 * k + 6]) @ w2c[2 + k]
        points = made.points + x[18:].reshape(-1, 3)
        p = np.einsum("mij,mj->mi", w2c[made.view][:, :3, :3], points[made.point])
        return (CAMERA.project(p + w2c[made.view][:, :3, 3]) - made.uv) / made.sigma[:, None]

    h = 1e-6
    columns = [(residuals(h * e) - residuals(-h * e)).ravel() / (2 * h) for e in np.eye(n)]
    r = residuals(np.zeros(n))
    weight = np.minimum(1, 1.5 / np.linalg.norm(r, axis=1)).repeat(2)
    jacobian = np.stack(columns, axis=1)
    return jacobian.T @ (weight[:, None] * jacobian), jacobian.T @ (weight * r.ravel())


def test_matches_are_looked_for_along_the_line_only() -> None:
    a = np.zeros((1, 32), np.uint8)
    b = np.zeros((2, 32), np.uint8)
    b[1, :3] = 1  # nearly the same, but the exact one is off the line
    ends = np.array([[10, 50, 60, 50]], np.float32)
    uv = np.array([[30, 70], [40, 51]], np.float32)
    assert along(a, b, ends, uv, np.full(2, 2, np.float32)).tolist() == [[0, 1]]
    uv[1, 0] = 70  # beyond its end
    assert not len(along(a, b, ends, uv, np.full(2, 2, np.float32)))


def marks(views: int, each: int = 30) -> Landmarks:
    """Each view sees its own points and those of the view before."""
    made, rng = Landmarks(), np.random.default_rng(0)
    before = np.zeros(0, np.int64)
    for k in range(views):
        rows = made.add(rng.normal(size=(each, 3)), np.zeros((each, 32), np.uint8), k)
        point = np.concatenate([before, rows, np.full(5, -1)])
        uv = rng.uniform(0, 99, (len(point), 2)).astype(np.float32)
        features = Features(
            uv, np.zeros(len(point), np.uint8), np.zeros((len(point), 32), np.uint8),
            np.full((len(point), 3), np.nan, np.float32),
        )  # fmt: skip
        view = view_of(k, rigid.exp(rng.normal(size=6)), features, np.zeros((8, 8), np.uint8))
        view.point = point
        made.views.append(view)
        before = rows
    return made


def test_map_stays_within_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "VIEWS", 12)
    monkeypatch.setattr(landmarks, "POINTS", 200)
    made = marks(20)
    made.trim()
    assert len(made.views) == 12
    assert [v.id for v in made.views[-landmarks.RECENT :]] == list(range(13, 20))
    assert made.views[0].id == 0
    assert len(made) <= 200
    assert all(view.point.max(initial=-1) < len(made) for view in made.views)
    assert all(view.grey.size == 0 for view in made.views[: -landmarks.RECENT])
    assert all((view.point >= 0).all() for view in made.views[: -landmarks.RECENT])


def test_dropping_points_keeps_what_views_see() -> None:
    made = marks(4)
    before = [made.xyz[v.point[v.point >= 0]] for v in made.views]
    gone = np.zeros(len(made), bool)
    gone[::3] = True
    kept = [xyz[~gone[v.point[v.point >= 0]]] for xyz, v in zip(before, made.views, strict=True)]
    made.drop(gone)
    for xyz, view in zip(kept, made.views, strict=True):
        assert np.array_equal(made.xyz[view.point[view.point >= 0]], xyz)


def planes(c2w: np.ndarray, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A textured wall at 3 m and a board at 1.5 m before its right half; picture and depth."""
    image, depth = np.zeros((120, 160), np.float32), np.zeros((120, 160), np.float32)
    w2c = rigid.inverse(c2w)
    for z, left in ((3.0, -9.0), (1.5, 0.0)):
        rays = CAMERA.rays().astype(np.float64) @ c2w[:3, :3].T
        t = (z - c2w[2, 3]) / rays[..., 2]
        at = c2w[:3, 3] + t[..., None] * rays
        uv = (at[..., :2] * 80 / z + 400).astype(np.float32)
        value = cv2.remap(texture, uv[..., 0], uv[..., 1], cv2.INTER_LINEAR)
        hit = at[..., 0] >= left
        image[hit] = value[hit]
        depth[hit] = (at @ w2c[:3, :3].T + w2c[:3, 3])[..., 2][hit]
    return image, depth


def test_sweep_finds_depth_of_two_planes() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (800, 800)).astype(np.float32), (0, 0), 1.5)
    texture = np.clip((texture - 127) * 4 + 127, 0, 255)
    grey, truth = planes(np.eye(4), texture)
    others = []
    for twist in ([0, 0.02, 0, 0.15, 0, 0], [0, -0.02, 0, -0.15, 0, 0], [0, 0, 0, 0, 0.12, 0]):
        c2w = rigid.exp(twist)
        others.append((planes(c2w, texture)[0], rigid.inverse(c2w)))
    pins = np.array([[40.0, 60.0, 3.0], [120.0, 60.0, 1.5]])
    swept = sweep(grey, CAMERA, others, 1.0, 5.0, pins, planes=40)
    known = swept.depth > 0
    error = np.abs(swept.depth / truth - 1)
    assert known.mean() > 0.85
    assert np.median(error[known]) < 0.01
    assert (error[known] < 0.05).mean() > 0.95


def test_sweep_of_a_blank_wall_is_not_sure() -> None:
    blank = np.full((60, 80), 128.0, np.float32)
    camera = CAMERA.resized(80, 60)
    others = [(blank, rigid.exp([0, 0, 0, s, 0, 0])) for s in (0.2, -0.2)]
    swept = sweep(blank, camera, others, 1.0, 5.0, np.zeros((0, 3)), planes=16)
    assert not swept.sure.any()


def test_enlarging_makes_up_no_depth_between_surfaces() -> None:
    depth = np.full((10, 10), 2.0, np.float32)
    depth[:, 5:] = 1.0
    depth[0] = 0
    large = enlarged(depth, 20, 20)
    assert set(np.unique(large)) == {0.0, 1.0, 2.0}
    assert (large[:2] == 0).all()


def test_sharpening_finds_a_shift_of_a_fraction() -> None:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.uniform(0, 255, (120, 160)).astype(np.float32), (0, 0), 2.0)
    a = np.clip((noise - 127) * 6 + 127, 0, 255)
    b = cv2.warpAffine(a, np.array([[1, 0, 0.4], [0, 1, -0.3]]), (160, 120))
    p = rng.uniform(20, 100, (50, 2)).astype(np.float32)
    q = p + np.round(rng.uniform(-1, 1, (50, 2))).astype(np.float32)
    found, good = sharpened(a.astype(np.uint8), b.astype(np.uint8), p, q, np.full(50, 1.5))
    assert good.mean() > 0.8
    assert np.abs(found[good] - p[good] - (0.4, -0.3)).max() < 0.1
    assert np.array_equal(found[~good], q[~good])
