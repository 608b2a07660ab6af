"""`retain train …` and `retain eval …`. Heavy imports wait until a command is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import (
    DeviceOption,
    RateOption,
    RunArgument,
    SeedOption,
    StepsOption,
    ThreadsOption,
    command_line,
)

train = typer.Typer(no_args_is_help=True, help="Train a network on what it makes or you have.")
evaluate = typer.Typer(no_args_is_help=True, help="Measure a network; `--json FILE` keeps it.")


class Size(StrEnum):
    MINI = "mini"
    BASE = "base"


class LabelsGiven(StrEnum):
    ALL = "all"
    ENDS = "ends"


class Spoilt(StrEnum):
    CLEAN = "clean"
    MILD = "mild"
    STRONG = "strong"


class Structures(StrEnum):
    CAVITY = "cavity"
    ALL = "all"


HostOption = Annotated[str, typer.Option(help="The detector: small, or a YOLOX in .onnx or .pth.")]


@train.command()
def gdkvm(
    out: RunArgument,
    size: Annotated[Size, typer.Option(help="mini: CPU. base: the paper's sizes, for a GPU.")] = (
        Size.MINI
    ),
    structures: Annotated[
        Structures, typer.Option(help="The cavity alone, or wall and atrium as well.")
    ] = Structures.CAVITY,
    layer: Annotated[
        str | None,
        typer.Option(
            show_default="of the recipe",
            help="What remembers: gated_delta, frame_delta, block_linear, kalman, cached, mixture.",
        ),
    ] = None,
    steps: StepsOption = None,
    clips: Annotated[
        int | None, typer.Option(min=1, show_default="of the recipe", help="Phantoms to draw.")
    ] = None,
    labels: Annotated[
        LabelsGiven | None,
        typer.Option(
            show_default="of the recipe",
            help="Supervise all frames, or as the paper the first and the last.",
        ),
    ] = None,
    seed: SeedOption = 0,
    rate: RateOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    init: Annotated[Path | None, typer.Option(help="Weights to start from.")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where phantoms are kept.", show_default="the user's cache folder"),
    ] = None,
) -> None:
    """Train the echo network on phantoms. Ctrl-C saves; the same command goes on."""
    from retain.apps import training_gdkvm as job

    options = job.TrainOptions(
        out=out,
        size=size.value,
        structures=structures.value,
        layer=layer,
        steps=steps,
        clips=clips,
        labels=labels.value if labels else None,
        seed=seed,
        rate=rate,
        device=device,
        threads=threads,
        init=init,
        cache=cache,
    )
    raise typer.Exit(job.train(options))


@train.command()
def detector(
    out: RunArgument,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    rate: RateOption = None,
    init: Annotated[
        Path | None, typer.Option(help="Folder of a run whose network to start from.")
    ] = None,
    clips: Annotated[
        int, typer.Option(min=0, help="Held-out videos to be judged on in the end; 0: none.")
    ] = 24,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Train the small detector on procedural objects. Ctrl-C saves; the same command goes on."""
    from retain.apps import training_detector as job

    options = job.TrainOptions(
        out=out,
        steps=steps,
        seed=seed,
        rate=rate,
        init=init,
        clips=clips,
        device=device,
        threads=threads,
    )
    raise typer.Exit(job.train(options))


@evaluate.command("detector")
def small_detector(
    weights: Annotated[str, typer.Option(help="Weights by name or file.")] = "small",
    clips: Annotated[int, typer.Option(min=1, help="Held-out videos.")] = 24,
    device: DeviceOption = "auto",
) -> None:
    """Judge the small detector alone on videos it has not seen: by class, speed, degradation."""
    from retain.apps import training_detector as job

    job.judge(weights, clips, device)


@evaluate.command()
def echo(
    weights: Annotated[str, typer.Option(help="Weights by name or file.")] = "mini",
    clips: Annotated[int, typer.Option(min=2, help="Held-out phantoms per preset.")] = 40,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also train the paper's ablation rows: hours.")
    ] = False,
    rows: Annotated[
        str, typer.Option(help="Ablation rows, joined by commas.", show_default="all")
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Of each ablation row.")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="Of each ablation run.", show_default="of its recipe")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Where ablation runs are kept.")] = Path(
        "retain-out/ablation"
    ),
    json: Annotated[Path | None, typer.Option(help="Also write the rows here.")] = None,
) -> None:
    """Judge the echo network on phantoms it has not seen: clean, damaged, long and gappy."""
    from retain.apps import evaluation_echo as job

    options = job.EvalOptions(
        weights=weights,
        clips=clips,
        ablation=ablation,
        rows=tuple(row for row in rows.split(",") if row),
        seeds=seeds,
        steps=steps,
        out=out,
        json=json,
    )
    raise typer.Exit(job.evaluate(options))


