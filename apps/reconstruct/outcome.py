"""What is made of a map once its stream has ended: the last refinement, the path, the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.apps.reconstruct.record import HeldOut, Place, Recorder
from retain.datasets.scene import metrics, trajectory
from retain.kernels.geometry.rigid import quaternion
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import Rendered, render
from retain.memory.gaussian.keyframe import MapView
from retain.models.onlinex.mapper import NeuralMapper
from retain.models.scene.kind import Kind
from retain.models.scene.mapper import Mapper
from retain.pipeline.files import write_whole
from retain.pipeline.results import Pose

Matrix = NDArray[np.float64]

TRAJECTORY = "trajectory.txt"
CHUNK = 20
"""Steps between two looks at the clock and at Ctrl-C."""
WALL = 0.04
"""Metres: cells in which a surface may lie once."""
SEEN = 0.5
"""Opacity from which the map covers a pixel."""


@dataclass(frozen=True, slots=True)
class Score:
    """One held-out frame against the map."""

    held: HeldOut
    c2w: Matrix
    psnr: float
    """dB, all pixels; what the map does not cover is black."""
    psnr_covered: float
    ssim: float
    covered: float
    """Share of pixels."""
    depth: metrics.DepthError | None
    """Metres."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The estimated path against the given one, aligned (Umeyama; with scale if it is free)."""

    ate: trajectory.Errors
    rpe: trajectory.RelativeErrors
    frames: int
    scaled: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished map and how good it is."""

    gaussians: Gaussians
    metric: bool
    """Whether lengths are metres; those of pictures alone have no unit."""
    stable: int
    path: tuple[tuple[Place, Matrix], ...]
    """Places with their poses after all corrections."""
    scores: tuple[Score, ...]
    drift: Drift | None
    moved: metrics.Drift
    """How far stable Gaussians moved since they became so."""
    double_walls: float
    """Share of the map's cells in which surfaces lie beside each other; NaN without any, or
    without a unit."""
    refined: int
    """Steps of the last refinement."""
    raw: int
    """What one Gaussian per 2 x 2 pixels of every mapped frame would have come to."""

    def mean(self, name: str) -> float:
        values = [getattr(score, name) for score in self.scores]
        return float(np.mean(values)) if values else float("nan")

    @property
    def depth(self) -> metrics.DepthError | None:
        """Means over the held-out frames."""
        known = [score.depth for score in self.scores if score.depth and score.depth.pixels]
        if not known:
            return None
        mean, median, pixels = (float(np.mean(column)) for column in zip(*known, strict=True))
        return metrics.DepthError(mean, median, int(pixels))


def finish(
    mapper: Mapper | NeuralMapper, steps: int, seed: int, tell: Callable[[int], None]
) -> int:
    """Make all of the map stable and refine it on the pictures it kept; ``tell`` hears how many
    steps are done. Ctrl-C ends it early and loses nothing. Returns the steps taken."""
    mapper.settle()
    if not steps:
        return 0
    rng = np.random.default_rng(seed)
    done = 0
    try:
        with mapper.refining() as refiner:
            while len(refiner) and done < steps:
                count = min(CHUNK, steps - done)
                refiner.take(rng.integers(0, len(refiner), count))
                done += count
                tell(done)
    except KeyboardInterrupt:
        pass
    return done


def judge(
    mapper: Mapper | NeuralMapper, journal: Recorder, refined: int, *, metric: bool
) -> Outcome:
    """Everything that is measured of a map."""
    view = mapper.map.read(mapper.stream, "all")
    poses = mapper.map.poses(mapper.stream)
    path = tuple((place, corrected(place, poses)) for place in journal.path)
    scores = tuple(_score(view.gaussians, held, poses, metric=metric) for held in journal.held_out)
    stable = mapper.map.read(mapper.stream, "stable")
    camera = mapper.kind.camera
    tracked = journal.states["tracked"] + journal.states["recovered"]
    return Outcome(
        gaussians=view.gaussians,
        metric=metric,
        stable=view.stable,
        path=path,
        scores=scores,
        drift=_drift(path, scaled=not metric),
        moved=metrics.map_drift(
            stable.born, stable.gaussians.means, stable.last_seen.max(initial=0) - stable.first_seen
        ),
        double_walls=_double_walls(stable) if metric else float("nan"),
        refined=refined,
        raw=(tracked - len(journal.held_out)) * (camera.width // 2) * (camera.height // 2),
    )


def corrected(place: Place | HeldOut | Pose, poses: dict[int, Matrix]) -> Matrix:
    """The pose of a frame after all that became of its keyframe since; as it was known then where
    the map has forgotten the keyframe."""
    anchor = poses.get(place.anchor)
    return place.c2w if anchor is None else anchor @ place.local


def seen_from(gaussians: Gaussians, held: HeldOut, c2w: Matrix) -> Rendered:
    """The map as the frame's camera would have seen it."""
    return render(gaussians, held.camera, c2w)


