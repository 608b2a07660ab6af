"""The command that segments: hearts in echo clips, whatever a mask marks, or what words name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.apps.cli_models import Structures
from retain.apps.cli_options import runs_a_stream
from retain.pipeline.errors import UsageError


class Learning(StrEnum):
    NONE = "none"
    FIFO = "fifo"
    GRCL = "grcl"
    RMSCL = "rmscl"
    HYBRID = "hybrid"


WORDS = ("encoder", "dinoiser", "background", "download")
"""Options of --text alone."""


class VolumeMethod(StrEnum):
    AREA_LENGTH = "area-length"
    DISKS = "disks"


@runs_a_stream("fps")
def segment(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Echo clip: DICOM, AVI, MP4, folder, 'pattern*.png', 0 (camera), rtsp://…; with "
            "--object or --text any video."
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            "--object",
            metavar="MASK.png",
            help="Follow what this mask marks in the first frame instead: white on black or by a "
            "palette; a folder of masks gives its first, the others are the truth.",
        ),
    ] = None,
    learn: Annotated[
        Learning, typer.Option(help="With --object: what is learnt from on the way.")
    ] = Learning.HYBRID,
    memory_mb: Annotated[
        float, typer.Option(min=1, help="With --object: memory in 10^6 bytes.")
    ] = 80.0,
    text: Annotated[
        str | None,
        typer.Option(metavar="'cat,a red car'", help="Find what these words name instead."),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="With --text: clip, openclip:MODEL/TAG or openclip:MODEL@FILE.")
    ] = "clip",
    dinoiser: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --text: weights of CLIP-DINOiser, to pool by."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            help="With --text: words that compete but are not named; '' for none.",
            show_default="wall, floor, sky, …",
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="With --text: let the encoder fetch its weights.")
    ] = False,
    structures: Annotated[
        Structures, typer.Option(help="Outline the cavity, or myocardium and atrium as well.")
    ] = Structures.CAVITY,
    method: Annotated[
        VolumeMethod, typer.Option(help="How volumes and EF follow from the outline.")
    ] = VolumeMethod.AREA_LENGTH,
    weights: Annotated[
        str, typer.Option(help="Weights by name or file.", show_default="those that ship")
    ] = "",
    *,
    run: dict[str, Any],
) -> None:
    """Outline the left ventricle in an echo clip; measure area, beats and EF. Not for diagnosis.

    Needs a grey apical view that shows the whole fan. Writes a mask per frame, the area curve, the
    beats with their ejection fraction and method, an overlay video and a report.

    With --object it follows anything in any video: what a mask marks in the first frame.
    With --text it finds what words name, in each frame by itself.
    """
    if mask is not None and text is not None:
        raise UsageError(
            "--object and --text are two ways to say what to segment.", hint="Leave one out."
        )
    if mask is None:
        _refuse(context, ("learn", "memory_mb"), "says how --object learns, and there is none")
    if text is None:
        _refuse(context, WORDS, "is of --text, and there is none")
    if mask is not None or text is not None:
        other = "--object" if text is None else "--text"
        _refuse(context, ("structures", "method", "weights"), f"is of hearts, not of {other}")
    if text is not None:
        from retain.apps.segment_text import run as find

        found = find.segment(
            find.TextOptions(
                source=source,
                text=text,
                encoder=encoder,
                dinoiser=dinoiser,
                background=background,
                download=download,
                **run,
            ),
            find.tell,
        )
        raise typer.Exit(found.exit_code)
    if mask is not None:
        from retain.apps.segment_object import run as follow

        followed = follow.segment(
            follow.ObjectOptions(
                source=source,
                given=mask,
                learn=learn.value,
                budget_mb=memory_mb,
                **run,
            ),
            follow.tell,
        )
        raise typer.Exit(followed.exit_code)
    from retain.apps.segment import run as job

    done = job.segment(
        job.SegmentOptions(
            source=source,
            structures=structures.value,
            method=method.value,
            weights=weights,
            **run,
        ),
        job.tell,
    )
    raise typer.Exit(done.exit_code)


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Raises UsageError when one of the options ``names`` was given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} {why}.", hint="Leave it out.")
