"""What each part of the network is worth: rows that differ in it, trained and judged alike.

All rows of a seed begin with the same relative part, share the order of the training sequences and
are judged on the same unseen rooms; see ``evaluate``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.memory.evolve import Policy
from retain.models.onlinex import evaluate, train
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.evaluate import Result
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.scenes import Pool, SceneConfig, open_pool
from retain.models.onlinex.train import PairRun, Recipe, SequenceRun, Stage
from retain.models.training import CHECKPOINT, Progress, averaged
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

FULL = "full"
ROWS: dict[str, dict[str, Any]] = {
    FULL: {},
    "no anchor": {"director": "none"},
    "single": {"director": "single"},
    "damped": {"policy": Policy("damped")},
    "explicit": {"transform": "explicit"},
    "no fusion": {"fusion": False},
}
"""``no anchor``: relative poses are chained. ``single``: one state that dense tokens write to, as
CUT3R's. ``damped``: the state goes half of the way. ``explicit``: global Gaussians are local ones,
moved by the global pose."""
LEVELS = ("still, frame copied", "true poses")
"""What needs no training of its own: ``evaluate.constant_pose`` and ``true_poses``."""
ROOMS = 48
"""Unseen ones."""
RECIPE = "recipe.json"
INIT = "init"
"""Folder of a relative part from elsewhere."""
STAGES = ("pairs", "middle", "long")
Tell = Callable[[str, int, int, Progress | None], None]
"""Hears what is being done, how much of it is, of how much; and of a training step all."""


def model(row: str, base: OnlineXConfig) -> OnlineXConfig:
    """Raises UsageError for an unknown row."""
    if row not in ROWS:
        raise UsageError(f"There is no row {row!r}.", hint=nearest(row, ROWS))
    return replace(base, **ROWS[row])


def test_scenes(base: Recipe) -> SceneConfig:
    """The rooms that all rows are judged on."""
    return SceneConfig(base.model.side, ROOMS, evaluate.FRAMES, "test")


def lasting(
    base: Recipe, out: Path, minutes: float | None, cache: Path, device: str, tell: Tell
) -> Recipe:
    """``base`` with the steps of the run in ``out``: written there when it begins, for ``minutes``
    from the time that steps take here; None: those of ``base``."""
    record = out / RECIPE
    if record.exists():
        known = json.loads(record.read_text())
        kept = [known[name] for name in STAGES]
        pairs, middle, long = (Stage(steps, batch, (*frames,)) for steps, batch, frames in kept)
        return replace(base, pairs=pairs, middle=middle, long=long)
    if minutes is not None:
        base = train.timed(base, pool(base.scenes, cache, tell), minutes, device)
    written = {name: astuple(getattr(base, name)) for name in STAGES}
    write_whole(record, json.dumps(written).encode())
    return base


def pool(config: SceneConfig, cache: Path, tell: Tell) -> Pool:
    """From ``cache``, drawn if it is not there yet, by as many threads as torch has."""

    def told(done: int, of: int) -> None:
        tell("drawing rooms", done, of, None)

    return open_pool(config, cache, told, torch.get_num_threads())


def init(out: Path, folder: Path) -> None:
    """Let the rows in ``out`` begin with the relative part of the run in ``folder``. Raises
    UsageError where there is none, StateError where ``out`` has begun with another."""
    known, found = out / INIT / CHECKPOINT, folder / CHECKPOINT
    averaged(folder)
    if known.exists() and known.read_bytes() != found.read_bytes():
        raise StateError(f"{out} has begun with another relative part than {folder}.")
    write_whole(known, found.read_bytes())


def pairs(base: Recipe, scenes: Pool, out: Path, device: str, tell: Tell) -> dict[str, Tensor]:
    """The trained relative part: what ``init`` has put into ``out``, or trained there as far as
    that is not done."""
    if (out / INIT / CHECKPOINT).exists():
        return averaged(out / INIT)
    run = PairRun(base, scenes, out / f"pairs-{base.seed}", device)
    run.out.mkdir(parents=True, exist_ok=True)
    run.load()
    run.train(lambda progress: tell("pairs", progress.step, progress.steps, progress))
    return averaged(run.out)


def network(row: str, base: Recipe, scenes: Pool, out: Path, device: str, tell: Tell) -> OnlineX:
    """The trained network of ``row``, ready to use."""
    own = replace(base, model=model(row, base.model))
    first = pairs(base, scenes, out, device, tell)
    run = SequenceRun(own, scenes, out / place(row, base.seed), device)
    run.out.mkdir(parents=True, exist_ok=True)
    if not run.load():
        run.begin_from(first)
    run.train(lambda progress: tell(row, progress.step, progress.steps, progress))
    return finished(own, run.out, device)


def finished(own: Recipe, folder: Path, device: str = "cpu") -> OnlineX:
    """The network of the run in ``folder``, its weights averaged over steps."""
    net = OnlineX(own.model)
    net.load_state_dict(averaged(folder))
    return net.to(device).eval().requires_grad_(False)


def judged(
    rows: Sequence[str], base: Recipe, out: Path, cache: Path, device: str, tell: Tell
) -> dict[str, Result]:
    """Train and judge ``rows`` and the levels; what is in ``out`` is not done again."""
    scenes = pool(base.scenes, cache, tell)
    test = evaluate.held_out(pool(test_scenes(base), cache, tell))
    found: dict[str, Result] = {}
    for row in rows:
        key = json.loads(json.dumps(asdict(replace(base, model=model(row, base.model)))))
        record = out / f"{place(row, base.seed)}.json"
        known = _recorded(record)
        if known.get("recipe") != key:
            net = network(row, base, scenes, out, device, tell).to("cpu")
            results = {row: asdict(evaluate.judge(net, test))}
            if row == FULL:
                results[LEVELS[1]] = asdict(evaluate.true_poses(net, test))
            known = {"recipe": key, "results": results}
            write_whole(record, json.dumps(known).encode())
        found |= {name: Result(**values) for name, values in known["results"].items()}
    found[LEVELS[0]] = evaluate.constant_pose(test)
    return {name: found[name] for name in (*rows, *LEVELS) if name in found}


def _recorded(record: Path) -> dict[str, Any]:
    if not record.exists():
        return {}
    try:
        known: dict[str, Any] = json.loads(record.read_text())
    except ValueError as error:
        raise StateError(f"{record} is damaged.", hint="Remove it: it is made anew.") from error
    return known


def place(row: str, seed: int) -> str:
    """Name of a row's folder."""
    return f"{row.replace(' ', '-')}-{seed}"