def _score(gaussians: Gaussians, held: HeldOut, poses: dict[int, Matrix], *, metric: bool) -> Score:
    c2w = corrected(held, poses)
    drawn, image = seen_from(gaussians, held, c2w), held.image()
    # The neural profile makes a map without a unit of pictures that come with depth in metres.
    depth = held.depth() if metric else None
    covered = drawn.alpha > SEEN
    return Score(
        held, c2w,
        psnr=metrics.psnr(drawn.color, image),
        psnr_covered=metrics.psnr(drawn.color, image, covered),
        ssim=metrics.ssim(drawn.color, image),
        covered=float(covered.mean()),
        depth=None if depth is None else metrics.depth_l1(drawn.depth, depth, drawn.alpha),
    )  # fmt: skip


def _double_walls(stable: MapView) -> float:
    lengths = np.linalg.norm(stable.normals, axis=1, keepdims=True)
    return metrics.double_wall_score(
        stable.gaussians.means,
        stable.normals / np.maximum(lengths, 1e-6),
        stable.gaussians.scales.min(axis=1),
        WALL,
    )


def _drift(path: Sequence[tuple[Place, Matrix]], *, scaled: bool) -> Drift | None:
    known = [(pose, place.truth) for place, pose in path
             if place.truth is not None and place.known]  # fmt: skip
    if len(known) < 3:
        return None
    estimate, truth = (np.stack(side) for side in zip(*known, strict=True))
    return Drift(
        trajectory.absolute_errors(estimate, truth, scale=scaled),
        trajectory.relative_errors(estimate, truth),
        len(known),
        scaled,
    )


def write_trajectory(path: Path, places: Sequence[tuple[Place, Matrix]]) -> None:
    """As TUM RGB-D does: ``seconds tx ty tz qx qy qz qw`` per tracked frame, camera to world."""
    lines = ["# seconds tx ty tz qx qy qz qw: camera to world, x right, y down, z forward"]
    for place, pose in places:
        if place.known:
            w, x, y, z = quaternion(pose[:3, :3])
            numbers = (*pose[:3, 3], x, y, z, w)
            lines.append(f"{place.seconds:.6f} " + " ".join(f"{v:.7f}" for v in numbers))
    write_whole(path, ("\n".join(lines) + "\n").encode())


def facts(made: Outcome, journal: Recorder, kind: Kind) -> dict[str, Any]:
    """What summary.json says of the map."""
    open_scale = "the unit of the given poses" if kind.given else "no unit: the scale is open"
    depth, drift = made.depth, made.drift
    return {
        "gaussians": len(made.gaussians),
        "stable": made.stable,
        "raw_blocks": made.raw,
        "gaussians_to_raw_blocks": len(made.gaussians) / max(made.raw, 1),
        "keyframes": journal.keyframes,
        "loops": journal.loops,
        "states": dict(journal.states),
        "reasons": dict(journal.reasons.most_common(10)),
        "held_out": len(made.scores),
        "psnr_db": made.mean("psnr"),
        "psnr_covered_db": made.mean("psnr_covered"),
        "ssim": made.mean("ssim"),
        "covered": made.mean("covered"),
        "depth_l1_m": depth.mean if depth else None,
        "depth_l1_median_m": depth.median if depth else None,
        "ate_m": drift.ate.rmse if drift else None,
        "ate_scale_free": drift.scaled if drift else None,
        "rpe_m": drift.rpe.translation.rmse if drift else None,
        "rpe_deg": drift.rpe.rotation_deg.rmse if drift else None,
        "map_drift": [
            {"frames_old": list(ages), "median": median, "gaussians": count}
            for ages, median, count in zip(
                made.moved.ages, made.moved.median, made.moved.counts, strict=True
            )
            if count
        ],
        "poses": "given" if kind.given else "estimated",
        "lengths": "metres" if made.metric else open_scale,
        "double_walls": made.double_walls,
        "refined_steps": made.refined,
        "ms_per_frame": {name: round(mean, 3) for name, mean, _ in journal.ms_per_frame()},
        "memory_bytes_most": journal.most_bytes,
        "memory_budget": journal.pose.byte_budget if journal.pose else 0,
        "names": journal.names,
    }
