"""Commands for scenes: make a map, and show one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from retain.apps.cli_options import SeedOption, runs_a_stream


class Poses(StrEnum):
    AUTO = "auto"
    GIVEN = "given"
    ESTIMATED = "estimated"


class Profile(StrEnum):
    CLASSIC = "classic"
    NEURAL = "neural"


class Features(StrEnum):
    ORB = "orb"
    XFEAT = "xfeat"


@runs_a_stream("device")
def reconstruct(
    source: Annotated[
        str,
        typer.Argument(
            help="RGB-D folder, TUM, Replica, 7-Scenes, ScanNet, RealEstate10K, COLMAP, "
            "nerfstudio, video, 0 (camera), rtsp://…, 'room://?seed=1' (generated)"
        ),
    ],
    profile: Annotated[
        Profile, typer.Option(help="classic: no learned weights. neural: a network, RGB alone.")
    ] = Profile.CLASSIC,
    weights: Annotated[str, typer.Option(help="Of the neural profile.")] = "auto",
    poses: Annotated[
        Poses, typer.Option(help="The source's, or estimated. auto: given if they come with depth.")
    ] = Poses.AUTO,
    features: Annotated[
        Features, typer.Option(help="Corners to estimate poses by, with depth; xfeat is an extra.")
    ] = Features.ORB,
    width: Annotated[int, typer.Option(min=0, help="Working width; 0: as stored.")] = 320,
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame only.")] = 1,
    camera: Annotated[
        str, typer.Option(metavar="FX,FY,CX,CY", help="Of a plain video, in its pixels.")
    ] = "",
    field: Annotated[
        float, typer.Option(min=1, max=170, help="Degrees the longer side spans, without --camera.")
    ] = 60.0,
    memory: Annotated[float, typer.Option(min=16, help="MB for everything remembered.")] = 128.0,
    cell: Annotated[float, typer.Option(min=1e-4, help="Metres of the map's finest cells.")] = 0.01,
    holdout: Annotated[
        int, typer.Option(min=0, help="Of so many frames, one judges the map unseen. 0: none.")
    ] = 8,
    refine: Annotated[int, typer.Option(min=0, help="Gradient steps per keyframe.")] = 2,
    refine_ms: Annotated[
        float, typer.Option(min=0, help="Instead: for so long per keyframe (live sources).")
    ] = 0.0,
    language: Annotated[
        str,
        typer.Option(
            metavar="TEACHER",
            help="Let the map be asked for words: clip, openclip:MODEL@FILE or, of generated "
            "scenes, classes.",
            show_default="of room://, its classes",
        ),
    ] = "",
    dinoiser: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --language clip: weights of CLIP-DINOiser."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let --language fetch its weights.")
    ] = False,
    finish: Annotated[int, typer.Option(min=0, help="Gradient steps at the end.")] = 500,
    export: Annotated[
        str, typer.Option(help="Any of ply, splat, spz, glb, html, joined by commas.")
    ] = "ply,html",
    seed: SeedOption = 0,
    *,
    run: dict[str, Any],
) -> None:
    """Build a 3D Gaussian map that grows while frames stream in, within a fixed memory.

    With depth, poses are estimated in metres; without, the scale is open. Writes the map, the
    camera's path, a page that shows the map, and a report that judges it by frames it has not
    seen. Ctrl-C ends the stream and keeps what there is.
    """
    from retain.apps.reconstruct import run as job

    done = job.reconstruct(
        job.ReconstructOptions(
            source=source,
            profile=profile.value,
            weights=weights,
            poses=poses.value,
            features=features.value,
            width=width,
            every=every,
            camera=camera,
            field=field,
            memory_mb=memory,
            cell=cell,
            holdout=holdout,
            refine=refine,
            refine_ms=refine_ms,
            finish=finish,
            seed=seed,
            language=language,
            dinoiser=dinoiser,
            download=download,
            exports=tuple(kind for kind in export.split(",") if kind),
            **run,
        ),
        job.tell,
    )
    raise typer.Exit(done.exit_code)


def render(
    results: Annotated[Path, typer.Argument(help="Folder of a finished `retain reconstruct`.")],
    out: Annotated[Path, typer.Option(help="The video to write (.mp4).")],
    path: Annotated[
        str, typer.Option(help="along (the camera's), orbit, or a file like trajectory.txt.")
    ] = "along",
    width: Annotated[int, typer.Option(min=16, max=4096, help="Of the video.")] = 640,
    query: Annotated[str, typer.Option(help="Light up what this word names.")] = "",
    download: Annotated[
        bool, typer.Option("--download", help="Let what reads the word fetch its weights.")
    ] = False,
    weights: Annotated[
        str, typer.Option(help="Of a neural map.", show_default="where they were")
    ] = "",
) -> None:
    """Draw a map along a path as a video; `--query WORD` lights up what the word names."""
    from retain.apps.reconstruct import show as job

    raise typer.Exit(
        job.show(job.RenderOptions(results, out, path, width, query, download, weights))
    )
