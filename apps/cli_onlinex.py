"""`retain train onlinex`, `retain eval onlinex`. Heavy imports wait until a command is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import DeviceOption, RunArgument, SeedOption, ThreadsOption


class Size(StrEnum):
    TINY = "tiny"
    SMALL = "small"


SizeOption = Annotated[Size, typer.Option(help="tiny: 64 pixels, CPU. small: 128, for a GPU.")]
MinutesOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        show_default="the recipe's steps",
        help="So long, by the time steps take here; told when a run begins, kept with it.",
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Where drawn rooms are kept.", show_default="the user's cache folder"),
]


def train(
    out: RunArgument,
    size: SizeOption = Size.TINY,
    row: Annotated[str, typer.Option(help="Of the study: full, or what goes without a part.")] = (
        "full"
    ),
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
    init: Annotated[
        Path | None,
        typer.Option(help="Folder of a run's pairs to begin with, instead of training them."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    cache: CacheOption = None,
) -> None:
    """Train online reconstruction on procedural rooms: pairs, sequences, longer ones.

    The same command continues a run that was interrupted, bit for bit.
    """
    from retain.apps import training_onlinex as job

    options = job.Options(
        out=out,
        size=size.value,
        rows=(row,),
        minutes=minutes,
        seed=seed,
        init=init,
        device=device,
        threads=threads,
        cache=cache,
    )
    raise typer.Exit(job.train(options))


def evaluate(
    out: Annotated[Path, typer.Argument(help="Folder of the study; it is continued.")],
    rows: Annotated[
        str,
        typer.Option(
            help="Joined by commas: full, no anchor, single, damped, explicit, no fusion."
        ),
    ] = "full,no anchor",
    size: SizeOption = Size.TINY,
    minutes: MinutesOption = None,
    seed: SeedOption = 0,
    cost: Annotated[int, typer.Option(min=0, help="Frames whose cost is measured; 0: none.")] = 0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    cache: CacheOption = None,
    json: Annotated[Path | None, typer.Option(help="Also write the table here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the curves: .webp, .png.")] = None,
) -> None:
    """Train and judge rows of the study on unseen rooms, to four times the training's length.

    What the folder holds is not done again. Exit code 1 when a bar is missed.
    """
    from retain.apps import training_onlinex as job

    options = job.Options(
        out=out,
        size=size.value,
        rows=tuple(row.strip() for row in rows.split(",") if row.strip()),
        minutes=minutes,
        seed=seed,
        cost=cost,
        device=device,
        threads=threads,
        cache=cache,
        json=json,
        plot=plot,
    )
    raise typer.Exit(job.evaluate(options))
