"""Clips of worlds, all at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from retain.datasets.worlds import ball, balls, pendulum, rolling
from retain.datasets.worlds.config import BOX, KINDS, MIXED, ODD, SPAN, SPLITS, Kind, WorldConfig
from retain.datasets.worlds.motion import (
    USUAL,
    Array,
    Flags,
    Motion,
    Names,
    Simulator,
    between,
)
from retain.datasets.worlds.render import FAINT, Frames, discs, ground, rods
from retain.pipeline.errors import UsageError

DIMMEST = 0.75
"""Least brightness of a clip's object; 1 is the most."""
SECOND = 0.7
"""Brightness of a second object, as a share of the first's."""
_LOOK_DRAWS = 2
_SIMULATORS: dict[Kind, Simulator] = {
    "ball": ball.SIMULATOR,
    "balls": balls.SIMULATOR,
    "pendulum": pendulum.SIMULATOR,
    "rolling": rolling.SIMULATOR,
}


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
    hits: Flags
    """bool[W, K, T, N]: something struck or came to rest between the frame before and this one."""
    gravity: Frames
    """f32[W, K, 2]: px/frame², before it flips."""
    mass: Frames
    """f32[W, N]."""

    @property
    def unit_speed(self) -> float:
        """A unit of length per unit of time, in pixels per frame."""
        frames, side = self.frames.shape[2], self.frames.shape[-1]
        return float(side / BOX * SPAN / frames)

    def only(self, clips: slice) -> Clips:
        """Some clips of every world."""
        per_clip = ("frames", "centres", "radius", "hits", "gravity")
        return replace(self, **{name: getattr(self, name)[:, clips] for name in per_clip})


def draw(
    config: WorldConfig,
    worlds: int,
    clips: int,
    seed: int,
    laws_seed: int | None = None,
    laws_of: WorldConfig | None = None,
) -> Clips:
    """W worlds by ``seed``, K clips each with other states and looks.

    World w and its clip k are the same however many are drawn. With ``laws_seed``, or the split of
    ``laws_of``, the laws are those drawn there and everything else stays: the first two frames are
    then bit-equal, what follows obeys another world. Raises UsageError for counts or seeds that are
    none, and for laws of another kind.
    """
    if worlds < 1 or clips < 1 or min(seed, laws_seed or 0) < 0:
        raise UsageError("Worlds and clips are drawn from 1 on, seeds from 0.")
    lawful, source = laws_of or config, seed if laws_seed is None else laws_seed
    if lawful.kind != config.kind:
        raise UsageError(f"Laws of the kind {lawful.kind!r} do not move {config.kind!r}.")
    kind = _SIMULATORS[config.kind]
    names = _names(lawful, worlds)
    law = kind.laws(_uniform(lawful, source, 0, worlds, kind.law_draws), names)
    wanted = _LOOK_DRAWS + kind.state_draws
    drawn = [_uniform(config, seed, 1 + clip, worlds, wanted) for clip in range(clips)]
    look, state = np.split(np.stack(drawn, 1), (_LOOK_DRAWS,), axis=-1)
    radius = kind.radius * between(1 - config.jitter, 1 + config.jitter, look[..., 0])
    bright = between(DIMMEST, 1.0, look[..., 1])
    moved = kind.motion(law, state, radius, config.frames, config.pace, names == "flip")
    units = kind.in_pixels(config.scale, config.pace)
    return _clips(config, moved, law * np.array(units), names, radius, bright)


def _names(config: WorldConfig, worlds: int) -> Names:
    """Per world the name of its law; mixed ones take turns."""
    names: tuple[str, ...] = (USUAL,)
    if config.split == "odd":
        names = ODD[config.kind] if config.odd == MIXED else (config.odd,)
    return np.resize(np.array(names), worlds)


def _uniform(config: WorldConfig, seed: int, part: int, worlds: int, draws: int) -> Array:
    """Uniform numbers [worlds, draws]; row w does not depend on how many worlds there are."""
    key = (KINDS.index(config.kind), SPLITS.index(config.split), seed, part)
    return np.random.default_rng(key).random((worlds, draws))


def _clips(
    config: WorldConfig, moved: Motion, params: Array, names: Names, radius: Array, bright: Array
) -> Clips:
    centres = (config.scale * moved.centres).astype(np.float32)
    sizes = (config.scale * radius).astype(np.float32)
    return Clips(
        config.kind,
        _paint(config, moved, centres, sizes, bright.astype(np.float32)),
        centres,
        params.astype(np.float32),
        tuple(names.tolist()),
        sizes,
        moved.hits,
        (config.scale * config.pace**2 * moved.gravity).astype(np.float32),
        moved.mass.astype(np.float32),
    )


def _paint(
    config: WorldConfig, moved: Motion, centres: Frames, radius: Frames, bright: Frames
) -> Frames:
    """f32[W, K, T, 1, S, S]; where things lie over each other the brightest is seen."""
    side, size = config.side, radius[:, :, None]
    shades = bright[:, :, None, None, None]
    frames = shades * discs(centres[..., 0, :], size, side)
    for other in range(1, centres.shape[-2]):
        shade = np.float32(SECOND) * shades
        frames = np.maximum(frames, shade * discs(centres[..., other, :], size, side))
    if moved.pivot:
        frames = np.maximum(frames, FAINT * rods(centres[..., 0, :], side))
    if moved.slope is not None:
        slope = moved.slope.astype(np.float32)[:, :, None]
        middle = np.zeros_like(centres[:, :, :1, 0]) + np.float32(side / 2)
        middle[..., 1] += size / np.cos(slope)
        frames = np.maximum(frames, FAINT * ground(middle, slope, side))
    return frames[:, :, :, None]
