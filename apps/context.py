"""`retain context`: what a multimodal model is handed, as a table, a JSON file or a folder."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retain.apps.console import output
from retain.apps.folder import building, free_place
from retain.pipeline.errors import UsageError
from retain.pipeline.files import write_whole

if TYPE_CHECKING:
    from retain.memory.context import Context, Picture
    from retain.memory.entries import Entry
    from retain.memory.tokens import Family


@dataclass(frozen=True, slots=True)
class ContextOptions:
    memory: str
    question: str
    family: str
    budget: int
    style: str = "openai"
    system: str = ""
    out: Path | None = None
    """A new ``.json`` file, with the pictures in it; any other name is a folder to be made."""
    token_file: Path | None = None
    """Of the page, where ``memory`` is a running watch that needs one."""


def hand_over(options: ContextOptions) -> Context:
    """Choose the frames, show which, and write them if asked. Raises UsageError."""
    from retain.memory.context import context

    family: Family = options.family  # type: ignore[assignment]  # context checks it
    chosen = context(
        _entries(options),
        family,
        options.budget,
        question=options.question,
        system=options.system,
    )
    chosen.messages(options.style, name)  # an unknown style is refused before anything is shown
    if options.out is not None:
        write(chosen, options.style, free_place(options.out, ""))
    show(chosen)
    if options.out is not None:
        output().print(f"  {options.out}")
    return chosen


def _entries(options: ContextOptions) -> list[Entry]:
    """Of the memory on disk, or of a running watch at this moment."""
    from retain.apps.ask.places import open_memory
    from retain.apps.ask.run import is_running
    from retain.apps.snapshot import snapshot

    if not is_running(options.memory):
        return open_memory(options.memory).entries
    with tempfile.TemporaryDirectory(prefix="retain-context-") as spare:
        snapshot(options.memory, Path(spare) / "state", options.token_file)
        return open_memory(Path(spare) / "state").entries


def show(chosen: Context) -> None:
    """The table on stdout."""
    out = output()
    for p in chosen.pictures:
        size = f"{p.width}x{p.height}"
        out.print(f"  {p.seconds:9.1f} s  {p.tier:7}  {size:>9}  {p.tokens:5} tokens  {p.reason}")
    out.print(
        f"  {len(chosen.pictures)} of {chosen.held} frames, {chosen.demoted} made smaller: "
        f"{chosen.tokens:,} of {chosen.budget:,} tokens of {chosen.family} "
        f"({chosen.picture_tokens:,} pictures, at most {chosen.text_tokens:,} text)"
    )


def write(chosen: Context, style: str, place: Path) -> None:
    """The messages into the file ``place``, or with the pictures as files into that folder."""
    if place.suffix.lower() == ".json":
        try:
            write_whole(place, _json(chosen.messages(style)))
        except OSError as error:
            raise UsageError(
                f"{str(place)!r} cannot be written: {error.strerror}.",
                hint="Choose a place you may write to with --out.",
            ) from error
        return
    from retain.apps.context_sheet import sheet

    with building(place) as folder:
        (folder / "frames").mkdir()
        for picture in chosen.pictures:
            (folder / name(picture)).write_bytes(picture.jpeg)
        sheet(chosen).save(folder / "sheet.webp", quality=80)
        (folder / "messages.json").write_bytes(_json(chosen.messages(style, name)))
        folder.rename(place)


def name(picture: Picture) -> str:
    """Its file in the folder, in order of time also by name."""
    return f"frames/{picture.seq:08}.jpg"


def _json(messages: object) -> bytes:
    return (json.dumps(messages, ensure_ascii=False, indent=1) + "\n").encode()
