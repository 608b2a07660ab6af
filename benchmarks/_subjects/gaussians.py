"""The Gaussian map: PSNR of views it has not taken in, and how far the camera's path is off.

A camera with depth goes through a generated room, stands still, goes on, is shaken (blurred), has a
hand over its lens, comes back the way it went and goes on again. Poses are estimated. Views are
judged that `reconstruct` keeps from the map anyway; of them those that are sharp and in motion, so
that a pause does not count as many times as it has frames. Where the camera was does not depend on
the map: it is tracked once, for all rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from _subjects import Outcome, Stream, routed
from retain.apps.reconstruct.outcome import corrected, finish
from retain.datasets.scene import metrics, trajectory
from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.datasets.scene.views import view_of
from retain.kernels.rasterize.render import render
from retain.memory.gate import WriteRule
from retain.models.curvestream import torch_threads
from retain.models.scene.kind import Kind
from retain.models.scene.mapper import Mapper
from retain.models.scene.stage import Reconstruct
from retain.models.scene.tracking.base import Model, Tracked
from retain.models.scene.tracking.make import make_tracker
from retain.pipeline.frame import Frame
from retain.pipeline.results import KNOWN, Pose, View

SEED = 40
SIZE = 128, 96
HOLDOUT = 4
STEPS = 60
"""Of the last refinement."""
DEFAULT_MB, LEAST_MB, FACTOR = 128.0, 2.2, 2
"""Of the stage, and where the curve begins: there most is room for the tracker and pictures."""
NOISE, DEPTH_NOISE = 2.0, 0.002
"""Standard deviations: grey levels, share of the depth."""


@dataclass(frozen=True)
class Walk:
    kind: Kind
    views: list[View]
    poses: np.ndarray
    """[frames, 4, 4] float64, true c2w."""
    tracked: list[Tracked]
    judged: frozenset[int]
    """``seq`` of frames that are sharp and in motion."""


class Retold:
    """A tracker that says what another one said."""

    def __init__(self, tracked: Sequence[Tracked]) -> None:
        self._next = iter(tracked)

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        return next(self._next)


class GaussianMap:
    name = "Gaussian map"
    unit = "dB, PSNR of unseen views"
    gated = True

    def streams(self, quick: bool) -> Sequence[Stream]:
        return [_stream(seed, 24 if quick else 50) for seed in range(1 if quick else 4)]

    def budgets(self, quick: bool) -> Sequence[int]:
        doubled = range(0, 5, 4) if quick else range(5)
        return [int(1e6 * LEAST_MB * FACTOR**k) for k in doubled]

    def run(self, stream: Stream, rule: WriteRule, budget_bytes: int | None = None) -> Outcome:
        """CPU time without tracking and without the last refinement. Beside the PSNR: the path's
        error, and how many Gaussians there are."""
        budget_mb = DEFAULT_MB if budget_bytes is None else budget_bytes / 1e6
        walk: Walk = stream.truth
        stage = Reconstruct(
            poses="estimated", holdout=HOLDOUT, threads=1, write=str(rule), budget_mb=budget_mb
        )
        mapper = Mapper(stream.name, walk.kind, stage.options)
        mapper.tracker, stage.mapper = Retold(walk.tracked), mapper  # type: ignore[assignment]
        said: list[Pose] = []
        began = time.process_time()
        for packet, view in zip(stream.packets(), walk.views, strict=True):
            out = stage.process(packet.plus(view=view))
            assert out is not None
            said.append(out.get("pose", Pose))
        ms = 1000 * (time.process_time() - began) / len(said)
        nbytes = mapper.nbytes
        with torch_threads(1):
            finish(mapper, STEPS, 0, lambda done: None)
        made = mapper.map.read(mapper.stream).gaussians
        poses = mapper.map.poses(mapper.stream)
        psnr = [
            metrics.psnr(
                render(made, mapper.kind.camera, corrected(pose, poses)).color,
                frame.image,
            )
            for frame, pose in zip(stream.frames, said, strict=True)
            if pose.held_out and frame.seq in walk.judged
        ]
        known = [n for n, pose in enumerate(said) if pose.state in KNOWN]
        path = np.stack([corrected(said[n], poses) for n in known])
        ate = trajectory.absolute_errors(path, walk.poses[known], scale=False)
        more = {
            "path error, cm": 100 * ate.rmse,
            "keyframes in the map": float(len(poses)),
            "thousand Gaussians": len(made) / 1000,
        }
        written = float(np.mean([gate > 0 for gate in stream.gates(rule)]))
        return Outcome(float(np.mean(psnr)), written, ms, nbytes, more)


def _stream(seed: int, leg: int) -> Stream:
    """``leg``: frames of each of the ways that the camera goes."""
    rng = np.random.default_rng((SEED, seed))
    room = Room(SEED + seed, 300, *SIZE, kind="loop")
    shots: list[Shot] = []
    judged = set[int]()
    first = 10_000 * seed

    def show(numbers: Sequence[int], blur: float = 0.0, covered: bool = False) -> None:
        moving = len(set(numbers)) > 1 and not blur and not covered
        for number in numbers:
            seq = first + len(shots)
            judged.update([seq] * moving)
            shots.append(replace(_seen(room[number], rng, blur, covered), seq=seq))

    at = 0
    for pause in rng.integers(leg // 3, leg, 2).tolist():
        show(range(at, at + leg))
        show([at + leg] * pause)
        show(range(at + leg, at + leg + 6), blur=float(rng.uniform(1.5, 3)))
        show(range(at + leg + 6, at + leg + 12))
        show([at + leg + 12] * 6, covered=True)
        at += leg + 12
    show(range(at, at - leg, -1))
    show(range(at - leg, at + leg // 2, 2))
    frames = [
        Frame(f"room {seed}", shot.seq, n, Fraction(1, 30), shot.image)
        for n, shot in enumerate(shots)
    ]
    tracker, _ = make_tracker("", given=False, depth=True, fit="keyframe")
    truth = Walk(
        Kind.of(shots[0], given=False),
        [view_of(shot) for shot in shots],
        np.stack([shot.c2w for shot in shots if shot.c2w is not None]),
        [tracker.track(shot) for shot in shots],
        frozenset(judged),
    )
    return Stream(frames[0].stream, frames, routed(frames), truth)


def _seen(shot: Shot, rng: np.random.Generator, blur: float, covered: bool) -> Shot:
    """``shot`` as a camera gives it that is shaken by ``blur`` pixels, or covered."""
    image: np.ndarray = shot.image.astype(np.float32)
    if blur:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    if covered:
        image = np.zeros_like(image)
    image = image + rng.normal(0, NOISE, image.shape)
    depth = None
    if shot.depth is not None and not covered:
        depth = shot.depth * (1 + rng.normal(0, DEPTH_NOISE, shot.depth.shape)).astype(np.float32)
    picture = np.ascontiguousarray(np.rint(image).clip(0, 255).astype(np.uint8))
    return replace(shot, image=picture, depth=depth, labels=None, codes=None, names=())


SUBJECT = GaussianMap()
