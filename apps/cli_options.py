"""Arguments and options that several commands share."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

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
FpsOption = Annotated[
    float, typer.Option(min=0, help="Frames a second to look at.", show_default="all")
]
ResumeOption = Annotated[Path | None, typer.Option(help="Continue from a snapshot's folder.")]

RunArgument = Annotated[Path, typer.Argument(help="Folder of the run; a run there is continued.")]
StepsOption = Annotated[
    int | None, typer.Option(min=1, show_default="of the recipe", help="Training steps.")
]
RateOption = Annotated[
    float | None, typer.Option(min=0, show_default="of the recipe", help="Highest learning rate.")
]
SeedOption = Annotated[int, typer.Option(min=0)]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Of torch; 0: all cores.")]


def _stream(
    out: OutOption = None,
    device: DeviceOption = "auto",
    page: PageOption = True,
    port: PortOption = 0,
    open_page: OpenOption = False,
    limit: LimitOption = 0,
    fps: FpsOption = 0.0,
    seconds: SecondsOption = 0.0,
    realtime: RealtimeOption = False,
    record: RecordOption = None,
    record_mb: RecordMbOption = 256,
    runner: RunnerOption = RunnerName.LOCAL,
    resume: ResumeOption = None,
) -> None:
    """What every command takes that runs a graph on a stream."""


def runs_a_stream(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that also takes the options of ``_stream``, but for those ``without``. It gets what
    was asked as its argument ``run``: fields of ``running.StreamOptions``."""
    shared = inspect.signature(_stream, eval_str=True).parameters
    taken = [option for name, option in shared.items() if name not in without]

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        def called(**given: Any) -> None:
            run = {option.name: given.pop(option.name) for option in taken}
            if "realtime" in run:
                run["pace"] = 1.0 if run.pop("realtime") else 0.0
            run["runner"] = run["runner"].value
            if "resume" in run:
                run["state"] = run.pop("resume")
            command(**given, run=run | {"command": command_line()})

        called.__name__, called.__doc__ = command.__name__, command.__doc__
        kept = [option for name, option in own.items() if name != "run"]
        called.__signature__ = inspect.Signature([*kept, *taken])  # type: ignore[attr-defined]
        called.__annotations__ = {}
        return called

    return wrap
