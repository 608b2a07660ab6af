"""The command that detects."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.apps.cli_options import runs_a_stream


class ReadMode(StrEnum):
    GATED = "gated"
    PAPER = "paper"


class TrackMethod(StrEnum):
    BYTE = "byte"
    OCSORT = "ocsort"
    NONE = "none"


@runs_a_stream()
def detect(
    source: Annotated[
        str,
        typer.Argument(
            help="File, folder, 'pattern*.png', 0 (camera), rtsp://…, a data set with boxes "
            "(COCO-VID, DAVIS, ImageNet VID, MOT), 'objects://?seed=3&degraded=strong' (generated)"
        ),
    ],
    host: Annotated[
        str,
        typer.Option(
            metavar="FILE|small",
            help="The detector: YOLOX weights (.onnx, .pth), or a Faster R-CNN of torchvision, "
            "NAME:WEIGHTS.pth.",
        ),
    ] = "small",
    names: Annotated[
        Path | None,
        typer.Option(help="File of its classes, one a line.", show_default="COCO's where 80"),
    ] = None,
    bank: Annotated[
        str,
        typer.Option(metavar="auto|none|FILE", help="The read-out of the memory. auto: shipped."),
    ] = "auto",
    mode: Annotated[
        ReadMode, typer.Option(help="How the memory is read; paper is 2401.09923.")
    ] = ReadMode.GATED,
    carry: Annotated[
        bool, typer.Option("--carry/--no-carry", help="Let boxes live on for a moment.")
    ] = True,
    memory: Annotated[
        float, typer.Option(min=0, help="MB for everything remembered.", show_default="as needed")
    ] = 0.0,
    track: Annotated[TrackMethod, typer.Option(help="Who gives ids.")] = TrackMethod.BYTE,
    classes: Annotated[
        str, typer.Option(metavar="A,B", help="Only these classes.", show_default="all")
    ] = "",
    min_score: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Surer boxes count and begin tracks.")
    ] = 0.3,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Show the detector alone beside it.")
    ] = True,
    coco: Annotated[bool, typer.Option("--coco/--no-coco", help="Write detections.json.")] = True,
    mot: Annotated[bool, typer.Option("--mot/--no-mot", help="Write tracks.txt.")] = True,
    *,
    run: dict[str, Any],
) -> None:
    """Find objects with a detector that remembers, and give them ids; beside the detector alone.

    Writes boxes with ids as JSON lines, COCO and MOT, an overlay video, and a report that compares
    detector, memory and ids, against the truth where a data set has it.
    """
    from retain.apps.detect import run as job

    done = job.detect(
        job.DetectOptions(
            source=source,
            host=host,
            names=str(names or ""),
            bank=bank,
            mode=mode.value,
            carry=carry,
            memory_mb=memory,
            track=track.value,
            classes=classes,
            min_score=min_score,
            compare=compare,
            coco=coco,
            mot=mot,
            **run,
        ),
        job.tell,
    )
    raise typer.Exit(done.exit_code)
