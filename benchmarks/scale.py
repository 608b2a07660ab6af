"""A million hours of video: what they would take, from what a frame takes on one core.

`retain bench scale` measures, predicts with the default assumptions, and checks the prediction
against a batch of its own on two workers. `python benchmarks/scale.py --help` lists the assumptions
and prices; `--costs FILE` predicts from recorded measurements instead of measuring again.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
from _clips import make_clip
from _scale_measure import CLIP, FPS, SIZES, Costs, measure_costs
from _scale_model import Plan, cpu_parts, link_gbit, parent_machines, predict
from _scale_picture import RATES, draw

from retain.apps.bench import Row, show
from retain.apps.numbers import records

AREA = "apps"
LOW, HIGH = 0.67, 1.5
"""What the measured CPU time of a batch may be, over the predicted."""
_CHECK = Plan(height=480, fps=3.0, model="mobilenetv2", item_h=20 / 3600)


def measure(quick: bool = False) -> list[Row]:
    costs, checked = run(quick)
    return [*measured(costs), *checked, *predicted(costs, Plan())]


def run(quick: bool) -> tuple[Costs, list[Row]]:
    """What was measured, and how it foretells a batch."""
    import torch

    os.environ["OMP_NUM_THREADS"] = "1"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
            costs = measure_costs(Path(folder), quick, str(records.this_machine()))
            return costs, check(costs, quick)
    finally:
        torch.set_num_threads(before)


def measured(costs: Costs) -> list[Row]:
    def row(name: str, value: float, unit: str = "CPU ms/frame") -> Row:
        return Row(name=name, value=value, unit=unit)

    rows = []
    for height in map(str, SIZES):
        size = f"{SIZES[int(height)]}x{height}"
        fast = 1e3 / costs.decode[height]
        rows += [
            Row(name=f"decode {size}, {costs.mbit_s[height]:.1f} Mbit/s",
                value=costs.decode[height], unit="CPU ms/frame", peer="frames a second",
                peer_value=fast),
            row(f"… to RGB, a sampled frame of {size}", costs.convert[height]),
            row(f"… route and memory, {size}", costs.remember[height]),
            *(row(f"… encode: {name}", each[height]) for name, each in costs.encode.items()),
            row("… report and the like, a clip of any length", costs.item_s[height], "CPU s"),
            row("… what it leaves, a clip of any length", costs.item_bytes[height] / 1e6, "MB"),
        ]  # fmt: skip
    return [
        *rows,
        row("segment, an echo frame", costs.segment),
        row("detect with bank, 480 lines", costs.detect),
        row("a sampled frame leaves", costs.frame_bytes, "bytes"),
        row("handing out and recording a clip", costs.parent_ms, "CPU ms"),
    ]


CHANGES: dict[str, dict[str, Any]] = {
    "as planned": {},
    "pixels": {"model": "pixels"},
    CLIP: {"model": CLIP},
    f"{CLIP}, on 1 GPU a machine": {"model": CLIP, "gpus": 1},
    "segment, 25 fps": {"model": "segment", "fps": 25.0},
    "detect, 5 fps": {"model": "detect", "fps": 5.0},
    "5 fps": {"fps": 5.0},
    "1080 lines": {"height": 1080},
    "clips of 10 s": {"item_h": 10 / 3600},
    "clips of 10 s, 20 times the machines": {"item_h": 10 / 3600, "machines": 2000},
    "clips of 1 h": {"item_h": 1.0},
    "pixels, 0.1 Gbit/s a machine": {"model": "pixels", "link_gbit": 0.1},
}
"""What is changed, one at a time, to see what moves."""


def predicted(costs: Costs, plan: Plan) -> list[Row]:
    """The plan, and what changes when one thing does."""
    what = f"{plan.hours:,.0f} h of {plan.height} lines, {plan.fps:g} fps, {plan.model}"
    what += f", clips of {60 * plan.item_h:g} min, {plan.machines} x {plan.cores} cores"
    rows = []
    for name, change in CHANGES.items():
        one = msgspec.structs.replace(plan, **change)
        found = predict(costs, one)
        moved = f"{1e3 * found.written_gb:,.0f} GB written, {1e3 * found.read_gb:,.0f} GB read"
        rows += [
            Row(name=f"{name if change else what}: bottleneck {found.bottleneck}",
                value=found.wall_h, unit="h on the clock",
                peer="core hours paid", peer_value=found.core_h),
            Row(name=f"… {moved}, per 1,000 h", value=1e3 * found.usd, unit="$ per 1,000 h",
                peer="of it keeping results", peer_value=1e3 * found.stored_usd),
            Row(name="… the network decides below", value=link_gbit(costs, one),
                unit="Gbit/s a machine", peer="the parent from so many machines on",
                peer_value=parent_machines(costs, one)),
        ]  # fmt: skip
    return rows


def check(costs: Costs, quick: bool) -> list[Row]:
    """A batch of our own on two workers against the prediction, in CPU time: other load on the
    machine does not count then. Two batches, so that starting the workers cancels."""
    seconds = round(3600 * _CHECK.item_h)
    Path("check").mkdir()
    make_clip(Path("check/00.mp4"), width=SIZES[480], height=480, frames=FPS * seconds, fps=FPS)
    few, many = 2, 6 if quick else 8
    cpu, wall = _batch(few), _batch(many)
    each_cpu, each_wall = ((b - a) / (many - few) for a, b in zip(cpu, wall, strict=True))
    expected = sum(cpu_parts(costs, _CHECK).values()) * _CHECK.item_h
    ratio = each_cpu / expected
    return [
        Row(name=f"check: a clip of {seconds} s in a batch on 2 workers", value=each_cpu,
            unit="CPU s", peer="predicted", peer_value=expected, ratio=ratio,
            bar=f"{LOW:g} to {HIGH:g}", met=LOW <= ratio <= HIGH),
        Row(name="… on the clock, other load and all", value=each_wall, unit="s",
            peer="predicted", peer_value=expected / 2, ratio=each_wall / (expected / 2)),
    ]  # fmt: skip


def _batch(count: int) -> tuple[float, float]:
    """(CPU s of parent and workers, seconds on the clock) of a batch of ``count`` clips."""
    from retain.apps.batch.run import BatchOptions, batch

    for number in range(1, count):
        Path(f"check/{number:02d}.mp4").unlink(missing_ok=True)
        os.link("check/00.mp4", f"check/{number:02d}.mp4")
    before, began = os.times(), time.perf_counter()
    words = {"encoder": _CHECK.model, "fps": f"{_CHECK.fps:g}", "device": "cpu"}
    options = BatchOptions(
        given="check", task="watch", settings=words, jobs=2, out=Path(f"out-{count}")
    )
    if batch(options):
        raise RuntimeError("the batch failed")
    after = os.times()
    return sum(after[:4]) - sum(before[:4]), time.perf_counter() - began


def table(costs: Costs, plan: Plan) -> str:
    """CPU seconds an hour of video and the bottleneck, by resolution and frames sampled."""
    lines = ["| lines \\ fps | " + " | ".join(f"{fps:g}" for fps in RATES) + " |",
             "|---|" + "---|" * len(RATES)]  # fmt: skip
    for height in SIZES:
        cells = []
        for fps in RATES:
            found = predict(costs, msgspec.structs.replace(plan, height=height, fps=fps))
            cells.append(f"{found.cpu_s:,.0f} s, {found.bottleneck}")
        lines.append(f"| {height} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows")
    parser.add_argument("--quick", action="store_true", help="smaller runs; for a first look")
    parser.add_argument("--costs", type=Path, help="predict from these measurements")
    parser.add_argument("--save-costs", type=Path, help="write the measurements")
    parser.add_argument("--picture", type=Path, help="draw where the bottleneck is (.webp)")
    for field in msgspec.structs.fields(Plan):
        kind = field.type if isinstance(field.type, type) else str
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default,
                            help=f"default {field.default}")  # fmt: skip
    given = vars(parser.parse_args())
    plan = msgspec.convert({f.name: given[f.name] for f in msgspec.structs.fields(Plan)}, Plan)
    if given["costs"]:
        costs = msgspec.json.decode(given["costs"].read_bytes(), type=Costs)
        checked = []
    else:
        costs, checked = run(given["quick"])
    rows = [*measured(costs), *checked, *predicted(costs, plan)]
    show(f"scale ({costs.machine})", rows)
    print(table(costs, plan))
    if given["save_costs"]:
        given["save_costs"].write_bytes(msgspec.json.format(msgspec.json.encode(costs), indent=1))
    if given["picture"]:
        draw(costs, plan, given["picture"])
    if given["json"]:
        records.keep(rows, "retain bench scale", AREA, given["json"], quick=given["quick"])


if __name__ == "__main__":
    main()
