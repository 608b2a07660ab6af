"""TUM RGB-D, Replica, 7-Scenes and the other scene formats: the path, and what the map shows.

Path: absolute trajectory error after a rigid alignment (Umeyama; with scale where pictures have no
depth) and relative errors from frame to frame. Map: PSNR, SSIM and depth error of frames that were
kept from it. Both of what `retain reconstruct --poses estimated` made of each sequence.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from retain.apps.console import INTERRUPTED
from retain.apps.evaluate_sets.base import Kept, SetOptions, Table, Tell, limited, partly
from retain.apps.reconstruct import run as job
from retain.datasets.scene.open import recognise
from retain.pipeline.errors import RetainError, UsageError

WIDTH = 320
HOLDOUT = 8
FINISH = 500
"""Gradient steps at the end."""
_HEAD = (
    "", "frames", "lost", "ATE cm", "RPE cm", "RPE deg", "PSNR dB", "SSIM", "depth L1 cm",
    "Gaussians", "ms a frame",
)  # fmt: skip
_FACTS = (
    "frames", "ate_m", "rpe_m", "rpe_deg", "psnr_db", "ssim", "depth_l1_m", "gaussians", "states",
    "ms_per_frame", "lengths",
)  # fmt: skip


def scene(options: SetOptions, kept: Kept, tell: Tell) -> Iterable[Table]:
    """One table; a row per sequence at ``options.path``, and their mean."""
    root = Path(options.path).resolve()
    places = list(limited(options, sequences(root)))
    if not places:
        raise UsageError(
            f"There is no scene of a known format in {options.path!r}.",
            hint=f"retain data doctor {options.path} says what it is.",
        )
    rows: list[tuple[str | float | int, ...]] = []
    why = []
    for k, place in enumerate(places):
        # Two levels deep the same name comes again: chess/seq-01, fire/seq-01.
        name = place.name if place == root else place.relative_to(root).as_posix()
        tell(name, k, len(places))
        facts = kept.ask(name, partial(_facts, place, kept.folder / "runs" / name))
        if "error" in facts:
            why.append(f"{name}: {facts['error']}")
        rows.append((name, *_numbers(facts)))
    if len(why) == len(places):
        raise UsageError(f"No scene of {options.path!r} could be judged.", hint=why[0])
    if len(rows) > 1:
        rows.append(("mean", *(_mean([row[k] for row in rows]) for k in range(1, len(_HEAD)))))
    formats = ", ".join(sorted({recognise(str(place)) for place in places}))
    yield Table(
        f"{formats}: {len(places)} sequences, poses estimated",
        _HEAD,
        rows,
        (
            *why, *partly(options),
            f"Pictures {WIDTH} wide. PSNR, SSIM and depth are of every {HOLDOUT}th frame, which "
            "the map has not seen; SLAM papers mostly render frames they mapped.",
        ),
    )  # fmt: skip


def sequences(path: Path) -> list[Path]:
    """The sequence at ``path``, or those in the folders below it, two levels deep."""
    if recognise(str(path)):
        return [path]
    found = [p for p in sorted(path.glob("*")) if p.is_dir() and recognise(str(p))]
    return found or [p for p in sorted(path.glob("*/*")) if p.is_dir() and recognise(str(p))]


def recognises(path: Path) -> bool:
    return path.is_dir() and bool(sequences(path))


def _facts(place: Path, out: Path) -> Mapping[str, Any]:
    """Of summary.json; an ``error`` where not all of it could be mapped. Raises KeyboardInterrupt:
    what was mapped before Ctrl-C is not what is judged."""
    shutil.rmtree(out, ignore_errors=True)  # half a run from before
    options = job.ReconstructOptions(
        source=str(place), out=out, poses="estimated", width=WIDTH, holdout=HOLDOUT, finish=FINISH,
        page=False, runner="inline", exports=(), command="retain eval set", whole=True,
    )  # fmt: skip
    try:
        done = job.reconstruct(options, lambda done: None)
    except RetainError as error:
        if error.exit_code == INTERRUPTED:
            raise KeyboardInterrupt from error
        return {"error": error.what}
    if done.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    if done.exit_code:
        return {"error": "it broke off, see the messages"}
    summary = json.loads((out / "summary.json").read_bytes())
    if 0 < summary["refined_steps"] < FINISH:  # there Ctrl-C means: enough
        raise KeyboardInterrupt
    return {name: summary[name] for name in _FACTS}


def _numbers(facts: Mapping[str, Any]) -> tuple[float, ...]:
    if "error" in facts:
        return (math.nan,) * (len(_HEAD) - 1)

    def cm(name: str) -> float:
        return math.nan if facts[name] is None else 100 * facts[name]

    def plain(name: str) -> float:
        return math.nan if facts[name] is None else facts[name]

    return (
        facts["frames"], facts["states"].get("lost", 0), cm("ate_m"), cm("rpe_m"),
        plain("rpe_deg"), plain("psnr_db"), plain("ssim"), cm("depth_l1_m"), facts["gaussians"],
        sum(facts["ms_per_frame"].values()),
    )  # fmt: skip


def _mean(values: Iterable[str | float | int]) -> float:
    known = [v for v in values if not isinstance(v, str) and math.isfinite(v)]
    return sum(known) / len(known) if known else math.nan
