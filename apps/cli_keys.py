"""`retain keys …`: key pairs for edges between hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

keys = typer.Typer(no_args_is_help=True, help="Keys for pictures that go between hosts.")


@keys.callback()
def _keys() -> None:
    """A group even while it has one command."""


@keys.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of this host, or what you like.")],
    folder: Annotated[
        Path, typer.Option("--dir", help="Folder for the two files; made if need be.")
    ] = Path("keys"),
) -> None:
    """Make a key pair: NAME.key to give to the other host, NAME.key_secret to keep on this one."""
    from retain.apps import console
    from retain.pipeline.far.keys import create

    public, secret = create(name, folder)
    out = console.output()
    out.print(f"public: {public} (give it to the other host)")
    out.print(f"secret: {secret} (stays here)")
