"""`retain train ditmem`, `retain eval ditmem`: a backbone, its memory, and what that is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retain.apps import console
from retain.apps.bench import Row
from retain.apps.training import WEIGHTS, into, launched
from retain.pipeline.errors import UsageError

if TYPE_CHECKING:
    from retain.datasets.bootstrap import Interval
    from retain.models.ditmem.study import Result
    from retain.models.ditmem.train import Recipe
    from retain.models.training import Progress

NAMES = {"frozen": "frozen", "lora": "frozen+LoRA", "joint": "joint"}
"""Modes of training, as options, and their rows in the study."""
_TITLES = {"none": "no memory", "right": "right", "wrong": "wrong world", "shuffled": "shuffled"}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What `retain train ditmem` was asked. ``None``: the recipe's own."""

    out: Path
    mode: str = "lora"
    kind: str = "ball"
    size: str = "tiny"
    steps: int | None = None
    """Of the backbone."""
    memory_steps: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    """Of torch; 0: all cores. Runs are the same bits for the same number only."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `retain eval ditmem` was asked."""

    out: Path
    """Of the study; what is trained and judged there already is not done again."""
    rows: tuple[str, ...] = ()
    seeds: int = 3
    kind: str = "ball"
    size: str = "tiny"
    steps: int | None = None
    memory_steps: int | None = None
    device: str = "auto"
    threads: int = 0
    json: Path | None = None


def train(options: TrainOptions) -> int:
    """Train both to the end, or until Ctrl-C; the same command goes on. Returns the exit code."""
    with launched(options.device, options.threads) as (device, first):
        return _train(options, device, first)


def _train(options: TrainOptions, device: str, first: bool) -> int:
    from retain.models.ditmem import study, weights
    from retain.models.ditmem.train import spread

    if options.mode not in NAMES:
        raise UsageError(f"The mode of training is one of {', '.join(NAMES)}.")
    base = _recipe(options.kind, options.size, options.steps, options.seed)
    steps = options.memory_steps or study.MEMORY_STEPS
    say = console.messages().print
    say(f"training a backbone on worlds of the kind {base.kind}, then its memory, in {options.out}")
    with into(options.out) as bar:
        net = study.guided(NAMES[options.mode], base, options.out, device, _telling(bar), steps)
    path = options.out / WEIGHTS
    if first:
        weights.save(path, net, scale=spread(base), head={"recipe": asdict(base), "memory": steps})
    console.output().print(f"  {path}")
    return 0


def evaluate(options: EvalOptions) -> int:
    """Train and judge what is missing, print the table and the bars; 1 when a bar is missed."""
    from retain.apps import bench
    from retain.models.ditmem import study

    device = _ready(options.device, options.threads)
    rows = options.rows or study.DEFAULT
    base = _recipe(options.kind, options.size, options.steps, 0)
    options.out.mkdir(parents=True, exist_ok=True)
    with into(options.out) as bar:
        results = study.run(
            rows,
            range(options.seeds),
            options.out,
            _telling(bar),
            base=base,
            steps=options.memory_steps or study.MEMORY_STEPS,
            device=device,
        )
    reference = levels(base)
    show(results, reference)
    found = bars(results, reference)
    bench.show("bars", found)
    if options.json:
        document = {"rows": {k: [asdict(r) for r in v] for k, v in results.items()}}
        options.json.write_text(json.dumps(document))
    return 1 if any(row.met is False for row in found) else 0


def levels(base: Recipe) -> dict[str, float]:
    """What needs no network, in pixels on the same worlds: constant velocity; the same beginning by
    another world's law, as a sampler without memory would draw it at best; of the references that
    whose beginning is most alike, copied, from where the clip's own beginning ends."""
    from retain.datasets.worlds.draw import draw
    from retain.datasets.worlds.metrics import GIVEN, constant_velocity, read, trajectory_error
    from retain.models.ditmem import study
    from retain.models.ditmem.config import EncoderConfig

    config = replace(base.world(), split="test")
    clips = draw(config, study.WORLDS, 1 + EncoderConfig().references, study.WORLD_SEED)
    other = draw(config, study.WORLDS, 1, study.WORLD_SEED, laws_seed=study.WORLD_SEED + 1)
    own, known = clips.centres[:, :1], clips.centres[:, 1:]
    begun = np.diff(known[:, :, :GIVEN], axis=2) - np.diff(own[:, :, :GIVEN], axis=2)
    nearest = np.square(begun).sum((2, 3, 4)).argmin(1)
    copied = known[np.arange(len(known)), nearest][:, None]
    copied = copied + (own - copied)[:, :, GIVEN - 1 : GIVEN]
    found = {
        "constant velocity": constant_velocity(read(base.kind, clips.frames[:, :1])),
        "another world": other.centres,
        "nearest reference copied": copied,
    }
    return {
        name: float(trajectory_error(places, own, config.side / 2).mean())
        for name, places in found.items()
    }


