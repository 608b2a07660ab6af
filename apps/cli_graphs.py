"""Commands for graphs in files, and for what is running already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import PortOption, RunnerName, RunnerOption, TokenOption
from retain.pipeline.errors import UsageError

GraphFile = Annotated[Path, typer.Argument(metavar="GRAPH.yaml", help="A graph; see docs.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NODE.OPTION=VALUE", help="Change an option; repeatable."),
]
PageAddress = Annotated[
    str, typer.Argument(metavar="URL|PORT", help="Live page of a running watch or segment.")
]


JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


def snapshot(
    page: PageAddress,
    folder: Annotated[Path, typer.Argument(help="Where the state goes; must not exist yet.")],
    token_file: TokenOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the state of a running command; `--resume FOLDER` goes on from it, here or elsewhere."""
    from retain.apps import snapshot as job

    job.tell(job.snapshot(page, folder, token_file), as_json)


def inspect(
    state: Annotated[
        Path, typer.Argument(help="Folder of a snapshot, or a memory's file (.safetensors).")
    ],
    as_json: JsonOption = False,
) -> None:
    """Say what a saved state holds: memories, versions, bytes, last frames, whether it is whole."""
    from retain.apps import inspection

    raise typer.Exit(inspection.inspect(state, as_json))


def top(
    page: PageAddress,
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    token_file: TokenOption = None,
) -> None:
    """Show what every stage of a running command does, until it ends."""
    from retain.apps import top as job

    raise typer.Exit(job.top(page, once, token_file))


def run(
    graph: GraphFile,
    changes: SetOption = None,
    runner: RunnerOption = RunnerName.LOCAL,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on from a snapshot of such a graph.")
    ] = None,
    page: Annotated[bool, typer.Option("--page", help="Serve the live page.")] = False,
    port: PortOption = 0,
) -> None:
    """Run the graph in a file until it ends."""
    from retain.apps import graphs

    page_port = port if page else None
    raise typer.Exit(graphs.run(graph, _changes(changes), runner.value, resume, page_port))


def show(
    graph: GraphFile,
    changes: SetOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is valid.")] = False,
) -> None:
    """Check a graph and print its nodes and edges."""
    from retain.apps import graphs

    graphs.show(graph, _changes(changes), check)


def _changes(given: list[str] | None) -> dict[str, str]:
    changes = {}
    for text in given or ():
        key, found, value = text.partition("=")
        if not found or "." not in key:
            raise UsageError(f"--set {text}: write NODE.OPTION=VALUE.")
        changes[key] = value
    return changes
