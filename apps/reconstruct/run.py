"""`retain reconstruct`: a Gaussian map of what a camera saw, with its path, exports and a report.

source -> reconstruct -> results (and the live page). When the stream has ended, the map is refined
once more on the pictures it kept, judged by the frames it has not seen, and exported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.console import INTERRUPTED
from retain.apps.drawing import clock, number, size
from retain.apps.running import (
    SUMMARY,
    Finished,
    StreamOptions,
    add_sinks,
    add_source,
    error_of,
    incomplete,
    interrupted,
    run_stream,
)
from retain.pipeline import states
from retain.pipeline.errors import RetainError, StateError, UsageError, nearest
from retain.pipeline.graph import Graph
from retain.pipeline.results import SplatDelta
from retain.pipeline.run import RunReport

if TYPE_CHECKING:
    from retain.apps.reconstruct.live import SplatViewer
    from retain.apps.reconstruct.outcome import Outcome
    from retain.apps.reconstruct.record import Recorder
    from retain.models.onlinex.mapper import NeuralMapper
    from retain.models.scene.mapper import Mapper

SOURCE = "retain.datasets.scene.source:SceneSource"
STAGE = "retain.models.scene.stage:Reconstruct"
DESCRIBE = "retain.models.language.describe:Describe"
MAP, VIEWER, SCENE = "map.safetensors", "scene.html", "scene.json"
LANGUAGE = "language.safetensors"
"""The basis of a map's language codes, and whose they are."""
SPLATS = ("ply", "splat", "spz", "glb")
EXPORTS = (*SPLATS, "html")
WHOLE_S = 10.0
"""Seconds after which a view that missed a change of the map is made whole."""


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(StreamOptions):
    """What `retain reconstruct` was asked. Zeros and empty words mean: the default."""

    profile: str = "classic"
    weights: str = "auto"
    poses: str = "auto"
    features: str = "orb"
    width: int = 320
    every: int = 1
    camera: str = ""
    field: float = 60.0
    memory_mb: float = 128.0
    cell: float = 0.01
    holdout: int = 8
    refine: int = 2
    refine_ms: float = 0.0
    finish: int = 500
    seed: int = 0
    language: str = ""
    """Teacher of language codes; empty: those of the source, if any."""
    dinoiser: Path | None = None
    download: bool = False
    whole: bool = False
    """A stream that is stopped by hand is worth nothing: KeyboardInterrupt in place of results."""
    exports: tuple[str, ...] = ("ply", "html")
    command: str = "retain reconstruct"

    def __post_init__(self) -> None:
        for name in self.exports:
            if name not in EXPORTS:
                raise UsageError(f"There is no export {name!r}.", hint=nearest(name, EXPORTS))
        if self.profile == "neural":
            self._refuse_classic()
        elif self.weights != "auto":
            raise UsageError(
                "--weights are of the neural profile.", hint="Write --profile neural too."
            )
        if not self.language and (self.dinoiser or self.download):
            raise UsageError(
                "--dinoiser and --download are of --language, and there is none.",
                hint="Write --language clip.",
            )

    def _refuse_classic(self) -> None:
        """What only the classic profile knows is refused, not passed over."""
        if self.language:
            raise UsageError(
                "The neural profile gives its own language codes.", hint="Leave --language out."
            )
        if self.poses == "given":
            raise UsageError("The neural profile estimates poses; it cannot take given ones.")
        for name in ("features", "cell", "refine", "refine_ms", "finish"):
            value = getattr(self, name)
            if value and value != getattr(ReconstructOptions, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is of the classic profile: the network says the "
                    "map.",
                    hint="Leave it out.",
                )

    def of_stage(self) -> dict[str, Any]:
        """Options of the stage that maps."""
        return {
            "profile": self.profile,
            "weights": self.weights,
            "poses": self.poses,
            "features": self.features,
            "budget_mb": self.memory_mb,
            "holdout": self.holdout,
            "refine": self.refine,
            "refine_ms": self.refine_ms,
            "cell": self.cell,
            "seed": self.seed,
        }


if TYPE_CHECKING:
    Reconstructed = Finished[Recorder, Outcome]


