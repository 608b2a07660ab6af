"""How well frames follow a world's law: centres read back, and rules that they may break.

``found`` are centres read from frames, ``truth`` the simulated ones: f32[..., T, N, 2] in pixels.
The first ``given`` frames were shown and are not judged. A score is per clip, f32[...].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retain.datasets.worlds.bounces import restitution
from retain.datasets.worlds.config import BOX, PARAMS, SPAN, Kind
from retain.datasets.worlds.draw import SECOND, Clips
from retain.datasets.worlds.motion import Flags
from retain.datasets.worlds.render import Frames, pixels

GIVEN = 2
FLOOR = np.float32(0.25)
"""Of full scale; taken off before a centre is read, so that faint things do not count."""
_BRIGHTER = np.float32((1 + SECOND) / 2)
"""Share of the brightest pixel above which only the first of two objects is."""
_ROUNDS = 3
_HALVES = 1.35
"""Centroids nearer than this are of one disc cut in two. In radii of two discs of the same area:
halves are 1.2 apart, discs 2, and less in small pictures (measured: up to 1.18, from 1.52)."""
PENETRATION = 1 / BOX
"""Share of the side that a centre may lie beyond its walls: a pixel of the smallest frames."""
REST: dict[Kind, int] = {kind: PARAMS[kind].index("restitution") for kind in ("ball", "balls")}
"""Where a kind's parameters hold the restitution."""
GHOST = (0.6, 1.4)
"""Lawful mass of the objects in a frame, as shares of the true one."""


def centres(frames: Frames) -> Frames:
    """Intensity-weighted centroids f32[..., 2] of frames f32[..., 1, S, S], 0..1.

    NaN where nothing is brighter than a quarter of full scale.
    """
    return _centroid(_weight(frames))


def pair(frames: Frames) -> Frames:
    """Centroids f32[..., 2, 2] of two objects of one size, the brighter one first.

    The first is where pixels come near the brightest one, the second what is left; then each pixel
    belongs to the nearer one, softly within half a pixel of the line between, a few times over.
    NaN for one that does not exist.
    """
    weight, shown = _weight(frames), frames[..., 0, :, :]
    top = shown.max((-2, -1), keepdims=True)
    first = _centroid(np.where(weight > 0, np.maximum(shown - _BRIGHTER * top, 0), 0))
    size = np.sqrt((weight > 0).sum((-2, -1)) / np.float32(2 * np.pi))
    beyond = _distance(first, frames) > size[..., None, None] + np.float32(0.5)
    second = _centroid(weight * beyond)
    for _ in range(_ROUNDS):
        apart = np.linalg.norm(second - first, axis=-1)[..., None, None]
        away = np.square(_distance(second, frames)) - np.square(_distance(first, frames))
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.nan_to_num(np.clip(away / (2 * apart) + np.float32(0.5), 0, 1), nan=1)
        first, second = _centroid(weight * share), _centroid(weight * (1 - share))
    halves = np.linalg.norm(second - first, axis=-1) < np.float32(_HALVES) * size
    first[halves], second[halves] = _centroid(weight)[halves], np.nan
    return np.stack((first, second), -2)


def read(kind: Kind, frames: Frames) -> Frames:
    """Centres f32[..., N, 2] of a kind's frames f32[..., 1, S, S], ordered as in ``Clips``."""
    return pair(frames) if kind == "balls" else centres(frames)[..., None, :]


def constant_velocity(found: Frames, given: int = GIVEN) -> Frames:
    """The last two given centres, continued on a straight line through all frames."""
    last, before = found[..., given - 1, :, :], found[..., given - 2, :, :]
    ahead = np.arange(found.shape[-3], dtype=np.float32) - np.float32(given - 1)
    line = last[..., None, :, :] + ahead[:, None, None] * (last - before)[..., None, :, :]
    known = np.arange(found.shape[-3]) < given
    return np.where(known[:, None, None], found, line)


def trajectory_error(found: Frames, truth: Frames, lost: float, given: int = GIVEN) -> Frames:
    """E: mean distance in pixels. A centre that is not there counts as ``lost`` pixels away."""
    return _f32(_miss(found, truth, lost)[..., given:].mean(-1))


def last_error(found: Frames, truth: Frames, lost: float) -> Frames:
    """The same of the last frame."""
    return _f32(_miss(found, truth, lost)[..., -1])


def acceleration_error(found: Frames, truth: Frames, hits: Flags, given: int = GIVEN) -> Frames:
    """Mean distance of second differences in px/frame², where truth flies freely.

    hits bool[..., T, N] as in ``Clips``. Of a ball without drag the true one is its gravity. NaN
    for a clip without such frames.
    """
    free = ~(hits[..., 1:-1, :] | hits[..., 2:, :])
    free[..., : given - 2, :] = False
    miss = np.linalg.norm(np.diff(found, 2, axis=-3) - np.diff(truth, 2, axis=-3), axis=-1)
    return _mean(miss, free & ~np.isnan(miss), axis=(-2, -1))


def energy_drift(found: Frames, clips: Clips, given: int = GIVEN) -> Frames:
    """Mean distance from the true energy between frames, per mass.

    Kinetic and potential, in units of half the squared speed that crosses a side in a clip.
    """
    unit = (clips.unit_speed * BOX / SPAN) ** 2 / 2
    miss = abs(_energy(found, clips) - _energy(clips.centres, clips))[..., given - 1 :] / unit
    return _mean(miss, ~np.isnan(miss), axis=-1)


