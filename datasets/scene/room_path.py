"""A hand-held camera's path through a room: smooth, 2 to 8 cm and 1 to 6 degrees from frame to
frame, and far enough from the walls. Objects are then placed clear of the path."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PathKind = Literal["loop", "walk", "turn"]

CLEARANCE_M = 0.35
"""Least distance of the camera from any object, and from the walls."""
MARGIN_M = 0.65
"""Of the path from the walls."""
_STEP_M = (0.038, 0.052)
_RETRACED = 0.1
"""Part of a loop's frames that see its start again."""
_FASTEST_TURN = np.radians(4.3)
"""Per frame: a short path that would need more to turn with its lap turns to and fro instead."""
_LONGEST = 1.7
"""Axes of a lap, less for short ones: others would turn sharply at their ends."""
_DENSE = 4096


def camera_path(rng: np.random.Generator, size: Array, frames: int, kind: PathKind) -> Array:
    """Poses ``c2w`` [frames, 4, 4] in a room of ``size`` [3] metres (floor's middle at 0, z up)."""
    frame = np.arange(frames, dtype=np.float64)
    if kind == "turn":
        place = np.array([*rng.uniform(-0.12, 0.12, 2) * size[:2], rng.uniform(1.2, 1.6)])
        positions = np.repeat(place[None], frames, axis=0)
        rate = np.radians(rng.uniform(1.6, 3.5)) * rng.choice([-1.0, 1.0])
        yaw = rng.uniform(0, 2 * np.pi) + rate * frame
    else:
        positions, yaw = _walk(rng, size, frame, kind)
        positions = positions + _shake(rng, frame, 0.004, 3)
    pitch, roll = _hand(rng, frame)
    return _poses(positions, yaw, pitch - np.radians(rng.uniform(6, 14)), roll)


def _walk(
    rng: np.random.Generator, size: Array, frame: Array, kind: PathKind
) -> tuple[Array, Array]:
    """Laps around the middle of the room, looking across it. A loop closes; a walk spirals in."""
    frames = len(frame)
    period = max(2.0, (frames - 1) * (1 - _RETRACED)) if kind == "loop" else float(frames)
    step = rng.uniform(*_STEP_M)
    room = np.maximum(size[:2] / 2 - MARGIN_M, 0.3) * rng.uniform(0.8, 1.0, 2)
    room = np.minimum(room, np.clip(period * step / 3, 1.0, _LONGEST) * room.min())
    reach = 0.8 if kind == "loop" else 0.65  # of an ellipse's length: see _curve
    laps = period * step / (reach * _ellipse(room))
    laps = float(np.ceil(laps)) if kind == "loop" else max(laps, 0.2)
    curve = _curve(rng, room, laps, period * step, kind)
    walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    # A pace that changes, and comes back to itself with the loop.
    waves, phase = max(1, round(period / 45)), rng.uniform(0, 2 * np.pi)
    turn = 2 * np.pi * waves / period
    part = (frame + 0.22 / turn * (np.sin(turn * frame + phase) - np.sin(phase))) / period
    dense = np.linspace(0, 1, _DENSE + 1) * walked[-1]
    at = np.stack([np.interp(dense, walked, curve[:, i]) for i in range(3)], axis=1)
    places = (part % 1.0 if kind == "loop" else np.clip(part, 0, 1)) * _DENSE
    positions = np.stack([np.interp(places, np.arange(_DENSE + 1), at[:, i]) for i in range(3)], 1)
    start = np.arctan2(at[0, 1], at[0, 0]) + np.pi + rng.uniform(-0.6, 0.6)
    if 2 * np.pi * laps / period <= _FASTEST_TURN:
        heading = np.unwrap(np.arctan2(at[:, 1], at[:, 0]))
        yaw = start + np.sign(heading[-1] - heading[0]) * 2 * np.pi * laps * part
    else:
        swing = np.radians(3.0) * period / (2 * np.pi)
        yaw = start + min(swing, 0.9) * np.sin(2 * np.pi * part)
    return positions, yaw


def _curve(
    rng: np.random.Generator, room: Array, laps: float, length: float, kind: PathKind
) -> Array:
    """[_DENSE + 1, 3] of about ``length`` metres; closed for loops."""
    s = np.linspace(0, 1, _DENSE + 1)
    angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1.0, 1.0]) * 2 * np.pi * laps * s
    wave, phase = 2 * np.pi * s, rng.uniform(0, 2 * np.pi, 4)
    if kind == "loop":
        radius = 1 - 0.12 * (1 + np.cos(wave + phase[0])) * (laps > 1)
    else:
        radius = 1 - 0.45 * s
    radius = radius * (1 - 0.04 * (1 + np.cos(2 * angle + phase[1])))
    shape = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    flat = shape * room
    size = np.linalg.norm(np.diff(flat, axis=0), axis=1).sum()
    flat *= min(1.0, length / size)
    rise = 0.1 * np.sin(laps * wave + phase[2]) + 0.06 * np.sin((laps + 1) * wave + phase[3])
    height = rng.uniform(1.25, 1.55) + rise * min(1.0, length / 4)
    return np.concatenate([flat, height[:, None]], axis=1)


def _ellipse(axes: Array) -> float:
    """Its circumference (Ramanujan's first)."""
    a, b = axes
    return float(np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))))


def _shake(rng: np.random.Generator, frame: Array, amplitude: float, count: int) -> Array:
    """[frames, count] sums of slow sines."""
    out = np.zeros((len(frame), count))
    for period in (19.0, 31.0, 53.0):
        phase = rng.uniform(0, 2 * np.pi, count)
        out += amplitude * np.sin(2 * np.pi * frame[:, None] / (period * 1.1) + phase)
    return out


def _hand(rng: np.random.Generator, frame: Array) -> tuple[Array, Array]:
    """Pitch and roll in radians: a circle of the wrist, so that the camera is never at rest."""
    period, phase = rng.uniform(13, 19), rng.uniform(0, 2 * np.pi)
    turn = 2 * np.pi * frame / period + phase
    size = np.radians(rng.uniform(1.35, 1.6)) * period / (2 * np.pi)
    slow = _shake(rng, frame, np.radians(0.35), 2)
    return size * np.sin(turn) + slow[:, 0], size * np.cos(turn) + slow[:, 1]


def _poses(positions: Array, yaw: Array, pitch: Array, roll: Array) -> Array:
    """[N, 4, 4] of cameras looking along ``yaw`` from x in the floor's plane, ``pitch`` upwards."""
    forward = np.stack(
        [np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=1
    )
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=1)
    down = np.cross(forward, right)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    poses = np.zeros((len(yaw), 4, 4))
    poses[:, :3, 0], poses[:, :3, 1] = cos * right + sin * down, cos * down - sin * right
    poses[:, :3, 2], poses[:, :3, 3], poses[:, 3, 3] = forward, positions, 1.0
    return poses
