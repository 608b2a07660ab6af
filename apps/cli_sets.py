"""`retain eval set`: published data sets in their published protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import DeviceOption


def evaluate(
    path: Annotated[str, typer.Argument(help="Folder of EchoNet-Dynamic, CAMUS, DAVIS, ….")],
    protocol: Annotated[
        str, typer.Option("--as", help="Protocol by name.", show_default="told from PATH")
    ] = "",
    split: Annotated[str, typer.Option(show_default="the published one")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Items at most; 0: all.")] = 0,
    weights: Annotated[
        str, typer.Option(help="Of the network that is judged.", show_default="what ships")
    ] = "",
    device: DeviceOption = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(help="Results per item are kept here.", show_default="retain-out/eval-NAME"),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the tables here.")] = None,
) -> None:
    """Judge on a published data set, in its published protocol, with its usual tables. Ctrl-C
    stops; the same command goes on."""
    from retain.apps.evaluate_sets import protocols as job
    from retain.apps.evaluate_sets.base import SetOptions

    options = SetOptions(
        path=path,
        protocol=protocol,
        split=split,
        limit=limit,
        weights=weights,
        device=device,
        out=out or Path(),
        json=json,
    )
    raise typer.Exit(job.evaluate(options))
