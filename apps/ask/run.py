"""`retain ask`: a question to a memory on disk or to a running watch, its answer as a table, as
JSON and as a page."""

from __future__ import annotations

import math
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retain.apps import console
from retain.apps.ask.answer import Answer, Progress, Question, answer
from retain.apps.ask.clips import footage, same_footage
from retain.apps.ask.places import Remembered, open_memory
from retain.apps.ask.remote import ask_running, reads_words, source_of
from retain.apps.drawing import REASONS, clock
from retain.apps.snapshot import snapshot
from retain.pipeline.errors import SourceError, SourceFault, StateError, UsageError
from retain.pipeline.frame import Image
from retain.pipeline.sources.common import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from rich.table import Table

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")
MAX_SIDE = 8192


@dataclass(frozen=True, kw_only=True)
class AskOptions:
    """What `retain ask` was asked. Empty words mean: not given."""

    memory: str
    query: str = ""
    image: Path | None = None
    text: str = ""
    start: str = ""
    end: str = ""
    k: int = 5
    encoder: str = ""
    device: str = "auto"
    download: bool = False
    json: bool = False
    out: Path | None = None
    token_file: Path | None = None
    command: str = "retain ask"


def ask(options: AskOptions) -> None:
    """Answer on stdout. Raises UsageError for what cannot be asked, RetainError when a running
    watch does not answer."""
    if options.out is not None and options.out.exists():
        raise UsageError(
            f"{str(options.out)!r} is there already, and results never overwrite anything.",
            hint="Choose another --out, or remove it.",
        )
    picture, question = _question(options)
    shown: Answer | None = None
    if is_running(options.memory) and not _own(options, question):
        document = ask_running(options.memory, question, options.token_file)
    else:
        shown = _ask_here(_opened(options), options, question)
        document = shown.as_json()
    if options.json:
        _print_json(document)
    else:
        _tell(document)
    if options.out is not None and shown is not None:
        from retain.apps.ask.report import write_answer

        write_answer(options.out, shown, example=picture, command=options.command)
        console.messages().print(f"  {options.out / 'answer.html'}", markup=False)


def is_running(memory: str) -> bool:
    """Whether MEMORY is the port or the address of a running watch."""
    port = memory.isdecimal() and not Path(memory).exists()
    return port or memory.startswith(("http://", "https://"))


def seconds_of(text: str) -> float:
    """A time of the stream in seconds, from ``90``, ``1:30`` or ``0:01:30.5``. Raises UsageError.

    >>> seconds_of("90"), seconds_of("1:30"), seconds_of("0:01:30.5")
    (90.0, 90.0, 90.5)
    """
    found = _TIME.fullmatch(text.strip())
    if not found or (found[2] and float(found[3]) >= 60) or (found[1] and int(found[2]) >= 60):
        raise UsageError(
            f"{text!r} is not a time of a stream.",
            hint="Write 90, 1:30 or 0:01:30: from its start.",
        )
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _question(options: AskOptions) -> tuple[str, Question]:
    """What was asked, and the name of the example picture."""
    image, text = options.image, options.text
    query = options.query
    if query and _is_picture(query):
        if image is not None:
            raise UsageError(f"Both {query!r} and --image name an example; one is enough.")
        image = Path(query)
    elif query:
        if text:
            raise UsageError(f"Both {query!r} and --text are words; write them as one.")
        text = query
    question = Question(
        image=_read(image) if image is not None else None,
        text=text,
        start_s=seconds_of(options.start) if options.start else -math.inf,
        end_s=seconds_of(options.end) if options.end else math.inf,
        k=options.k,
    )
    return (image.name if image else ""), question


def _is_picture(query: str) -> bool:
    """Whether QUERY is a file, or one word that is called like a picture."""
    try:
        there = Path(query).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False
    return there or (Path(query).suffix.lower() in IMAGE_SUFFIXES and not re.search(r"\s", query))


def _read(path: Path) -> Image:
    from PIL import Image as Pil

    from retain.pipeline.sources.common import check_file
    from retain.pipeline.sources.images import read_image

    path = path.expanduser()
    try:
        check_file(path)
        with warnings.catch_warnings():  # Pillow warns of sizes that are refused here
            warnings.simplefilter("error", Pil.DecompressionBombWarning)
            return read_image(path, MAX_SIDE)
    except SourceError as error:
        hint = error.hint or "Give a PNG, JPEG, WebP, BMP or TIFF picture."
        if error.fault is SourceFault.TOO_LARGE:
            hint = "Give a smaller one: encoders look at less than 1024 pixels."
        raise UsageError(error.what, hint=hint) from error


def _own(options: AskOptions, question: Question) -> bool:
    """Whether a running watch cannot answer this itself."""
    if options.encoder or options.download or options.out:
        return True
    return bool(question.text.strip()) and not reads_words(options.memory, options.token_file)


def _opened(options: AskOptions) -> Remembered:
    """The memory on disk, or the state of a running watch."""
    if not is_running(options.memory):
        return open_memory(options.memory)
    source = source_of(options.memory, options.token_file)
    with tempfile.TemporaryDirectory(prefix="retain-ask-") as spare:
        state = Path(spare) / "state"
        snapshot(options.memory, state, options.token_file)
        return replace(open_memory(state), source=source, file=None)


def _ask_here(memory: Remembered, options: AskOptions, question: Question) -> Answer:
    try:
        with _progress() as progress:
            found = answer(
                memory,
                question,
                encoder=options.encoder,
                device=options.device,
                download=options.download,
                progress=progress,
            )
        return _checked(found, memory)
    except StateError as error:  # a picture in it
        raise UsageError(error.what, hint=error.hint) from error


def _checked(found: Answer, memory: Remembered) -> Answer:
    """Without a source that shows something else now than it did."""
    path = footage(memory.source)
    if path is None or same_footage(path, memory.entries[found.moments[0].row]):
        return found
    note = f"{path.name} does not show now what the memory kept of it, so nothing is played."
    return replace(found, memory=replace(memory, source=""), notes=[*found.notes, note])


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr, from the time on that there is something to wait for."""
    from rich.progress import Progress as Bar

    bar = Bar(console=console.messages(), transient=True)
    task = bar.add_task("describing kept pictures", total=None)

    def told(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield told
    finally:
        if bar.live.is_started:
            bar.stop()


def _print_json(document: Mapping[str, Any]) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())


def _tell(document: Mapping[str, Any]) -> None:
    for note in document["notes"]:
        console.messages().print(f"note: {note}", markup=False)
    console.output().print(_table(document["moments"]))


def _table(moments: list[Mapping[str, Any]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("#", "time", "span", "score", "tier", "kept because"):
        table.add_column(name, justify="left" if name in ("tier", "kept because") else "right")
    for moment in moments:
        table.add_row(
            str(moment["rank"]),
            clock(moment["seconds"]),
            span(moment["start_s"], moment["end_s"]),
            "–" if moment["score"] is None else f"{moment['score']:.3f}",
            moment["tier"],
            REASONS.get(moment["reason"], moment["reason"]),
        )
    return table


def span(start_s: float, end_s: float) -> str:
    """``1:02.0 – 1:04.5``, or one time where they are equal."""
    first, last = clock(start_s), clock(end_s)
    return first if first == last else f"{first} – {last}"
