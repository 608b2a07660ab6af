"""A bank of references as one file, bound to the encoder that described them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from retain.memory import snapshot
from retain.memory.clips.bank import ClipBank, check_encoder
from retain.memory.clips.config import ClipBankConfig
from retain.pipeline.errors import StateError, UsageError

STREAM = "references"


def save(path: str | Path, bank: ClipBank, stream: str = STREAM) -> None:
    """Write the clips of ``stream``, atomically."""
    memories = {"clips": (bank.config, bank.snapshot(stream))}
    snapshot.save(path, snapshot.MemoryFile(stream, -1, memories))


def load(path: str | Path, encoder: str, weights: str, stream: str = STREAM) -> ClipBank:
    """The bank of a file, its clips under ``stream``, whatever they were called there.

    Raises StateError when the file is damaged, holds no clip bank, or its descriptors are of
    another encoder than the one called ``encoder`` with ``weights``.
    """
    file = snapshot.load(path)
    for config, state in file.memories.values():
        if config.get("kind") == "clips":
            check_encoder(config, encoder, weights)
            try:
                bank = ClipBank(msgspec.convert(dict(config), ClipBankConfig))
                bank.restore(stream, state)
            except (msgspec.ValidationError, UsageError, ValueError, MemoryError) as error:
                raise StateError(f"{path} holds a clip bank that cannot be: {error}") from None
            return bank
    raise StateError(f"{path} holds no clip bank.")
