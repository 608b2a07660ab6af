"""Restitution, read from how fast things come and go."""

from __future__ import annotations

import numpy as np

from retain.datasets.worlds.config import BOX, PARAMS
from retain.datasets.worlds.draw import Clips
from retain.datasets.worlds.render import Frames

_SLOW, _FAST = 0.15, 0.5
"""Least speeds of a bounce and a collision to read restitution from, in ``Clips.unit_speed``."""
_NEAR = 2.0
"""Units of length between two balls that may meet before the next frame."""
_TIMING = 0.3
"""Frames by which the way to a wall and back may differ from the one frame that a bounce has."""


def restitution(found: Frames, clips: Clips) -> Frames:
    """Outgoing over incoming normal speed at the bounces seen in ``found``; NaN without one.

    Bounces are seen between two frames that both have a neighbour on their far side. Of a ball, the
    median over those fast enough not to be back within a frame, with speeds brought to the wall by
    the world's gravity and freed from its drag. Of two balls, at the one change of speed that is
    largest, along that change.
    """
    if clips.kind == "ball":
        return _of_ball(found, clips)
    if clips.kind == "balls":
        return _of_pair(found, clips)
    return np.full(found.shape[:-3], np.nan, np.float32)


def _of_ball(found: Frames, clips: Clips) -> Frames:
    side, radius = clips.frames.shape[-1], clips.radius[..., None, None]
    place, gravity = found[..., 0, :], clips.gravity[..., None, :]
    step, middle = np.diff(place, axis=-2), (place[..., 1:, :] + place[..., :-1, :]) / 2
    before, after = step[..., :-2, :], step[..., 2:, :]
    wall = np.where(before > 0, side - radius, radius)
    slow = _SLOW * clips.unit_speed
    arrives, leaves = (
        speed**2 + 2 * gravity * (wall - at + gravity / 8)
        for speed, at in ((before, middle[..., :-2, :]), (after, middle[..., 2:, :]))
    )
    kick = abs(after - before - 2 * gravity)  # by walls alone; of three in a row the middle is pure
    beside = np.pad(kick, ((0, 0),) * (kick.ndim - 2) + ((1, 1), (0, 0)))
    seen = (before * after < 0) & (kick >= np.maximum(beside[..., :-2, :], beside[..., 2:, :]))
    seen &= np.minimum(arrives, leaves) > np.maximum(slow, abs(gravity)) ** 2
    into, out = np.sqrt(np.where(seen, (arrives, leaves), np.nan))
    way = abs(wall - place[..., 1:-2, :]) / into + abs(wall - place[..., 2:-1, :]) / out
    ratio = np.where(abs(way - 1) < _TIMING, out / into, np.nan)
    kept = 1 - 2 * clips.params[:, None, PARAMS["ball"].index("drag")]  # of two frames
    return (_median(ratio) / kept).astype(np.float32)


def _of_pair(found: Frames, clips: Clips) -> Frames:
    apart = found[..., 0, :] - found[..., 1, :]
    relative = np.diff(apart, axis=-2)
    before, after = relative[..., :-2, :], relative[..., 2:, :]
    turn = after - before
    reach = 2 * clips.radius[..., None] + _NEAR * clips.frames.shape[-1] / BOX
    size = np.linalg.norm(turn, axis=-1)
    size = np.where(np.linalg.norm(apart[..., 1:-2, :], axis=-1) < reach, size, 0)
    at = np.nan_to_num(size).argmax(-1)[..., None, None]
    come, go, along = (
        np.take_along_axis(vectors, at, -2)[..., 0, :] for vectors in (before, after, turn)
    )
    arrives, leaves = -(come * along).sum(-1), (go * along).sum(-1)
    seen = arrives > np.nanmax(size, -1, initial=0) * np.float32(_FAST * clips.unit_speed)
    return np.where(seen, leaves / np.where(seen, arrives, 1), np.float32(np.nan))


def _median(values: Frames) -> Frames:
    """Over the last two axes, without NaN; NaN where nothing is left."""
    flat = np.sort(values.reshape(*values.shape[:-2], -1), -1)  # NaN comes last
    count = (~np.isnan(flat)).sum(-1, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, count // 2 * (count > 0)
    both = np.take_along_axis(flat, low, -1) + np.take_along_axis(flat, high, -1)
    return (both[..., 0] / 2).astype(np.float32)