def reconstruct(
    options: ReconstructOptions, tell: Callable[[Reconstructed], None]
) -> Reconstructed:
    """Run it, with progress on stderr. ``tell`` is called when the results are in place, before
    the page goes. Raises RetainError when there is nothing to show for it."""
    # Threads that spin while they wait take the cores from those they wait for: on two busy cores a
    # refinement then takes six times as long. torch reads this when it is loaded, here and in the
    # processes of the run.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from retain.apps.reconstruct.live import SplatViewer
    from retain.apps.reconstruct.record import Recorder

    viewer = SplatViewer(options.stream) if options.page else None
    if viewer and options.state and (known := _known(options.state)):
        viewer.begin(known)
    return run_stream(
        options,
        view="scene",
        build=lambda live, page: build_graph(options, live=live, page=page),
        journal_in=Recorder,
        save={"reconstruct": MAP} | ({"language": LANGUAGE} if options.language else {}),
        write=lambda *run: _write_outputs(options, viewer, *run),
        tell=tell,
        beside=viewer,
    )


def tell(done: Reconstructed) -> None:
    """The result, on stdout: the map, how good it is, where the files are."""
    assert done.out is not None
    assert done.made is not None
    say, journal, made = console.output().print, done.journal, done.made
    say(
        f"mapped {clock(journal.footage_s)} ({journal.frames} frames, "
        f"{journal.frames / done.took_s:.1f} a second): {number(len(made.gaussians))} Gaussians, "
        f"{number(journal.keyframes)} keyframes"
    )
    if made.scores:
        say(
            f"  held-out frames: PSNR {made.mean('psnr'):.2f} dB, SSIM {made.mean('ssim'):.3f}, "
            f"{100 * made.mean('covered'):.0f} % covered ({len(made.scores)} frames)"
        )
    if made.drift:
        free = ", scale free" if made.drift.scaled else ""
        say(f"  path: ATE {100 * made.drift.ate.rmse:.1f} cm against the given poses{free}")
    if lost := journal.states["lost"]:
        reason = journal.reasons.most_common(1)
        why = f", mostly: {reason[0][0]}" if reason else ""
        say(f"  {lost} of {journal.frames} frames could not be tracked{why}")
    if journal.pose is not None:
        budget = size(journal.pose.byte_budget)
        say(f"  memory: at most {size(journal.most_bytes)} of {budget}")
    console.name_files(done.out)


def _known(folder: Path) -> SplatDelta | None:
    """The map in a snapshot, for a view that was not there before. Raises StateError."""
    from retain.models.scene.told import known

    for node in states.manifest(folder).nodes:
        if node.target == STAGE and (path := states.state_file(folder, node)):
            return known(str(path))
    return None


def build_graph(options: ReconstructOptions, *, live: bool, page: bool) -> Graph:
    """Nothing is lost of a finite source; of a live one, the newest frame wins."""
    graph = Graph(name="reconstruct", promise="live" if live else "finite")
    first = "language" if options.language else "reconstruct"
    add_source(
        graph, options, live, feeds=first, target=SOURCE,
        width=options.width, every=options.every, camera=options.camera, field=options.field,
    )  # fmt: skip
    if options.language:
        dinoiser = str(options.dinoiser.expanduser().resolve()) if options.dinoiser else ""
        graph.stage(
            "language", DESCRIBE, teacher=options.language, dinoiser=dinoiser,
            device=options.device, download=options.download,
        )  # fmt: skip
        graph.connect("language", "reconstruct", policy="latest" if live else "block")
    # The view's edge may lose packets of a live source, and changes of the map with them.
    whole_s = WHOLE_S if live else 0.0
    graph.stage("reconstruct", STAGE, **options.of_stage(), whole_s=whole_s)
    add_sinks(graph, "reconstruct", live, page)
    return graph


def open_map(options: ReconstructOptions, path: Path) -> Mapper | NeuralMapper:
    """The map in a file that a run with these ``options`` has written. Raises StateError."""
    from retain.models.scene.stage import Reconstruct, mapper_of

    stage = Reconstruct(**options.of_stage())
    return mapper_of(stage.profile).open(str(path), stage.options)


