"""The command that imagines."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from retain.apps.cli_options import runs_a_stream


@runs_a_stream()
def imagine(
    source: Annotated[
        str,
        typer.Argument(
            help="File, folder, 'pattern*.png', 0 (camera), rtsp://…, "
            "'worlds://ball?seed=3&clips=40&change=30' (generated)"
        ),
    ],
    novelty: Annotated[
        bool, typer.Option("--novelty", help="How new each moment is. The default.")
    ] = False,
    ahead: Annotated[
        str,
        typer.Option(
            "--continue",
            metavar="FRAMES|SECONDSs",
            help="Also foresee so much, such as 12 or 1.5s; beside what then came.",
        ),
    ] = "",
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill in missing frames, beside interpolation.")
    ] = False,
    drop: Annotated[
        float,
        typer.Option(min=0, max=0.95, help="With --fill: leave out so many, to be judged by."),
    ] = 0.0,
    references: Annotated[
        str,
        typer.Option(
            metavar="DIR|FILE", help="Clips to be guided by: videos, pictures, an index, worlds://."
        ),
    ] = "",
    past: Annotated[
        bool, typer.Option("--past/--no-past", help="Be guided by the stream's own past.")
    ] = True,
    shown: Annotated[int, typer.Option(min=1, max=64, help="Clips shown to the model.")] = 3,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Futures drawn.")] = 4,
    weights: Annotated[
        str, typer.Option(metavar="auto|FILE", help="Of `retain train ditmem`. auto: shipped.")
    ] = "auto",
    memory: Annotated[float, typer.Option(min=0.05, help="MB for everything remembered.")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn at random.")] = 0,
    *,
    run: dict[str, Any],
) -> None:
    """Say how new each moment is, foresee what comes next, or fill in missing frames, guided by
    clips of the stream's own past.

    The shipped weights know small generated worlds (12x12 grey). Writes every number as JSON
    lines, a film of truth beside what was made, and a report.
    """
    from retain.apps.imagine import run as job
    from retain.pipeline.errors import UsageError

    if fill and (ahead or novelty):
        raise UsageError("--fill goes by itself; leave --continue and --novelty out.")
    done = job.imagine(
        job.ImagineOptions(
            source=source,
            what="fill" if fill else "predict" if ahead else "novelty",
            ahead=ahead,
            drop=drop,
            references=references,
            past=past,
            k=shown,
            samples=samples,
            weights=weights,
            memory_mb=memory,
            seed=seed,
            **run,
        ),
        job.tell,
    )
    raise typer.Exit(done.exit_code)
