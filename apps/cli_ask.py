"""The command that asks a memory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retain.apps.cli_options import DeviceOption, TokenOption, command_line


def ask(
    memory: Annotated[
        str,
        typer.Argument(
            help="memory.safetensors, a folder of `watch` or `snapshot`, or the port or address of "
            "a running watch."
        ),
    ],
    query: Annotated[str, typer.Argument(help="A picture's file, or words.")] = "",
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Example picture; beside words.")
    ] = None,
    text: Annotated[str, typer.Option(help="Words, also where a file is called so.")] = "",
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Look from here on: 90, 1:30, 0:01:30.")
    ] = "",
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Look up to here.")] = "",
    k: Annotated[int, typer.Option("-k", help="How many moments.")] = 5,
    encoder: Annotated[
        str, typer.Option(help="What compares.", show_default="the memory's; for words openclip")
    ] = "",
    device: DeviceOption = "auto",
    download: Annotated[
        bool, typer.Option("--download", help="Let the encoder fetch its weights.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for answer.html and clips; must not exist yet."),
    ] = None,
    token_file: TokenOption = None,
) -> None:
    """Ask MEMORY for moments: by a picture, by words, by time."""
    from retain.apps.ask import run as job

    job.ask(
        job.AskOptions(
            memory=memory,
            query=query,
            image=image,
            text=text,
            start=start,
            end=end,
            k=k,
            encoder=encoder,
            device=device,
            download=download,
            json=as_json,
            out=out,
            token_file=token_file,
            command=command_line(),
        )
    )