def penetration(found: Frames, clips: Clips, given: int = GIVEN) -> Frames:
    """How far a centre gets beyond where walls hold it, in pixels: the worst of a clip."""
    low = clips.radius[..., None, None, None]
    over = np.maximum(low - found, found - (clips.frames.shape[-1] - low))[..., given:, :, :]
    return _f32(np.maximum(np.nan_to_num(over), 0).max((-3, -2, -1)))


def violations(found: Frames, clips: Clips, given: int = GIVEN) -> Flags:
    """bool[...]: clips that no law allows.

    A centre more than a twelfth of the side beyond its walls; or, away from walls, a change of
    momentum more than twice the largest that these clips' truth holds there.
    """
    side = clips.frames.shape[-1]
    through = penetration(found, clips, given) > PENETRATION * side
    steps = np.linalg.norm(np.diff(clips.centres, axis=-3), axis=-1)
    margin = clips.radius[..., None, None] + np.float32(steps.max() + side / BOX / 2)
    mass = clips.mass[:, None, None]
    changes, lawful = _changes(found, margin, side), _changes(clips.centres, margin, side)
    jumps = (mass * changes > 2 * (mass * lawful).max())[..., max(given - 2, 0) :, :]
    broken: Flags = through | jumps.any((-2, -1))
    return broken


def ghosts(frames: Frames, truth: Frames, given: int = GIVEN) -> Frames:
    """Share of frames f32[..., T, 1, S, S] whose objects have too little or too much mass."""
    made, real = _weight(frames).sum((-2, -1)), _weight(truth).sum((-2, -1))
    wrong = (made < GHOST[0] * real) | (made > GHOST[1] * real)
    return _f32(wrong[..., given:].mean(-1))


def scores(frames: Frames, clips: Clips, given: int = GIVEN) -> dict[str, Frames]:
    """Every metric of made frames f32[W, K, T, 1, S, S] against ``clips``: f32[W, K] by name.

    Lost centres count as half a side. ``e-err`` is NaN where no bounce was seen or none is hidden.
    """
    found, lost = read(clips.kind, frames), clips.frames.shape[-1] / 2
    hidden = clips.params[:, None, REST[clips.kind]] if clips.kind in REST else np.nan
    return {
        "E": trajectory_error(found, clips.centres, lost, given),
        "E_last": last_error(found, clips.centres, lost),
        "a-err": acceleration_error(found, clips.centres, clips.hits, given),
        "e-err": abs(restitution(found, clips) - hidden),
        "energy": energy_drift(found, clips, given),
        "penetration": penetration(found, clips, given),
        "violations": violations(found, clips, given).astype(np.float32),
        "ghosts": ghosts(frames, clips.frames, given),
    }


def gain(
    none: NDArray[np.floating], right: NDArray[np.floating], floor: NDArray[np.floating]
) -> float:
    """The share of the way from no memory's error to the floor: a statistic for
    ``bootstrap.interval``."""
    return float((none.mean() - right.mean()) / (none.mean() - floor.mean()))


def _f32(array: NDArray[np.floating]) -> Frames:
    return array.astype(np.float32, copy=False)


def _weight(frames: Frames) -> Frames:
    return _f32(np.maximum(frames[..., 0, :, :] - FLOOR, 0))


def _centroid(weight: Frames) -> Frames:
    """f32[..., 2] of weights [..., S, S], NaN where all are 0."""
    grid, total = pixels(weight.shape[-1]), weight.sum((-2, -1))
    with np.errstate(invalid="ignore"):
        return np.stack((weight.sum(-2) @ grid / total, weight.sum(-1) @ grid / total), -1)


def _distance(points: Frames, frames: Frames) -> Frames:
    """f32[..., S, S]: of every pixel's centre from points [..., 2]."""
    grid = pixels(frames.shape[-1])
    across, down = grid - points[..., :1], grid - points[..., 1:]
    far: Frames = np.sqrt(np.square(across[..., None, :]) + np.square(down[..., :, None]))
    return far


def _miss(found: Frames, truth: Frames, lost: float) -> Frames:
    """f32[..., T]: distances, the mean over objects."""
    far = np.linalg.norm(found - truth, axis=-1)
    return _f32(np.where(np.isnan(far), lost, far).mean(-1))


def _mean(values: Frames, counted: Flags, axis: int | tuple[int, ...]) -> Frames:
    """Of those that count; NaN where none does."""
    with np.errstate(invalid="ignore"):
        return _f32(np.where(counted, values, 0).sum(axis) / counted.sum(axis))


def _energy(found: Frames, clips: Clips) -> Frames:
    """f32[..., T - 1]: kinetic and potential per mass, half-way between frames."""
    step = np.diff(found, axis=-3)
    middle = (found[..., 1:, :, :] + found[..., :-1, :, :]) / 2
    fall = (middle * clips.gravity[..., None, None, :]).sum(-1)
    share = (clips.mass / clips.mass.sum(-1, keepdims=True))[:, None, None]
    return _f32((share * (np.square(step).sum(-1) / 2 - fall)).sum(-1))


def _changes(found: Frames, margin: Frames, side: int) -> Frames:
    """f32[..., T - 2, N]: second differences; 0 next to a wall and where a centre is missing."""
    change = np.linalg.norm(np.diff(found, 2, axis=-3), axis=-1)
    edge = np.minimum(found, side - found).min(-1)
    inner = np.minimum(np.minimum(edge[..., :-2, :], edge[..., 1:-1, :]), edge[..., 2:, :])
    with np.errstate(invalid="ignore"):
        return np.where(inner > margin, change, np.float32(0))