def _write_outputs(
    options: ReconstructOptions,
    viewer: SplatViewer | None,
    folder: Path,
    report: RunReport,
    journal: Recorder,
    took: float,
) -> Outcome:
    """Everything that is made once the stream has ended. ``viewer`` is shown the final map."""
    from retain.apps.journal import environment, run_facts, write_json
    from retain.apps.reconstruct import outcome
    from retain.apps.reconstruct.report import write_report

    if options.whole and interrupted(report, journal):
        raise KeyboardInterrupt
    failed = error_of(report.errors[0]) if report.errors else None
    if failed and not (folder / MAP).is_file():
        raise failed
    try:
        mapper = open_map(options, folder / MAP)
    except StateError as error:
        raise failed or error from error  # it failed halfway through a change of the map
    steps = options.finish if options.profile == "classic" else 0
    with _progress(steps) as told:
        refined = outcome.finish(mapper, steps, options.seed, told)
    if not len(mapper.map.read(mapper.stream).gaussians):
        raise _nothing_mapped(report, journal, mapper)
    mapper.save(str(folder / MAP))
    if viewer and (final := mapper.delta(whole=True)):
        viewer.show(final)
    made = outcome.judge(mapper, journal, refined, metric=mapper.kind.depth)
    outcome.write_trajectory(folder / outcome.TRAJECTORY, made.path)
    _export(options, folder, made, journal)
    if journal.codes is not None:
        words = {"names": journal.names, "codes": journal.codes.tolist()}
        write_json(folder / SCENE, words)
    own = outcome.facts(made, journal, mapper.kind) | _made_by(options)
    write_json(folder / SUMMARY, run_facts(options, report, journal, took) | own)
    write_report(
        folder,
        title=options.stream,
        journal=journal,
        outcome=made,
        report=report,
        environment=environment(
            options, poses=own["poses"], **_made_by(options), seed=options.seed
        ),
        incomplete=incomplete(report, journal),
    )
    return made


def _made_by(options: ReconstructOptions) -> dict[str, Any]:
    """The profile, and what of it has to be known to repeat the run."""
    if options.profile == "classic":
        return {"profile": "classic", "cell": options.cell}
    return {"profile": "neural", "weights": options.weights}


def _nothing_mapped(
    report: RunReport, journal: Recorder, mapper: Mapper | NeuralMapper
) -> RetainError:
    """Why the map is empty: said as an error, not as a map."""
    why = journal.reasons.most_common(1)
    tracked = journal.states["tracked"] + journal.states["recovered"]
    if report.errors:
        error = error_of(report.errors[0])
    elif not tracked:
        error = RetainError(
            f"The camera could not be tracked in any of {journal.frames} frames"
            + (f": {why[0][0]}." if why else "."),
            hint="With --poses estimated, those that are given are not needed."
            if mapper.kind.given
            else "Maps need texture, light and, without depth, a camera that moves sideways.",
        )
    else:
        error = RetainError(
            f"{tracked} of {journal.frames} frames were tracked, but no surface was seen in them"
            + (f"; of the others, mostly: {why[0][0]}." if why else "."),
            hint="Depth has to be between 0.1 and 6 m."
            if mapper.kind.depth
            else "Depth takes some keyframes: give more frames, or larger ones (--width).",
        )
    if interrupted(report, journal):
        error.exit_code = INTERRUPTED
    return error


def _export(options: ReconstructOptions, folder: Path, made: Outcome, journal: Recorder) -> None:
    from retain.apps.reconstruct.viewer import write_viewer
    from retain.datasets.splats.formats import write_splats

    for kind in options.exports:
        if kind in SPLATS:
            write_splats(folder / f"scene.{kind}", made.gaussians)
    if "html" in options.exports and journal.camera is not None:
        good = [pose for place, pose in made.path if place.known]
        shown = good[:: max(1, len(good) // 40)]
        cameras = [(pose, journal.camera) for pose in shown]
        write_viewer(folder / VIEWER, made.gaussians, cameras, title=options.stream)


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[int], None]]:
    """One line on stderr while the map is refined; Ctrl-C there ends the refining only."""
    screen = console.messages()
    if not steps or not screen.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("refining (Ctrl-C: enough)"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=screen, transient=True) as shown:
        task = shown.add_task("", total=steps)
        yield lambda done: shown.update(task, completed=done)
