"""Clips of worlds, all at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.datasets.worlds import ball
from retain.datasets.worlds.config import KINDS, MIXED, ODD, SPLITS, Kind, WorldConfig
from retain.datasets.worlds.motion import Array, Motion, between
from retain.datasets.worlds.render import Frames, discs
from retain.pipeline.errors import UsageError

DIMMEST = 0.75
"""Least brightness of a clip's object; 1 is the most."""
_LOOK_DRAWS = 2
_MODULES = {"ball": ball}


@dataclass(frozen=True)
class Clips:
    """K clips of each of W worlds. Lengths in pixels, (x, y), y down, pixel i covers i..i+1."""

    kind: Kind
    frames: Frames
    """f32[W, K, T, 1, S, S], 0..1."""
    centres: Frames
    """f32[W, K, T, N, 2]: where the objects are."""
    params: Frames
    """f32[W, P]: what a world hides, named by ``PARAMS[kind]``."""
    laws: tuple[str, ...]
    """Per world: ``usual`` or the odd law."""
    radius: Frames
    """f32[W, K]: of a clip's objects."""
    hits: NDArray[np.bool_]
    """bool[W, K, T, N]: something struck between the frame before and this one."""
    gravity: Frames
    """f32[W, K, 2]: px/frame², before it flips."""
    mass: Frames
    """f32[W, N]."""


def draw(
    config: WorldConfig, worlds: int, clips: int, seed: int, laws_seed: int | None = None
) -> Clips:
    """W worlds by ``seed``, K clips each with other states and looks.

    World w and its clip k are the same however many are drawn. With ``laws_seed`` the laws are
    those of that seed and everything else stays: the first two frames are then bit-equal, what
    follows obeys another world. Raises UsageError for counts or seeds that are none.
    """
    if worlds < 1 or clips < 1 or min(seed, laws_seed or 0) < 0:
        raise UsageError("Worlds and clips are drawn from 1 on, seeds from 0.")
    kind = _MODULES[config.kind]
    source = seed if laws_seed is None else laws_seed
    names = _laws(config, worlds)
    hidden = _uniform(config, source, 0, worlds, kind.LAW_DRAWS)
    law = kind.laws(hidden, None if config.split != "odd" else names)
    visible = np.stack(
        [
            _uniform(config, seed, 1 + clip, worlds, kind.STATE_DRAWS + _LOOK_DRAWS)
            for clip in range(clips)
        ],
        axis=1,
    )
    radius = kind.RADIUS * between(1 - config.jitter, 1 + config.jitter, visible[..., 0])
    bright = between(DIMMEST, 1.0, visible[..., 1])
    moved = kind.motion(
        law, visible[..., _LOOK_DRAWS:], radius, config.frames, config.pace, names == "flip"
    )
    return _clips(config, moved, _in_pixels(config, law), names, radius, bright)


def _laws(config: WorldConfig, worlds: int) -> NDArray[np.str_]:
    """Per world the name of its law; mixed ones take turns."""
    if config.split != "odd":
        names: tuple[str, ...] = ("usual",)
    else:
        names = ODD[config.kind] if config.odd == MIXED else (config.odd,)
    return np.array(names)[np.arange(worlds) % len(names)]


def _uniform(config: WorldConfig, seed: int, part: int, worlds: int, draws: int) -> Array:
    """Uniform numbers [worlds, draws]; row w does not depend on how many worlds there are."""
    key = (KINDS.index(config.kind), SPLITS.index(config.split), seed, part)
    return np.random.default_rng(key).random((worlds, draws))


def _in_pixels(config: WorldConfig, law: Array) -> Array:
    """Parameters in pixels and frames."""
    per_frame, per_frame2 = config.pace, config.pace**2
    units = {
        "ball": (config.scale * per_frame2, config.scale * per_frame2, 1.0, per_frame),
        "balls": (1.0, 1.0),
        "pendulum": (per_frame2, per_frame),
        "rolling": (1.0,),
    }
    scaled: Array = law * np.array(units[config.kind])
    return scaled


def _clips(
    config: WorldConfig,
    moved: Motion,
    params: Array,
    names: NDArray[np.str_],
    radius: Array,
    bright: Array,
) -> Clips:
    centres = (config.scale * moved.centres).astype(np.float32)
    sizes = (config.scale * radius).astype(np.float32)
    covered = discs(centres, sizes[:, :, None, None], config.side)
    frames = np.einsum("wktnyx,wk->wktyx", covered, bright.astype(np.float32))[:, :, :, None]
    return Clips(
        config.kind,
        frames,
        centres,
        params.astype(np.float32),
        tuple(names.tolist()),
        sizes,
        moved.hits,
        (config.scale * config.pace**2 * moved.gravity).astype(np.float32),
        moved.mass.astype(np.float32),
    )
