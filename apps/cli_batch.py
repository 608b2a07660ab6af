"""The command that works a data set off."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import command_line
from retain.pipeline.errors import UsageError


class TaskName(StrEnum):
    WATCH = "watch"
    SEGMENT = "segment"
    DETECT = "detect"
    RECONSTRUCT = "reconstruct"
    IMAGINE = "imagine"


class EngineName(StrEnum):
    LOCAL = "local"
    RAY = "ray"


def batch(
    given: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|DIR|GLOB",
            help="List of paths (.txt, .csv, .tsv, .jsonl), folder, or 'clips/*.avi'.",
        ),
    ],
    task: Annotated[TaskName, typer.Option(help="The command that is run on every item.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of that command; repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; one that is there is gone on with.",
            show_default="retain-out/batch-NAME-TASK",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(min=0, help="Items at a time.", show_default="as cores and memory allow"),
    ] = 0,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds an item may take.", show_default="none")
    ] = 0.0,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try what failed before once more.")
    ] = False,
    engine: Annotated[
        EngineName, typer.Option(help="Processes here, or actors of Ray (docs/cluster.md).")
    ] = EngineName.LOCAL,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT|auto",
            help="A Ray that runs.",
            show_default="one started and stopped by this command",
        ),
    ] = "",
    gpus: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of a GPU that a worker takes.", show_default="none"),
    ] = 0.0,
) -> None:
    """Do one task to every item of a data set; broken off, the same command goes on.

    What is done is not done again unless the file, the options, the weights or the code have
    changed. Exit code 3: some items failed; report.html and quarantine.csv say which and why.
    """
    from retain.apps.batch import run as job

    words: dict[str, str] = {}
    for setting in settings or ():
        name, found, value = setting.partition("=")
        if not found:
            raise UsageError(f"--set takes NAME=VALUE, not {setting!r}.")
        words[name.strip().replace("-", "_")] = value
    options = job.BatchOptions(
        given=given,
        task=task.value,
        settings=words,
        out=out,
        jobs=jobs,
        timeout_s=timeout,
        retry_failed=retry_failed,
        engine=engine.value,
        address=address,
        gpus=gpus,
        command=command_line(),
    )
    raise typer.Exit(job.batch(options))
