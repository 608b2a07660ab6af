"""Result folders: named after the stream, built beside their place, renamed when whole."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retain.pipeline.errors import UsageError
from retain.pipeline.redact import redact
from retain.pipeline.sources.stored import is_stored, member_place


def stream_name(source: str) -> str:
    """A short name for the stream, fit for a file name and without credentials. What a shard
    holds is called as the same file would be by itself."""
    place = member_place(source)
    shown = redact(source if place is None else place.name).partition("?")[0].rstrip("/")
    scheme, found, rest = shown.partition("://")
    base = Path(rest if found else shown)
    plain = not found or is_stored(source)
    name = base.stem if plain else base.name or scheme
    clean = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return clean.strip("-.")[:60] or "stream"


def free_place(out: Path | None, stream: str) -> Path:
    """Where the results go. Raises UsageError rather than write over anything."""
    if out is not None:
        if out.exists():
            raise UsageError(
                f"{str(out)!r} is there already, and results never overwrite anything.",
                hint="Choose another --out, or remove it.",
            )
        return out
    stamp = time.strftime("%Y%m%d-%H%M%S")
    place = Path("retain-out") / f"{stream}-{stamp}"
    number = 2
    while place.exists():
        place = place.with_name(f"{stream}-{stamp}-{number}")
        number += 1
    return place


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """A hidden folder beside ``out``; whatever is left of it at the end goes away."""
    made = next((parent for parent in [*out.parents][::-1] if not parent.exists()), None)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {str(out.parent)!r}: {error.strerror}.",
            hint="Choose a folder you may write to with --out.",
        ) from error
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if made is not None and not out.exists():
            with suppress(OSError):
                out.parent.rmdir()