def show(results: Mapping[str, Sequence[Result]], reference: Mapping[str, float]) -> None:
    """One line per row: error of single samples / of the mean of six, by what was shown."""
    from rich.table import Table

    from retain.models.ditmem import study
    from retain.models.ditmem.evaluate import SHOWN

    out = Table(
        title="distance in pixels on unseen worlds: one sample / mean of six", title_justify="left"
    )
    for column in ("", *(_TITLES[name] for name in SHOWN), "novelty AUC", "filled in, MSE"):
        out.add_column(column, justify="left" if not column else "right")
    for row, found in results.items():
        cells = []
        for name in SHOWN:
            there = name in found[0].single
            single = study.over_worlds([r.single for r in found], name) if there else None
            mean = study.over_worlds([r.mean for r in found], name) if there else None
            cells.append(
                f"{single.mean():.2f} / {mean.mean():.2f}"
                if single is not None and mean is not None
                else ""
            )
        scores = study.novelty(found)
        filled = _filled(found)
        out.add_row(row, *cells, "" if scores is None else f"{scores.value:.2f}", filled)
    console.output().print(out)
    text = ", ".join(f"{name} {value:.2f}" for name, value in reference.items())
    console.output().print(f"without a network: {text}")
    for row, found in results.items():
        if "right" in found[0].single:
            shares = (1 - sum(r.single["right"]) / sum(r.single["none"]) for r in found)
            by = ", ".join(f"{100 * share:.0f} %" for share in shares)
            console.output().print(f"{row}: one sample lowered by {by}, seed by seed")


def _filled(found: Sequence[Result]) -> str:
    from retain.models.ditmem import study

    if not found[0].filled:
        return ""
    right, linear = (
        study.over_worlds([r.filled for r in found], name).mean() for name in ("right", "linear")
    )
    return f"{right:.4f} (linear {linear:.4f})"


def bars(results: Mapping[str, Sequence[Result]], reference: Mapping[str, float]) -> list[Row]:
    """What is promised of the rows that are there."""
    from retain.models.ditmem import study

    rows: list[Row] = []

    def add(name: str, found: Interval, unit: str, least: float, strict: bool = False) -> None:
        met = found.low > least if strict else found.value >= least
        bar = f"> {least:g}, interval too" if strict else f">= {least:g}"
        text = f"{name} [{found.low:.2f}, {found.high:.2f}]"
        rows.append(Row(name=text, value=found.value, unit=unit, bar=bar, met=met))

    for row, single, mean in (("frozen", 0.15, 0.25), ("frozen+LoRA", 0.35, None)):
        if row not in results:
            continue
        of = study.Means(results[row])
        add(f"{row}: lowers one sample by", study.lowered(*of.single("none", "right")), "", single)
        if row != "frozen" and "frozen" in results:
            (untouched,) = study.Means(results["frozen"]).single("none")
            (right,) = of.single("right")
            add(f"{row}: … of the untouched backbone", study.lowered(untouched, right), "", single)
        if mean is not None:
            add(f"{row}: lowers the mean by", study.lowered(*of.mean("none", "right")), "", mean)
        wrong = study.difference(*of.single("none", "wrong"))
        rows.append(
            Row(
                name=f"{row}: a wrong world gains [{wrong.low:.2f}, {wrong.high:.2f}]",
                value=wrong.value,
                unit="px",
                bar="no gain",
                met=wrong.low <= 0,
            )
        )
        shuffled = study.difference(*of.single("shuffled", "right"))
        add(f"{row}: shuffled time costs", shuffled, "px", 0.0, strict=True)
        still = reference["constant velocity"] - float(of.mean("right", "right")[0].mean())
        rows.append(
            Row(
                name=f"{row}: mean of six beats constant velocity by",
                value=still,
                unit="px",
                bar="> 0",
                met=still > 0,
            )
        )
        scores = study.novelty(results[row])
        if scores is not None:
            add(f"{row}: novelty AUC", scores, "", 0.85)
        linear, right = (
            study.over_worlds([r.filled for r in results[row]], name)
            for name in ("linear", "right")
        )
        add(f"{row}: filling in beats linear by", study.lowered(linear, right), "", 0.0, True)
    if "frozen" in results and "oracle" in results:
        add("frozen: part of the oracle's gain", study.part_of_oracle(results), "", 0.6)
    return rows


def _ready(device: str, threads: int) -> str:
    import torch

    from retain.models.encoders.base import choose_device

    if threads:
        torch.set_num_threads(threads)
    return choose_device(device)


def _recipe(kind: str, size: str, steps: int | None, seed: int) -> Recipe:
    from retain.models.ditmem.train import recipe

    given: dict[str, Any] = {"kind": kind, "seed": seed}
    given |= {} if steps is None else {"steps": steps}
    return replace(recipe(size), **given)


def _telling(bar: Any) -> Any:
    def tell(text: str, progress: Progress) -> None:
        bar.show(f"{text}, loss {progress.loss:.3f}", progress.step, progress.steps)

    return tell
