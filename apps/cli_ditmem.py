"""`retain train ditmem` and `retain eval ditmem`. Heavy imports wait until a command is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import DeviceOption, RunArgument, SeedOption, ThreadsOption


class Learning(StrEnum):
    FROZEN = "frozen"
    LORA = "lora"
    JOINT = "joint"


KindOption = Annotated[str, typer.Option(help="ball, balls, pendulum, rolling.")]
SizeOption = Annotated[str, typer.Option(help="tiny: 12 pixels, CPU. small: 64, for a GPU.")]
BackboneOption = Annotated[
    int | None, typer.Option(min=1, show_default="of the recipe", help="Of the backbone.")
]
MemoryOption = Annotated[
    int | None, typer.Option(min=1, show_default="of the recipe", help="Of the memory.")
]


def train(
    out: RunArgument,
    mode: Annotated[
        Learning, typer.Option(help="What of the backbone may learn beside its memory.")
    ] = Learning.LORA,
    kind: KindOption = "ball",
    size: SizeOption = "tiny",
    steps: BackboneOption = None,
    memory_steps: MemoryOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
) -> None:
    """Train a video model on worlds with hidden laws, then a memory that tells it the law.

    The same command continues a run that was interrupted, bit for bit.
    """
    from retain.apps import training_ditmem as job

    options = job.TrainOptions(
        out=out,
        mode=mode.value,
        kind=kind,
        size=size,
        steps=steps,
        memory_steps=memory_steps,
        seed=seed,
        device=device,
        threads=threads,
    )
    raise typer.Exit(job.train(options))


def evaluate(
    out: Annotated[Path, typer.Argument(help="Folder of the study; it is continued.")],
    row: Annotated[
        list[str] | None,
        typer.Option(help="Of the study; again for more.", show_default="frozen, LoRA, controls"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 3,
    kind: KindOption = "ball",
    size: SizeOption = "tiny",
    steps: BackboneOption = None,
    memory_steps: MemoryOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    json: Annotated[Path | None, typer.Option(help="Also write the numbers here.")] = None,
) -> None:
    """Train and judge rows of the study on worlds unseen in training: what a memory is worth.

    A row and seed take about six minutes of a core; what the folder holds is not done again.
    """
    from retain.apps import training_ditmem as job

    options = job.EvalOptions(
        out=out,
        rows=tuple(row or ()),
        seeds=seeds,
        kind=kind,
        size=size,
        steps=steps,
        memory_steps=memory_steps,
        device=device,
        threads=threads,
        json=json,
    )
    raise typer.Exit(job.evaluate(options))
