"""The command line. Every heavy import waits until its command is called."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import retain
from retain.apps import (
    cli_ask,
    cli_batch,
    cli_context,
    cli_data,
    cli_detect,
    cli_ditmem,
    cli_graphs,
    cli_imagine,
    cli_keys,
    cli_models,
    cli_onlinex,
    cli_scene,
    cli_segment,
    cli_sets,
    console,
)
from retain.apps.cli_options import (
    OpenOption,
    PortOption,
    ResumeOption,
    RunnerName,
    RunnerOption,
    TokenOption,
    runs_a_stream,
)
from retain.apps.console import INTERRUPTED
from retain.pipeline import logs, tracing
from retain.pipeline.errors import RetainError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Streaming video perception with bounded memory.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some items failed, 130 interrupted.",
)

cli_models.train.command("ditmem")(cli_ditmem.train)
cli_models.evaluate.command("ditmem")(cli_ditmem.evaluate)
cli_models.evaluate.command("set")(cli_sets.evaluate)
cli_models.train.command("onlinex")(cli_onlinex.train)
cli_models.evaluate.command("onlinex")(cli_onlinex.evaluate)
app.add_typer(cli_models.train, name="train")
app.add_typer(cli_models.evaluate, name="eval")
app.add_typer(cli_keys.keys, name="keys")
app.add_typer(cli_data.data, name="data")


class Mode(StrEnum):
    ROBUST = "robust"
    PAPER = "paper"


def _version(wanted: bool) -> None:
    if wanted:
        print(f"retain {retain.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and our own log messages.")
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Write messages as JSON, as RETAIN_LOG=json does.")
    ] = False,
    traces: Annotated[
        str,
        typer.Option(metavar="URL", help="Send OpenTelemetry traces to this OTLP/HTTP collector."),
    ] = "",
) -> None:
    if traces:
        tracing.check(traces)
        os.environ[tracing.ENDPOINT] = traces
    if log_json:
        os.environ[logs.VARIABLE] = "json"  # the processes of a run inherit it
    console.set_up_logging(debug)


@app.command()
@runs_a_stream("fps", "resume")
def watch(
    source: Annotated[
        str,
        typer.Argument(help="File, folder, 'pattern*.png', 0 (camera), rtsp://…, synthetic://…, -"),
    ],
    fps: Annotated[
        float,
        typer.Option(min=0, max=100_000, help="Frames looked at per second of footage; 0: all."),
    ] = 2.0,
    mode: Annotated[Mode, typer.Option(help="Routing and eviction; paper is 2603.19571.")] = (
        Mode.ROBUST
    ),
    budget: Annotated[
        int,
        typer.Option(min=0, help="Vision tokens the memory may hold.", show_default="of the mode"),
    ] = 0,
    nbytes: Annotated[
        int,
        typer.Option(
            "--bytes", min=0, help="Bytes the memory may hold.", show_default="of the mode"
        ),
    ] = 0,
    entries: Annotated[
        int, typer.Option(min=0, help="Frames the memory may hold.", show_default="of the mode")
    ] = 0,
    policy: Annotated[
        str,
        typer.Option(
            help="What leaves first: robust, fifo, score, score-decay, adjacent-merge, "
            "reservoir, stride, recent.",
            show_default="of the mode",
        ),
    ] = "",
    encoder: Annotated[str, typer.Option(help="Frame encoder; `retain doctor` lists them.")] = (
        "mobilenetv2"
    ),
    download: Annotated[
        bool, typer.Option("--download", help="Let the encoder fetch its weights.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(help="Continue from a memory.safetensors or a snapshot's folder.")
    ] = None,
    *,
    run: dict[str, Any],
) -> None:
    """Watch SOURCE and remember what matters."""
    from retain.apps import watch as job

    done = job.watch(
        job.WatchOptions(
            source=source,
            fps=fps,
            mode=mode.value,
            token_budget=budget,
            byte_budget=nbytes,
            max_entries=entries,
            policy=policy,
            encoder=encoder,
            download=download,
            resume=None if resume and resume.is_dir() else resume,
            state=resume if resume and resume.is_dir() else None,
            **run,
        ),
        job.tell,
    )
    raise typer.Exit(done.exit_code)


@app.command()
def serve(
    streams: Annotated[
        Path, typer.Argument(metavar="STREAMS.yaml", help="The streams; see docs/serve.md.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results and memories; one that is there is gone on with.",
            show_default="retain-out/STREAMS",
        ),
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the console.")] = True,
    port: PortOption = 0,
    host: Annotated[
        str, typer.Option(help="Address of the console; other hosts need --token-file.")
    ] = "127.0.0.1",
    token_file: TokenOption = None,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file, certificate and key: the console over https.")
    ] = None,
    open_page: OpenOption = False,
    download: Annotated[
        bool, typer.Option("--download", help="Let the encoder fetch its weights.")
    ] = False,
    runner: RunnerOption = RunnerName.LOCAL,
    resume: ResumeOption = None,
) -> None:
    """Watch many live streams, a memory each, with one console for all."""
    from retain.apps import serve as job

    options = job.ServeOptions(
        streams=streams,
        out=out,
        page=page,
        port=port,
        host=host,
        token_file=token_file,
        certificate=certificate,
        open_page=open_page,
        download=download,
        runner=runner.value,
        state=resume,
    )
    raise typer.Exit(job.serve(options))


app.command()(cli_ask.ask)
app.command()(cli_batch.batch)
app.command()(cli_context.context)
app.command()(cli_segment.segment)
app.command()(cli_detect.detect)
app.command()(cli_imagine.imagine)
app.command()(cli_scene.reconstruct)
app.command()(cli_scene.render)


NOT_OF_A_DEMO = (
    "device", "limit", "fps", "seconds", "realtime", "record", "record_mb", "resume",
)  # fmt: skip


class Demo(StrEnum):
    WATCH = "watch"
    SCENE = "scene"
    DETECT = "detect"
    IMAGINE = "imagine"


@app.command()
@runs_a_stream(*NOT_OF_A_DEMO)
def demo(
    what: Annotated[
        Demo,
        typer.Argument(
            help="A real clip being remembered, a room being mapped in 3D, objects being found, or "
            "what comes next being imagined."
        ),
    ] = Demo.WATCH,
    *,
    run: dict[str, Any],
) -> None:
    """Watch a clip that came with an installed package, map a room that is generated, find
    generated objects, or foresee generated worlds. Needs no network, camera or GPU."""
    from retain.apps import demo as job

    shows = {
        Demo.WATCH: job.demo,
        Demo.SCENE: job.demo_scene,
        Demo.DETECT: job.demo_detect,
        Demo.IMAGINE: job.demo_imagine,
    }
    raise typer.Exit(shows[what](run))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check this machine, and say how to mend what is missing."""
    from retain.apps import doctor as job

    raise typer.Exit(job.doctor(as_json))