@evaluate.command("object")
def segment_object(
    clips: Annotated[
        list[str] | None,
        typer.Argument(
            help="DAVIS folders, or objects://?seed=40&clips=3&frames=60, which is the default."
        ),
    ] = None,
    learn: Annotated[
        str,
        typer.Option(help="none, fifo, grcl, rmscl, hybrid; by commas.", show_default="all"),
    ] = "",
    relit: Annotated[
        bool, typer.Option("--relit", help="Let the light change as the clips go.")
    ] = False,
    side: Annotated[int, typer.Option(help="Shorter side of the working picture, pixels.")] = 480,
    every: Annotated[int, typer.Option(min=1, help="Frames between two updates.")] = 5,
    memory_mb: Annotated[float, typer.Option(min=1, help="Memory in 10^6 bytes.")] = 80.0,
    json: Annotated[Path | None, typer.Option(help="Also write the rows here.")] = None,
) -> None:
    """Judge `retain segment --object` by J and F: every way to learn on every clip."""
    from retain.apps.segment_object import judging as job

    options = job.ObjectEvalOptions(
        clips=clips or job.ObjectEvalOptions.clips,
        ways=tuple(way for way in learn.split(",") if way),
        relit=relit,
        side=side,
        every=every,
        budget_mb=memory_mb,
        json=json,
    )
    raise typer.Exit(job.evaluate(options))


@train.command()
def mamba(
    out: RunArgument,
    host: HostOption = "small",
    video: Annotated[
        list[str] | None,
        typer.Option(help="Any SOURCE that ends; again for more.", show_default="procedural"),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=8, show_default="of the recipe", help="Windows of 12 frames to draw."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, show_default="of the recipe", help="Training rounds.")
    ] = None,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="Also train what to compare with: no memory, the paper's."),
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where features are kept.", show_default="the user's cache folder"),
    ] = None,
) -> None:
    """Train a memory for a detector, without labels. Ctrl-C saves; the same command goes on."""
    from retain.apps import training_mamba as job

    options = job.TrainOptions(
        out=out,
        host=host,
        videos=tuple(video or ()),
        episodes=episodes,
        rounds=rounds,
        controls=controls,
        seed=seed,
        device=device,
        threads=threads,
        cache=cache,
    )
    raise typer.Exit(job.train(options))


@evaluate.command()
def detect(
    clips: Annotated[
        list[str],
        typer.Argument(help="COCO-VID, DAVIS, ImageNet VID, MOT, or objects://?seed=40&clips=8."),
    ],
    host: HostOption = "small",
    bank: Annotated[
        str, typer.Option(metavar="auto|none|FILE", help="Weights of the memory's read-out.")
    ] = "auto",
    degraded: Annotated[Spoilt, typer.Option(help="How some frames are spoilt.")] = Spoilt.STRONG,
    seed: Annotated[int, typer.Option(min=0, help="Which frames are.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="So many from --seed on: means.")] = 1,
    limit: Annotated[int, typer.Option(min=0, help="Clips of each place; 0: all.")] = 0,
    device: DeviceOption = "auto",
    json: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
) -> None:
    """Judge a detector's memory: spoilt and whole frames, against controls, after cuts."""
    from retain.apps import evaluation_detect as job

    options = job.EvalOptions(
        clips=tuple(clips),
        host=host,
        bank=bank,
        degraded=degraded.value,
        seed=seed,
        seeds=seeds,
        limit=limit,
        device=device,
        json=json,
    )
    raise typer.Exit(job.evaluate(options))


@evaluate.command()
def moments(
    only: Annotated[
        list[str] | None,
        typer.Option(help="A table by name; again for more.", show_default="all"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two seeds and fewer streams: a look, not a result.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of each kind of stream.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder of moments.json and report.html.")] = Path(
        "retain-out/moments"
    ),
    json: Annotated[Path | None, typer.Option(help="Also write the tables here.")] = None,
) -> None:
    """Judge the frame memory by what it still holds, against baselines at equal tokens. Ctrl-C
    stops; the same command goes on. Exit code 1 when a bar is missed."""
    from retain.apps.evaluate_moments import command as job
    from retain.apps.evaluate_moments.run import EvalOptions
    from retain.apps.evaluate_moments.tables import Options

    options = EvalOptions(only=tuple(only or ()), out=out, table=Options(seeds=seeds, quick=quick))
    raise typer.Exit(job.judge(options, json, command_line()))
