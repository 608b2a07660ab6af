"""Loops without depth: a drifted ring of keyframes is bent back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.models.scene.tracking import closure
from retain.models.scene.tracking.features import Features
from retain.models.scene.tracking.landmarks import Landmarks, view_of

CAMERA = Camera(125.0, 125.0, 80.0, 60.0, 160, 120)
VIEWS = 44
AROUND = 40
"""Views of one turn: the last four see what the first four saw."""
SHRINK = 0.99
"""What a unit of a keyframe is in the next one's."""


@dataclass
class Ring:
    marks: Landmarks
    truth: np.ndarray
    """c2w of each view."""


def ring() -> Ring:
    """Cameras on a circle that look outwards at points around; the map has lost a hundredth of its
    scale, and a little of its direction, at each."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 1500)
    world = np.stack([4 * np.sin(angle), rng.uniform(-1.5, 1.5, 1500), 4 * np.cos(angle)], axis=1)
    world *= rng.uniform(0.8, 1.2, (1500, 1))
    names = rng.integers(0, 256, (1500, 32), np.uint8)
    truth = np.array([_on_circle(2 * np.pi * k / AROUND) for k in range(VIEWS)])
    drifted, scale = [truth[0]], 1.0
    for before, after in pairwise(truth):
        step = rigid.inverse(before) @ after
        step[:3, 3] *= scale
        drifted.append(drifted[-1] @ step @ rigid.exp([0.0, 0.002, 0.001, 0, 0, 0]))
        scale *= SHRINK
    marks, known = Landmarks(), np.full(1500, -1)
    for k in range(VIEWS):
        if k == AROUND - 10:
            known[:] = -1  # from here on the first points come into view again, unrecognised
        local = rigid.transform(rigid.inverse(truth[k]), world)
        uv = CAMERA.project(local)
        with np.errstate(invalid="ignore"):
            seen = np.flatnonzero(((uv > 0) & (uv < (160, 120))).all(axis=1))
        fresh = seen[known[seen] < 0]
        made = rigid.transform(drifted[k], local[fresh] * SHRINK**k)
        known[fresh] = marks.add(made, names[fresh], k)
        blind = np.full((len(seen), 3), np.nan, np.float32)
        octave = np.zeros(len(seen), np.uint8)
        features = Features(uv[seen].astype(np.float32), octave, names[seen], blind)
        view = view_of(k, drifted[k], features, np.zeros((8, 8), np.uint8))
        view.point = known[seen].copy()
        marks.views.append(view)
    return Ring(marks, truth)


def _on_circle(turn: float) -> np.ndarray:
    c2w = rigid.exp([0, turn, 0, 0, 0, 0])
    c2w[:3, 3] = (np.sin(turn), 0, np.cos(turn))
    return c2w


def furthest(made: Ring) -> float:
    off = [v.c2w[:3, 3] - t[:3, 3] for v, t in zip(made.marks.views, made.truth, strict=True)]
    return float(np.linalg.norm(off, axis=1).max())


def test_a_loop_is_found_with_its_scale_and_closed() -> None:
    made = ring()
    before = furthest(made)
    loop = closure.find(made.marks, CAMERA)
    assert loop is not None
    assert loop.new == VIEWS - 1
    assert abs(loop.old - (VIEWS - 1 - AROUND)) <= 4
    true = rigid.inverse(made.truth[loop.old]) @ made.truth[loop.new]
    assert np.allclose(loop.motion[:3, 3], true[:3, 3] * SHRINK**loop.old, atol=0.05)
    # The duplicates lie in units of the views that made them, a few before the last.
    assert 0.9 < loop.scale * SHRINK**AROUND < 1.15
    scale = closure.close(made.marks, loop, 3.0)
    assert 1.2 < scale < 1.8
    assert furthest(made) < before / 3


def test_points_move_with_the_views_that_made_them() -> None:
    made = ring()
    marks = made.marks
    loop = closure.find(marks, CAMERA)
    assert loop is not None
    last = marks.views[-1]
    uv = CAMERA.project(rigid.transform(rigid.inverse(last.c2w), marks.xyz[last.point]))
    closure.close(marks, loop, 3.0)
    after = CAMERA.project(rigid.transform(rigid.inverse(last.c2w), marks.xyz[last.point]))
    assert np.median(np.linalg.norm(after - uv, axis=1)) < 3.0


def test_without_anything_old_in_view_there_is_no_loop() -> None:
    made = ring()
    made.marks.views = made.marks.views[:-14]
    assert closure.find(made.marks, CAMERA) is None