app.command()(cli_graphs.snapshot)
app.command()(cli_graphs.inspect)
app.command()(cli_graphs.top)
app.command()(cli_graphs.run)
app.command("graph")(cli_graphs.show)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all when none.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller runs, for a first look.")] = False,
    json: Annotated[
        Path | None, typer.Option(help="Keep what is found in this file, a record.")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep it in benchmarks/records, and write the page.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Measure only what the record does not have yet.")
    ] = False,
    minutes: Annotated[
        float, typer.Option(help="Leave out what would take longer.", show_default="no limit")
    ] = float("inf"),
    listing: Annotated[
        bool, typer.Option("--list", help="Name the benchmarks, what each takes, who cites it.")
    ] = False,
    page: Annotated[
        bool, typer.Option("--page", help="Write docs/numbers.md and its picture from the records.")
    ] = False,
) -> None:
    """Measure the published numbers beside their peers. Ctrl-C keeps what is done."""
    from retain.apps.numbers import command as job

    if listing or page:
        raise typer.Exit(job.list_all() if listing else job.write_page())
    options = job.Options(
        names=tuple(names or ()),
        quick=quick,
        json=json,
        record=record,
        resume=resume,
        minutes=minutes,
    )
    raise typer.Exit(job.measure(options))


def main() -> None:
    """The console script."""
    # Outside a run too, being ended politely must not leave half of anything behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _wait_briefly()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    anywhere = ("--debug", "--log-json")  # these may stand behind the command too
    arguments.sort(key=lambda word: word not in anywhere)
    try:
        app(arguments, prog_name="retain")
    except RetainError as error:
        if debug:
            raise
        console.say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _wait_briefly() -> None:
    """Threads of OpenMP that wait for each other spin for milliseconds before they sleep. Where
    cores are busy that is ten times the CPU of the work they wait for; 2,000 turns, about 50 us,
    are what waking one takes. Read when torch is loaded, here and in the processes of nodes."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def alone() -> None:
    """``main``, of a process that is nothing else."""
    try:
        main()
    except SystemExit as ending:
        if ending.code != INTERRUPTED:
            raise
        # An interrupt that came while C code ran Python makes Python kill itself by SIGINT at its
        # very end, whatever was made of it. So it ends here, and in the code that was said.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    alone()
