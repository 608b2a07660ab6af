"""Tracking without depth: path and depth of generated rooms and of the kitchen clip.

Paths are compared after a similarity (a map without depth has no scale), depths after one scale
for the whole sequence. The peer is the tracker that is given depth, on the same frames. The kitchen
clip (7-Scenes) may not be shipped; its rows are there where RETAIN_KITCHEN names its folder or the
developers' data lies beside the repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np

from retain.apps.bench import Row, folder, script
from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.datasets.scene.sevenscenes import SevenScenes
from retain.datasets.scene.trajectory import absolute_errors
from retain.models.scene.tracking.base import Tracked, Tracker
from retain.models.scene.tracking.dense import Dense
from retain.models.scene.tracking.mono import MonoTracker
from retain.models.scene.tracking.rgbd import RgbdTracker

AREA = "models"
TRACK_MS, DENSE_MS = 60.0, 150.0


@dataclass
class Run:
    """Of one sequence."""

    shots: int
    tracked: int
    metres: float
    ate: float
    """Metres, after a similarity."""
    track_ms: float
    dense_ms: float
    keyframes: int
    """With depth."""
    covered: float
    """Share of their pixels with depth."""
    off: float
    """Median relative error of depth."""
    close: float
    """Share of depths within a tenth of the truth."""


def measure(quick: bool = False) -> list[Row]:
    count = 60 if quick else 400
    rows = _rows(f"room 3, loop of {count}", Room(3, count, kind="loop"))
    if not quick:
        rows += _rows("room 5, walk of 400", Room(5, 400, kind="walk"))
        kitchen = _kitchen()
        if kitchen is not None:
            rows += _rows("kitchen", SevenScenes(kitchen, size=(320, 240)))
    return rows


def _rows(name: str, scene: Room | SevenScenes) -> list[Row]:
    shots = [scene[i] for i in range(len(scene))]
    run, peer = _run(shots), _peer(shots)
    return [
        Row(name=f"{name}: path error (ATE)", value=100 * run.ate, unit="cm",
            peer="with depth", peer_value=100 * peer, ratio=peer / run.ate),
        Row(name="… of the way", value=100 * run.ate / run.metres, unit="%"),
        Row(name="… shots with a pose", value=100 * run.tracked / run.shots, unit="%"),
        Row(name="… depth: median error", value=100 * run.off, unit="%"),
        Row(name="… depth within a tenth", value=100 * run.close, unit="%"),
        Row(name="… pixels with depth", value=100 * run.covered, unit="%"),
        Row(name="… track, per frame", value=run.track_ms, unit="ms", bar=f"<= {TRACK_MS:g} ms",
            met=run.track_ms <= TRACK_MS),
        Row(name="… depth, per keyframe", value=run.dense_ms, unit="ms",
            bar=f"<= {DENSE_MS:g} ms", met=run.dense_ms <= DENSE_MS),
    ]  # fmt: skip


def _run(shots: list[Shot]) -> Run:
    for part in (shots[:40], shots):  # once for the compiler
        tracker, dense_s = MonoTracker(), 0.0
        path: list[Tracked] = []
        made: list[Dense] = []
        times: list[float] = []
        for shot in part:
            began = process_time()
            path.append(tracker.track(_bare(shot)))
            times.append(process_time() - began)
            began = process_time()
            made += tracker.dense()
            dense_s += process_time() - began
    estimate, truth = _paths(shots, path)
    by_seq = {shot.seq: shot for shot in shots}
    ratios, covered = [], []
    for dense in made:
        depth, true = dense.shot.depth, by_seq[dense.shot.seq].depth
        assert depth is not None
        assert true is not None
        both = (depth > 0) & (true > 0)
        ratios.append(true[both] / depth[both])
        covered.append(both.sum() / (true > 0).sum())
    ratio = np.concatenate(ratios)
    off = np.abs(np.median(ratio) / ratio - 1)
    return Run(
        len(shots), len(estimate), _length(truth),
        absolute_errors(estimate, truth, scale=True).rmse,
        1000 * float(np.mean(times)), 1000 * dense_s / len(made), len(made),
        float(np.mean(covered)), float(np.median(off)), float((off < 0.1).mean()),
    )  # fmt: skip


def _peer(shots: list[Shot]) -> float:
    tracker: Tracker = RgbdTracker()
    estimate, truth = _paths(shots, [tracker.track(shot) for shot in shots])
    return absolute_errors(estimate, truth, scale=True).rmse


def _paths(shots: Iterable[Shot], path: Iterable[Tracked]) -> tuple[np.ndarray, np.ndarray]:
    """Estimated and true poses of the shots that have one."""
    known = [
        (tracked.c2w, shot.c2w)
        for shot, tracked in zip(shots, path, strict=True)
        if tracked.state in ("tracked", "recovered") and shot.c2w is not None
    ]
    return np.array([pose for pose, _ in known]), np.array([pose for _, pose in known])


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1).sum())


def _bare(shot: Shot) -> Shot:
    return Shot(shot.seq, shot.seconds, shot.image, shot.camera)


def _kitchen() -> Path | None:
    beside = folder().parents[1] / "shared" / "data" / "kitchen_rgbd"
    place = Path(os.environ.get("RETAIN_KITCHEN", beside))
    return place if place.is_dir() else None


if __name__ == "__main__":
    script(measure, "scene_mono")
