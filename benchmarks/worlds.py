"""What scores mean on worlds with hidden laws, and how fast clips of them are drawn.

192 unseen worlds of each kind, 12 pixels unless a row says otherwise, 8 frames, two of them given.
Beside each error is its 95 % interval over worlds. Floor: the true frames, read back. Another
world: the same two frames, continued by another world of the prior, as a sampler without a memory
does at best.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from retain.apps.bench import Row, script
from retain.datasets.bootstrap import of_mean
from retain.datasets.worlds import metrics
from retain.datasets.worlds.config import KINDS, ODD, Kind, WorldConfig
from retain.datasets.worlds.draw import Clips, draw
from retain.datasets.worlds.render import Frames

AREA = "models"
WORLDS = 192
PRIORS = 16
"""Other worlds that each is continued by."""
SAMPLES = 6
"""Of which a mean is taken, as of the samples of a model."""


def levels(config: WorldConfig, what: str) -> list[Row]:
    """Errors that a prediction is to be held against."""
    clips = draw(config, WORLDS, 1, seed=0)
    prior = WorldConfig(kind=config.kind, split="test")
    others = [draw(config, WORLDS, 1, 0, 1 + k, laws_of=prior) for k in range(PRIORS)]
    found = metrics.read(config.kind, clips.frames)
    guesses = [metrics.read(config.kind, other.frames) for other in others]
    drawn = np.mean([_error(guess, clips) for guess in guesses], 0)
    mean = np.mean(guesses[:SAMPLES], 0)
    return [
        _row(f"{what}: floor", _error(found, clips)),
        _row(f"{what}: another world", drawn),
        _row(f"{what}: mean of {SAMPLES} other worlds", _error(mean, clips)),
        _row(f"{what}: constant velocity", _error(metrics.constant_velocity(found), clips)),
    ]


def rules(kind: Kind, side: int) -> list[Row]:
    """The other scores, of true frames and beside them of another world's."""
    config = WorldConfig(kind=kind, side=side, split="test")
    clips, other = draw(config, WORLDS, 1, seed=0), draw(config, WORLDS, 1, seed=0, laws_seed=1)
    right, wrong = metrics.scores(clips.frames, clips), metrics.scores(other.frames, clips)
    units = {"E_last": "px", "a-err": "px/frame²", "e-err": "", "energy": "", "penetration": "px"}
    return [
        Row(
            name=f"{kind}, {side} px: {name} of true frames",
            value=float(np.nanmean(right[name])),
            unit=unit,
            peer="another world",
            peer_value=float(np.nanmean(wrong[name])),
        )
        for name, unit in units.items()
        if not np.isnan(right[name]).all()
    ]


def speed(kind: Kind) -> Row:
    """A training batch, against one clip after another."""
    config = WorldConfig(kind=kind)
    batch = _milliseconds(lambda: draw(config, 32, 4, seed=0))
    single = 128 * _milliseconds(lambda: draw(config, 1, 1, seed=0))
    return Row(
        name=f"{kind}: 32 worlds of 4 clips",
        value=batch,
        unit="ms of one core",
        peer="one clip at a time",
        peer_value=single,
        ratio=single / batch,
        bar="<= 10 ms",
        met=batch <= 10,
    )


def measure(quick: bool = False) -> list[Row]:
    rows = []
    for kind in KINDS:
        rows += levels(WorldConfig(kind=kind, split="test"), kind)
    for law in () if quick else ODD["ball"]:
        rows += levels(WorldConfig(split="odd", odd=law), f"ball, {law}")
    for kind in KINDS:
        rows += rules(kind, 12)
    for kind in () if quick else KINDS:
        rows += rules(kind, 24)
    return rows + [speed(kind) for kind in KINDS]


def _error(found: Frames, clips: Clips) -> Frames:
    error = metrics.trajectory_error(found, clips.centres, clips.frames.shape[-1] / 2)
    return error[:, 0]


def _row(name: str, errors: Frames) -> Row:
    value, low, high = of_mean(errors)
    return Row(name=f"{name}: E", value=value, unit=f"px, {low:.2f} to {high:.2f}")


def _milliseconds(work: Callable[[], object], repeats: int = 30) -> float:
    """Thread time, the least of several."""
    least = np.inf
    for _ in range(repeats):
        start = time.thread_time()
        work()
        least = min(least, time.thread_time() - start)
    return 1e3 * float(least)


if __name__ == "__main__":
    script(measure, "worlds")
