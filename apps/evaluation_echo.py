"""`retain eval echo`: how good the echo network is on phantoms it has not seen, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retain.apps import bench, console
from retain.apps.bench import Row
from retain.apps.cli_options import command_line

if TYPE_CHECKING:
    from retain.models.gdkvm.network import Gdkvm

PRESETS = ("easy", "default", "poor")
LONG = 300
"""Frames of the long stream."""


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `retain eval echo` was asked."""

    weights: str = "mini"
    clips: int = 40
    """Per preset."""
    ablation: bool = False
    rows: tuple[str, ...] = ()
    """Of the ablation; empty: all."""
    seeds: int = 3
    steps: int = 0
    """Of each ablation run; 0: the recipe's."""
    out: Path = Path("retain-out/ablation")
    json: Path | None = None


def evaluate(options: EvalOptions) -> int:
    """Print the table; exit code 1 when a bar is missed."""
    import torch

    from retain.models.gdkvm import weights

    say = console.messages().print
    say("Phantom scores compare networks; they say nothing about patients. Not for diagnosis.")
    model = weights.load(options.weights)
    rows: list[Row] = []
    with torch.inference_mode():
        for title, measure in (
            ("held-out phantoms", held_out),
            ("damaged frames", damaged),
            ("long and gappy streams", long_streams),
        ):
            found = list(measure(model, options))
            bench.show(title, found)
            rows += found
    if options.ablation:
        found = list(ablation(options))
        bench.show("ablation", found)
        rows += found
    if options.json:
        from retain.apps.numbers import records

        records.keep(rows, command_line(), "models", options.json)
    return 1 if any(row.met is False for row in rows) else 0


def held_out(model: Gdkvm, options: EvalOptions) -> Iterator[Row]:
    """Every preset: the cavity at ED and ES, the frames between, EF; the other structures."""
    from retain.datasets.echo.clip import LABELS
    from retain.models.gdkvm import evaluate as judge

    segment = judge.streaming(model)
    for preset in PRESETS:
        clips = judge.held_out(options.clips, preset, model.config.grid)
        found = judge.score(segment, clips)
        bar, ef_bar = (0.93, 5.0) if preset == "default" else (None, None)
        yield _dice(f"{preset}: cavity at ED and ES", found.ends.mean, bar)
        gap = found.ends.mean - found.middle.mean
        yield Row(
            name=f"{preset}: … minus the frames between",
            value=gap,
            unit="Dice",
            bar="within 0.02" if bar else "",
            met=abs(gap) <= 0.02 if bar else None,
        )
        yield Row(
            name=f"{preset}: EF, mean absolute error ({found.ef.n} clips, r {found.ef.r:.2f})",
            value=found.ef.mae,
            unit="points",
            bar="<= 5" if ef_bar else "",
            met=found.ef.mae <= ef_bar if ef_bar else None,
        )
        yield Row(name=f"{preset}: HD95 of the cavity", value=found.hd95_mm.mean, unit="mm")
        for name in model.config.objects[1:]:
            other = judge.score(segment, clips, LABELS.index(name) + 1)
            yield _dice(f"{preset}: {name} at ED and ES", other.ends.mean)


def damaged(model: Gdkvm, options: EvalOptions) -> Iterator[Row]:
    """Frames that went black or half into shadow; the same network without its memory as peer."""
    from dataclasses import replace

    from retain.models.gdkvm import evaluate as judge
    from retain.models.gdkvm.network import Gdkvm as Network

    none = Network(replace(model.config, rule="none"))
    none.load_state_dict(model.state_dict())
    clips = judge.held_out(options.clips, "default", model.config.grid)
    for name, hit, damage in (
        ("frames 4 to 6 of 10 black", (4, 5, 6), judge.blacked),
        ("frames 8 and 9 of 10 black", (8, 9), judge.blacked),
        ("frames 4 to 6 of 10 half shadowed", (4, 5, 6), judge.half_shadowed),
    ):
        ours, peer = (
            float(np.mean(judge.damaged_dice(judge.streaming(network), clips, hit, damage)))
            for network in (model, none.eval())
        )
        yield Row(
            name=name,
            value=ours,
            unit="Dice",
            peer="its memory read as zero",
            peer_value=peer,
            ratio=ours / peer if peer else None,
        )


def long_streams(model: Gdkvm, options: EvalOptions) -> Iterator[Row]:
    """No drift over ``LONG`` frames; a bounded state; every second frame missing."""
    from retain.datasets.echo.clip import CAVITY
    from retain.datasets.echo.metrics import dice
    from retain.datasets.echo.phantom import PhantomConfig, make_stream
    from retain.models.gdkvm import evaluate as judge

    config = PhantomConfig(size=model.config.grid)
    segment = judge.streaming(model)
    early, late, sparse, largest, slopes = [], [], [], [], []
    for i in range(max(2, options.clips // 10)):
        clip = make_stream(judge.HELD_OUT + 500 + i, LONG / 30, 30.0, config)
        frames, truth = judge.normalised(clip), clip.masks == CAVITY
        found = segment(frames) == CAVITY
        scores = [dice(p, t) or 0.0 for p, t in zip(found, truth, strict=True)]
        early.append(np.mean(scores[: LONG // 3]))
        late.append(np.mean(scores[-LONG // 3 :]))
        slopes.append(np.polyfit(truth.sum(axis=(1, 2)), found.sum(axis=(1, 2)), 1)[0])
        half = segment(frames[::2]) == CAVITY
        sparse.append(np.mean([dice(p, t) or 0.0 for p, t in zip(half, truth[::2], strict=True)]))
        largest.append(max(judge.state_norms(model, frames)))
    drift = float(np.mean(early) - np.mean(late))
    yield _dice(f"first 100 of {LONG} frames", float(np.mean(early)))
    yield Row(
        name="… minus the last 100",
        value=drift,
        unit="Dice",
        bar="< 0.02",
        met=drift < 0.02,
    )
    yield Row(
        name=f"largest |S| in {LONG} frames",
        value=float(max(largest)),
        unit="norm",
        bar="<= 512, the memory's cap",
        met=max(largest) <= 512,
    )
    yield Row(
        name="change in area shown per change there is (median slope)",
        value=float(np.median(slopes)),
        unit="ratio",
    )
    yield _dice("every second frame left out", float(np.mean(sparse)))


def ablation(options: EvalOptions) -> Iterator[Row]:
    """The paper's rows, trained here; interrupted, it goes on where it stopped."""
    import platformdirs

    from retain.models.gdkvm import ablation as study

    cache = Path(platformdirs.user_cache_dir("retain")) / "phantoms"
    found = study.run(
        options.rows or tuple(study.ROWS),
        range(options.seeds),
        options.out,
        cache,
        console.messages().print,
        options.steps or study.STEPS,
    )
    for name, result in found.items():
        clean = float(np.mean(result.clean))
        yield _dice(f"{name}: clean", clean)
        yield _dice(f"{name}: frames 4 to 6 black", float(np.mean(result.black)))
    if not {"full", "none"} <= set(found):
        return
    gain = study.difference(found["full"].black, found["none"].black)
    yield Row(
        name=f"full minus none, black frames ({options.seeds} seeds; "
        f"95 % {gain.low:.3f} to {gain.high:.3f})",
        value=gain.mean,
        unit="Dice",
        bar=">= 0.02, interval above 0",
        met=gain.mean >= 0.02 and gain.low > 0,
    )


def _dice(name: str, value: float, bar: float | None = None) -> Row:
    met = value >= bar if bar else None
    return Row(name=name, value=value, unit="Dice", bar=f">= {bar}" if bar else "", met=met)
