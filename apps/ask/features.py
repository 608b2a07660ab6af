"""What the frames of a memory look like to an encoder: as remembered, or described anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.apps.ask.places import Remembered, plain
from retain.pipeline.files import write_whole

if TYPE_CHECKING:
    from retain.models.encoders.base import Encoder

log = logging.getLogger(__name__)

BATCH = 16
Features = NDArray[np.float32]


def described(
    memory: Remembered, encoder: Encoder, progress: Callable[[int, int], None] | None = None
) -> tuple[Features, list[str]]:
    """Features by ``encoder`` of all frames held [N, D], zero for those without a picture, and
    what is to be said about them. New ones are kept beside the memory, where that can be written.

    Raises StateError for a kept picture that is damaged.
    """
    if plain(encoder.name) == plain(memory.encoder) and memory.embedding.shape[1] == encoder.dim:
        return memory.embedding, []
    place, key = _place(memory, encoder), _key(memory, encoder)
    rows = _kept(place, key, (len(memory.entries), encoder.dim)) if place else None
    if rows is None:
        rows = _anew(memory, encoder, progress)
        if place:
            _keep(place, key, rows)
    bare = sum(not entry.jpeg for entry in memory.entries)
    notes = [
        f"The memory was made with {memory.encoder!r}; its {len(rows) - bare} kept pictures were "
        f"described anew with {encoder.name!r}."
    ]
    if bare:
        notes.append(f"{bare} frames held have no picture, so they cannot answer.")
    return rows, notes


def _anew(
    memory: Remembered, encoder: Encoder, progress: Callable[[int, int], None] | None
) -> Features:
    pictured = [row for row, entry in enumerate(memory.entries) if entry.jpeg]
    rows = np.zeros((len(memory.entries), encoder.dim), np.float32)
    for done in range(0, len(pictured), BATCH):
        some = pictured[done : done + BATCH]
        rows[some] = encoder.encode([memory.entries[row].image() for row in some])
        if progress:
            progress(done + len(some), len(pictured))
    return rows


def _place(memory: Remembered, encoder: Encoder) -> Path | None:
    """The file beside the memory's own for features by ``encoder``."""
    if memory.file is None:
        return None
    short = sha256(encoder.name.encode()).hexdigest()[:12]
    return memory.file.with_name(f".{memory.file.name}.features-{short}")


def _key(memory: Remembered, encoder: Encoder) -> str:
    """Of which pictures the features are, and by whom; weights in a file may be replaced."""
    weights = ""
    _, at, name = encoder.name.partition("@")
    if at and Path(name).is_file():
        found = Path(name).stat()
        weights = f" {found.st_size} {found.st_mtime_ns}"
    return f"{memory.checksum} {encoder.name}{weights}"


def _kept(place: Path, key: str, shape: tuple[int, int]) -> Features | None:
    """None when there are none, or of other pictures: then they are made again."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(place), "np") as file:
            if json.loads((file.metadata() or {}).get("retain", "{}")).get("key") != key:
                return None
            rows: Features = file.get_tensor("rows")
    except (OSError, SafetensorError, ValueError, AttributeError, RecursionError) as error:
        log.debug("No features in %s: %s", place, error)
        return None
    whole = rows.shape == shape and rows.dtype == np.float32 and bool(np.isfinite(rows).all())
    return rows if whole else None


def _keep(place: Path, key: str, rows: Features) -> None:
    from safetensors.numpy import save

    try:
        write_whole(place, save({"rows": rows}, {"retain": json.dumps({"key": key})}))
    except OSError as error:  # a memory on a medium that cannot be written is asked all the same
        log.info("The features are not kept: %s cannot be written (%s).", place, error.strerror)
