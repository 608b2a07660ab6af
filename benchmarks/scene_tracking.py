"""Tracking with depth: how far off the path is, and CPU time per frame; the peer is ORB alone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from retain.apps.bench import Row, script
from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.models.scene.tracking.features import Kind
from retain.models.scene.tracking.rgbd import RgbdTracker

AREA = "models"
ROOMS = (0, 2, 5)
FRAMES = 150
KINDS: tuple[Kind, ...] = ("orb", "xfeat")  # the second needs the extra ``xfeat``


def path_error(truth: np.ndarray, path: np.ndarray) -> float:
    """ATE: metres RMS between centres [N, 3] after the rigid motion that fits them best (Umeyama,
    PAMI 1991)."""
    g, e = truth - truth.mean(axis=0), path - path.mean(axis=0)
    u, _, vt = np.linalg.svd(g.T @ e)
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return float(np.sqrt(((g - e @ turn.T) ** 2).sum(axis=1).mean()))


def step_error(truth: Sequence[np.ndarray], path: Sequence[np.ndarray]) -> float:
    """RPE: metres RMS by which motions from frame to frame differ."""
    off = [
        rigid.inverse(rigid.inverse(truth[i]) @ truth[i + 1])
        @ (rigid.inverse(path[i]) @ path[i + 1])
        for i in range(len(path) - 1)
    ]
    return float(np.sqrt(np.mean([m[:3, 3] @ m[:3, 3] for m in off])))


def follow(name: str, shots: Sequence[Shot], bar_cm: float, features: Kind = "orb") -> Row:
    tracker, truth, path, spent = RgbdTracker(features=features), [], [], []
    for shot in shots:
        began = time.process_time()
        tracked = tracker.track(shot)
        spent.append(1000 * (time.process_time() - began))
        if tracked.state in ("tracked", "recovered") and shot.c2w is not None:
            truth.append(shot.c2w)
            path.append(tracked.c2w)
    orb = cv2.ORB.create(1500)
    began = time.process_time()
    for shot in shots[:20]:
        orb.detectAndCompute(cv2.cvtColor(shot.image, cv2.COLOR_RGB2GRAY), None)
    peer = 1000 * (time.process_time() - began) / min(20, len(shots))
    ate = 100 * path_error(np.array(truth)[:, :3, 3], np.array(path)[:, :3, 3])
    rpe = 100 * step_error(truth, path)
    each = float(np.median(spent))
    return Row(
        name=f"track {name}: ATE {ate:.2f} cm, RPE {rpe:.2f} cm, lost {len(shots) - len(path)}",
        value=each, unit="ms CPU", peer="ORB alone", peer_value=peer, ratio=each / peer,
        bar=f"ATE <= {bar_cm:g} cm", met=ate <= bar_cm,
    )  # fmt: skip


def with_card(shots: Sequence[Shot], step: float) -> list[Shot]:
    """A card of coloured squares over a fifth of the picture, 1.2 m away, that slides by ``step``
    pixels a shot, to and fro."""
    height, width = shots[0].image.shape[:2]
    side = int((0.2 * width * height) ** 0.5)
    squares = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    card = cv2.resize(squares, (side, side), interpolation=cv2.INTER_NEAREST)
    span, out = width - side - 4, []
    for i, shot in enumerate(shots):
        x = abs((10 + step * i + span) % (2 * span) - span)
        place = np.array([[1, 0, x], [0, 1, 25 + 0.15 * step * i]], np.float32)
        over = cv2.warpAffine(np.ones((side, side), np.float32), place, (width, height)) > 0.5
        assert shot.depth is not None
        image, depth = shot.image.copy(), shot.depth.copy()
        image[over], depth[over] = cv2.warpAffine(card, place, (width, height))[over], 1.2
        out.append(replace(shot, image=image, depth=depth))
    return out


def measure(quick: bool = False) -> list[Row]:
    from retain.datasets.scene.open import open_scene
    from retain.datasets.scene.room import Room

    rows = []
    for seed in ROOMS[:1] if quick else ROOMS:
        room = Room(seed, FRAMES, jitter=True, sensor=True)
        shots = [room[i] for i in range(40 if quick else FRAMES)]
        for features in KINDS:
            rows.append(follow(f"room {seed}, 320x240, {features}", shots, 3, features))
    for seed in (1,) if quick else (1, 3):
        room = Room(seed, FRAMES, 160, 120, kind="walk", jitter=True, sensor=True)
        shots = [room[i] for i in range(20 if quick else 40)]
        for step in (0.5, 1.0, 2.0):
            name = f"room {seed}, 160x120, a card over 20 % moves {step:g} pixels a frame"
            rows.append(follow(name, with_card(shots, step), 8))
    clip = os.environ.get("RETAIN_RGBD_CLIP")  # a real one with poses, where somebody has one
    for width in (320, 640) if clip else ():
        assert clip
        scene = open_scene(clip, width=width, height=width * 3 // 4)
        shots = [scene[i] for i in range(len(scene))]
        for features in KINDS if width == 320 else KINDS[:1]:
            name = f"{scene.description}, {width} wide, {features}"
            rows.append(follow(name, shots, 5, features))
    return rows


if __name__ == "__main__":
    script(measure, "scene_tracking")
