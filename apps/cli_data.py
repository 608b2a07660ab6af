"""`retain data …`: what a folder of data is, and where data sets come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(
    no_args_is_help=True, help="Say what data set a folder is, and where data sets come from."
)


@data.command()
def doctor(
    path: Annotated[Path, typer.Argument(help="A folder of data, an annotation or an archive.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every item with its reader, and list broken ones.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Also write what was found here.")] = None,
) -> None:
    """Say what PATH is, what of it is missing and where to get it. Nothing is downloaded.

    Exit codes: 0 whole, 3 partial or broken, 2 no data set that is known.
    """
    from retain.apps import data as job

    raise typer.Exit(job.doctor(path, deep=deep, out=json))


@data.command("list")
def known() -> None:
    """The data sets that are known: what for, by which terms, from where."""
    from retain.apps import data as job

    job.known()
