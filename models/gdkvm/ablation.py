"""The paper's ablation rows on phantoms: what the memory, its gates and KPFF are worth.

Each row is the mini network for the cavity alone on a smaller grid, trained from scratch by the
default recipe, with frames corrupted in clips of ten; and judged on frames that went black.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retain.datasets.echo import metrics
from retain.datasets.echo.clip import EchoClip
from retain.models.gdkvm import data, evaluate
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.train import Recipe, Trainer
from retain.pipeline.errors import UsageError, nearest

GRID, STEPS, CLIPS, JUDGED = 80, 900, 400, 60
BLACK = (4, 5, 6)
"""Frames of ten that go black."""

_MODEL = GdkvmConfig(grid=GRID, objects=("cavity",))

ROWS: dict[str, Recipe] = {
    "full": Recipe(model=_MODEL),
    "none": Recipe(model=replace(_MODEL, rule="none")),
    "sum": Recipe(model=replace(_MODEL, rule="sum")),
    "replace": Recipe(model=replace(_MODEL, rule="replace")),
    "beta": Recipe(model=replace(_MODEL, rule="beta")),
    "alpha": Recipe(model=replace(_MODEL, rule="alpha")),
    "LKVA": Recipe(model=replace(_MODEL, rule="sum", kpff=False)),
    "LKVA + GDR": Recipe(model=replace(_MODEL, kpff=False)),
    "U-Net": Recipe(model=_MODEL, per_frame=True),
    "full, alone": Recipe(model=replace(_MODEL, carry=False)),
    "none, alone": Recipe(model=replace(_MODEL, carry=False, rule="none")),
}
"""``full`` is LKVA + GDR + KPFF; ``sum`` LKVA + KPFF; ``U-Net`` the network without a past."""


@dataclass(frozen=True, slots=True)
class Result:
    """Cavity Dice per seed and judged clip."""

    clean: list[list[float]]
    """At end-diastole and end-systole of clips as they are."""
    black: list[list[float]]
    """On the frames ``BLACK`` after they went black."""


def recipe(row: str, seed: int, steps: int) -> Recipe:
    return replace(ROWS[row], steps=steps, clips=CLIPS, seed=seed, batch=4, length=10)


def run(
    rows: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    cache_folder: Path,
    tell: Callable[[str], None],
    steps: int = STEPS,
) -> dict[str, Result]:
    """Train and judge ``rows`` x ``seeds``; what is done already in ``out`` is not done again."""
    for row in rows:
        if row not in ROWS:
            raise UsageError(f"There is no ablation row {row!r}.", hint=nearest(row, ROWS))
    results = {row: Result([], []) for row in rows}
    cache: data.ClipCache | None = None
    judged: list[EchoClip] = []
    for seed in seeds:
        for row in rows:
            place = out / f"{row.replace(' ', '')}-{seed}-{steps}"
            record = place / "result.json"
            if not record.exists():
                if cache is None:
                    cache = data.phantoms(cache_folder, CLIPS, GRID, 2_000_000, lambda d, n: None)
                    judged = evaluate.held_out(JUDGED, "default", GRID)
                made = recipe(row, seed, steps)
                trainer = Trainer(made, cache, place, "cpu")
                trainer.load()
                trainer.train(lambda progress: None)
                found = judge(evaluate.streaming(trainer.averaged()), judged)
                record.write_text(json.dumps(found))
            found = json.loads(record.read_text())
            results[row].clean.append(found["clean"])
            results[row].black.append(found["black"])
            clean, black = (float(np.mean(found[k])) for k in ("clean", "black"))
            tell(f"{row}, seed {seed}: clean {clean:.3f}, black {black:.3f}")
    return results


def judge(segment: evaluate.Segmenter, clips: Sequence[EchoClip]) -> dict[str, list[float]]:
    return {
        "clean": evaluate.damaged_dice(segment, clips, (0, -1), lambda frames: None),
        "black": evaluate.damaged_dice(segment, clips, BLACK, evaluate.blacked),
    }


def difference(
    one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]
) -> metrics.PatientMean:
    """Mean of ``one`` - ``other``, paired by seed and clip; the interval resamples the clips."""
    clips, scores = [], []
    for a, b in zip(one, other, strict=True):
        clips += [str(i) for i in range(len(a))]
        scores += [x - y for x, y in zip(a, b, strict=True)]
    return metrics.patient_mean(clips, scores)
