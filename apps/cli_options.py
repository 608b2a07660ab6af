"""Arguments and options that several commands share."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class RunnerName(StrEnum):
    LOCAL = "local"
    INLINE = "inline"


def command_line() -> str:
    """What was typed, for the report."""
    return shlex.join(["retain", *sys.argv[1:]])


PageOption = Annotated[bool, typer.Option("--page/--no-page", help="Serve the live page.")]
PortOption = Annotated[int, typer.Option(help="Port of the live page; 0 takes a free one.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the live page in a browser.")]
RunnerOption = Annotated[
    RunnerName, typer.Option(help="local: a process per stage. inline: all in this one.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")]
LimitOption = Annotated[
    int, typer.Option(min=0, help="Stop after so many frames.", show_default="none")
]
SecondsOption = Annotated[
    float, typer.Option(min=0, help="Stop after so much footage.", show_default="none")
]
TokenOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Holds the console's token; mode 600."),
]
RealtimeOption = Annotated[bool, typer.Option("--realtime", help="Play a file as if it were live.")]
RecordOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.retain", help="Record the frames, for a bug report; replay it as a SOURCE."
    ),
]
RecordMbOption = Annotated[
    int, typer.Option(min=1, max=1_000_000, help="MB the recording may take; the oldest go.")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the results; must not exist yet.", show_default="retain-out/NAME-TIME"
    ),
]
