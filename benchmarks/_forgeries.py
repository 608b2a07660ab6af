"""Memory files altered before their checksum is computed, which is how a forger would do it."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from _mutations import Mutator, doubled, json_copy

from retain.memory.snapshot import config_hash

_BLANK = "0" * 64


@dataclass
class File:
    """A memory file in parts that can be changed and put together again."""

    outer: dict[str, Any]
    inner: dict[str, Any]
    data: bytes

    @staticmethod
    def read(path: Path) -> File:
        raw = path.read_bytes()
        end = 8 + struct.unpack_from("<Q", raw)[0]
        outer = json.loads(raw[8:end])
        inner = json.loads(outer.pop("__metadata__")["retain"])
        return File(outer, inner | {"sha256": _BLANK}, raw[end:])

    def copy(self) -> File:
        return File(json_copy(self.outer), json_copy(self.inner), self.data)

    def sealed(self, inner: str = "", outer: str = "") -> bytes:
        """The file, with a right checksum where there is a place for one; or these texts as JSON
        of its two headers."""
        inner = inner or json.dumps(self.inner, separators=(",", ":"))
        if not outer:
            outer = json.dumps({"__metadata__": {"retain": inner}, **self.outer})
        whole = struct.pack("<Q", len(outer.encode())) + outer.encode() + self.data
        return whole.replace(_BLANK.encode(), sha256(whole).hexdigest().encode(), 1)


def forged(good: File, mutator: Mutator, raw: list[bytes]) -> bytes:
    """A file that is not as a memory would write it."""
    rng = mutator.rng
    if rng.random() < 0.2:
        return mutator.damaged(rng.choice(raw), raw)
    file = good.copy()
    for _ in range(rng.choice((1, 1, 1, 2))):
        kind = rng.choice(_FORGERIES)
        # After one change the next may find nothing to work on.
        with suppress(TypeError, ValueError, KeyError, IndexError, DeprecationWarning):
            kind(file, mutator)
    try:
        inner = json.dumps(file.inner, separators=(",", ":"))
        if rng.random() < 0.05:
            inner = doubled(inner, rng)
        outer = json.dumps({"__metadata__": {"retain": inner}, **file.outer})
        if rng.random() < 0.05:
            outer = doubled(outer, rng)
        return file.sealed(inner, outer)
    except (RecursionError, AttributeError, TypeError):
        return file.data


def _twist_inner(file: File, mutator: Mutator) -> None:
    file.inner = mutator.twisted(file.inner)


def _twist_state(file: File, mutator: Mutator) -> None:
    """What a memory's own header says, under a right configuration."""
    memory = _one_memory(file, mutator)
    memory["header"] = mutator.twisted(memory["header"])


def _twist_config(file: File, mutator: Mutator) -> None:
    """Another configuration, its checksum right."""
    memory = _one_memory(file, mutator)
    memory["config"] = mutator.twisted(memory["config"])
    try:
        memory["config_sha256"] = config_hash(memory["config"])
    except (ValueError, RecursionError):
        memory["config_sha256"] = _BLANK


def _one_memory(file: File, mutator: Mutator) -> dict[str, Any]:
    """One of the file's, where earlier changes left one."""
    memories = file.inner.get("memories") if isinstance(file.inner, dict) else None
    found = memories.values() if isinstance(memories, dict) else ()
    whole = [one for one in found if isinstance(one, dict) and {"header", "config"} <= set(one)]
    return mutator.rng.choice(whole) if whole else {"header": {}, "config": {}}


def _twist_layout(file: File, mutator: Mutator) -> None:
    """Places, shapes and types of arrays."""
    file.outer = mutator.twisted(file.outer)
    if not isinstance(file.outer, dict):
        file.outer = {}


def _overlap(file: File, mutator: Mutator) -> None:
    """One array lies upon another, of the same length or not."""
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    if len(infos) > 1:
        one, two = mutator.rng.sample(infos, 2)
        one["data_offsets"] = json_copy(two.get("data_offsets"))
        if mutator.rng.random() < 0.5:
            one["shape"], one["dtype"] = json_copy(two.get("shape")), two.get("dtype")


def _reshape(file: File, mutator: Mutator) -> None:
    """Another shape for the same number of values; sizes no machine has, times zero."""
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    if not infos or not isinstance(shape := (info := mutator.rng.choice(infos)).get("shape"), list):
        return
    empty = [key for key in infos if key.get("shape") and 0 in key["shape"]]
    if empty and mutator.rng.random() < 0.5:
        mutator.rng.choice(empty)["shape"] = mutator.rng.choice(
            ([0, 1 << 62, 1 << 62], [1 << 40, 0], [0] * 70, [0, -1])
        )
        return
    info["shape"] = mutator.rng.choice(
        (shape[::-1], [*shape, 1], [1] * 70 + shape, [1, *shape], [1 << 40, 1 << 40], [-1, -1])
    )


def _numbers(file: File, mutator: Mutator) -> None:
    """Values in the arrays: not a number, endless, negative, enormous."""
    data, rng = bytearray(file.data), mutator.rng
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    try:
        start, end = rng.choice(infos)["data_offsets"]
        form = rng.choice(("<d", "<f", "<q", "<i", "<b"))
        size = struct.calcsize(form)
        at = start + size * rng.randrange(max(1, (end - start) // size))
        if form in ("<d", "<f"):
            value: Any = rng.choice((np.nan, np.inf, -np.inf, -1.0, 1e30, 0.0, 3.0))
        else:
            value = rng.choice((-1, 0, 1, 127, -(1 << 8 * size - 1), (1 << 8 * size - 1) - 1))
        struct.pack_into(form, data, at, value)
    except (KeyError, TypeError, ValueError, IndexError, struct.error):
        return
    file.data = bytes(data)


def _length(file: File, mutator: Mutator) -> None:
    change = mutator.rng.choice((1, 8, 64))
    file.data = file.data + bytes(change) if mutator.rng.random() < 0.5 else file.data[:-change]


_FORGERIES = (
    _twist_inner, _twist_state, _twist_state, _twist_config, _twist_layout, _twist_layout,
    _overlap, _reshape, _numbers, _numbers, _numbers, _length,
)  # fmt: skip
