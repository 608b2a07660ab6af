"""`retain train onlinex`, `retain eval onlinex`: the network, and what its parts are worth."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retain.apps import console
from retain.apps.bench import Row
from retain.apps.training import WEIGHTS, into
from retain.datasets.bootstrap import of_mean

if TYPE_CHECKING:
    from retain.models.onlinex.evaluate import Result
    from retain.models.onlinex.study import Tell
    from retain.models.onlinex.train import Recipe

TRAINED = 15
"""Frames of the longest sequences in training: what comes after is beyond them."""
SPANS = ((1, 7), (8, 15), (16, 31), (32, 63))
"""First and last frames of the columns."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What either command was asked."""

    out: Path
    size: str = "tiny"
    rows: tuple[str, ...] = ("full",)
    minutes: float | None = None
    seed: int = 0
    init: Path | None = None
    cost: int = 0
    device: str = "auto"
    threads: int = 0
    """Of torch; 0: all cores. Runs are the same bits for the same number only."""
    cache: Path | None = None
    json: Path | None = None
    plot: Path | None = None


def train(options: Options) -> int:
    """Train to the end; the exit code. Raises Stopped after Ctrl-C; the same command goes on."""
    from retain.models.onlinex import study, weights

    (row,) = options.rows
    base = _base(options)
    study.model(row, base.model)  # raises for unknown ones
    device, cache = _ready(options)
    with told(options.out) as tell:
        if options.init is not None:
            study.init(options.out, options.init)
        base = study.lasting(base, options.out, options.minutes, cache, device, tell)
        scenes = study.pool(base.scenes, cache, tell)
        net = study.network(row, base, scenes, options.out, device, tell)
    path = options.out / WEIGHTS
    own = replace(base, model=study.model(row, base.model))
    weights.save(path, net, {"recipe": asdict(own)})
    console.output().print(str(path))
    return 0


def evaluate(options: Options) -> int:
    """Train and judge what is missing, print tables and bars; 1 when a bar is missed."""
    from retain.apps import bench
    from retain.models.onlinex import study

    base = _base(options)
    for row in options.rows:
        study.model(row, base.model)
    device, cache = _ready(options)
    with told(options.out) as tell:
        base = study.lasting(base, options.out, options.minutes, cache, device, tell)
        found = study.judged(options.rows, base, options.out, cache, device, tell)
        rows = bars(found) + _cost(options, base, cache, tell)
    for name, unit, digits in MEASURED:
        show(found, name, unit, digits)
    bench.show("bars", rows)
    if options.json:
        document = {"rows": {name: asdict(result) for name, result in found.items()}}
        options.json.write_text(json.dumps(document))
    if options.plot:
        from retain.apps.plot_onlinex import plot

        plot(found, options.plot, TRAINED)
    return 1 if any(row.met is False for row in rows) else 0


MEASURED = (
    ("psnr", "PSNR of views from between the frames, dB", 2),
    ("translation", "distance from the true place, cm", 1),
    ("rotation", "turn from the true one, degrees", 2),
    ("depth", "depth, median error, %", 1),
)
_SCALES = {"translation": 100.0, "depth": 100.0}


def show(found: Mapping[str, Result], name: str, title: str, digits: int) -> None:
    """One line per row, one column per span of frames; mean over rooms and its interval."""
    from rich.table import Table

    out = Table(title=f"{title}; by frames", title_justify="left")
    out.add_column("")
    for first, last in SPANS:
        out.add_column(f"{first} to {last}", justify="right")
    for row, result in found.items():
        if not getattr(result, name):
            continue
        cells = []
        for first, last in SPANS:
            mean = of_mean(_SCALES.get(name, 1.0) * result.mean(name, first, last))
            cells.append(f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]")
        out.add_row(row, *cells)
    console.output().print(out)


def bars(found: Mapping[str, Result]) -> list[Row]:
    """What is promised of the full network against its ablation without the anchor, beyond the
    length of training; the other rows' differences are told too."""
    from retain.models.onlinex.study import FULL, LEVELS

    rows: list[Row] = []
    if FULL not in found:
        return rows
    for row, result in found.items():
        if row == FULL or row in LEVELS:
            continue
        promised = row == "no anchor"
        for name, unit, scale in (
            ("psnr", "dB", 1.0), ("translation", "cm", -100.0), ("rotation", "deg", -1.0),
        ):  # fmt: skip
            first, last = TRAINED + 1, SPANS[-1][1]
            gain = found[FULL].mean(name, first, last) - result.mean(name, first, last)
            mean = of_mean(scale * gain)
            rows.append(
                Row(
                    name=f"full better than {row}, {name}, frames {first} to {last} "
                    f"[{mean.low:.2f}, {mean.high:.2f}]",
                    value=mean.value,
                    unit=unit,
                    bar="> 0, interval too" if promised else "",
                    met=mean.low > 0 if promised else None,
                )
            )
        rows.append(_ate(row, found))
    return rows


def _ate(row: str, found: Mapping[str, Result]) -> Row:
    from retain.models.onlinex.study import FULL

    full, other = (100 * np.asarray(found[name].ate) for name in (FULL, row))
    mean = of_mean(other - full)
    return Row(
        name=f"full better than {row}, ATE over all frames [{mean.low:.2f}, {mean.high:.2f}]",
        value=mean.value,
        unit="cm",
    )


def _cost(options: Options, base: Recipe, cache: Path, tell: Tell) -> list[Row]:
    if not options.cost:
        return []
    from retain.models.onlinex import evaluate, study

    own = replace(base, model=study.model(options.rows[0], base.model))
    net = study.finished(own, options.out / study.place(options.rows[0], base.seed))
    test = evaluate.held_out(study.pool(study.test_scenes(base), cache, tell))
    took = 1e3 * evaluate.frame_cost(net, test, options.cost)
    part = max(1, len(took) // 10)
    early, late = (float(np.median(took[at])) for at in (slice(part, 2 * part), slice(-part, None)))
    return [
        Row(
            name=f"a frame, the last {part} of {len(took)}",
            value=late,
            unit="ms",
            peer=f"frames {part} to {2 * part}",
            peer_value=early,
            ratio=early / late,
            bar=">= 0.8: the cost is flat",
            met=early / late >= 0.8,
        )
    ]


@contextmanager
def told(out: Path) -> Iterator[Tell]:
    """A bar on the screen, and a curve of every training in ``out``."""
    from retain.apps.training import Curve, plot
    from retain.models.training import Progress

    curves: dict[str, Curve] = {}
    try:
        with into(out) as bar:

            def tell(what: str, done: int, of: int, progress: Progress | None) -> None:
                text = what
                if progress is not None:
                    if what not in curves:
                        curves[what] = Curve(_curve(out, what))
                    curves[what].add(progress)
                    text = f"{what}, loss {curves[what].loss:.3f}"
                bar.show(text, done, of)

            yield tell
    finally:
        for what, curve in curves.items():
            with curve:
                pass
            plot(_curve(out, what), _curve(out, what).with_suffix(".svg"))


def _curve(out: Path, what: str) -> Path:
    return out / f"curve-{what.replace(' ', '-')}.csv"


def _base(options: Options) -> Recipe:
    from retain.models.onlinex.train import recipe

    return replace(recipe(options.size), seed=options.seed)


def _ready(options: Options) -> tuple[str, Path]:
    import platformdirs
    import torch

    from retain.models.encoders.base import choose_device

    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    cache = options.cache or Path(platformdirs.user_cache_dir("retain")) / "rooms"
    return choose_device(options.device), cache
