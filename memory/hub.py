"""The memories of one stream: one byte budget, one file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from retain.memory import snapshot
from retain.memory.base import Elastic, Json, Memory
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.shares import Use, apportion, needed

AnyMemory = Memory[Any, Any, Any]


class Hub:
    """Named memories of ``stream`` that together stay within ``budget_bytes``.

    Each gets its ``min_bytes`` and a share of the rest by weight; whenever one is added or removed,
    all are told their new limit.
    """

    def __init__(self, budget_bytes: int, stream: str) -> None:
        self.budget_bytes, self.stream = budget_bytes, stream
        self._memories: dict[str, tuple[AnyMemory, float]] = {}
        self._limits: dict[str, int] = {}
        """As the memories were told last."""

    def add(self, name: str, memory: AnyMemory, weight: float = 1.0) -> None:
        """Take ``memory`` in. Raises UsageError when the budget cannot hold its minimum."""
        if name in self._memories or not name or "/" in name:
            raise UsageError(f"A memory called {name!r} cannot be added: taken, empty or with '/'.")
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight of memory {name!r} must be >= 0, got {weight}.")
        least = memory.min_bytes + sum(m.min_bytes for m, _ in self._memories.values())
        if least > self.budget_bytes:
            raise UsageError(
                f"The memories of stream {self.stream!r} need at least {least} bytes with "
                f"{name!r}, but the budget is {self.budget_bytes}.",
                hint="Raise the budget or configure smaller memories.",
            )
        self._memories[name] = memory, weight
        self._tell()

    def remove(self, name: str) -> AnyMemory:
        """Let a memory go, with what it holds; the others may grow into its share. Raises
        UsageError when there is none of this name."""
        memory = self[name]
        del self._memories[name]
        self._tell()
        return memory

    def _tell(self) -> None:
        """Those first that get less than before, so that nobody uses what another still has."""
        before, self._limits = self._limits, self.shares()
        less = sorted(self._limits, key=lambda name: self._limits[name] > before.get(name, 0))
        for name in less:
            self[name].shrink_to(self.stream, self._limits[name])

    def shares(self) -> dict[str, int]:
        """Bytes each memory may use; they add up to at most the budget."""
        return apportion(self.budget_bytes, self._least, self._weights, self._most)

    def shrink_to(self, nbytes: int) -> None:
        """Live within ``nbytes`` from now on, more or less than before. Raises UsageError, with
        everything as it was, when the memories need more."""
        apportion(nbytes, self._least, self._weights)
        self.budget_bytes = nbytes
        self._tell()

    def use(self) -> Use:
        """The budget, and that of which each memory would get what it needs."""
        needs = {
            name: m.need(self.stream) if isinstance(m, Elastic) else m.nbytes(self.stream)
            for name, (m, _) in self._memories.items()
        }
        return Use(self.budget_bytes, needed(needs, self._least, self._weights, self._most))

    @property
    def _least(self) -> dict[str, int]:
        return {name: memory.min_bytes for name, (memory, _) in self._memories.items()}

    @property
    def _weights(self) -> dict[str, float]:
        return {name: weight for name, (_, weight) in self._memories.items()}

    @property
    def _most(self) -> dict[str, int]:
        told = {n: m.max_bytes for n, (m, _) in self._memories.items() if isinstance(m, Elastic)}
        return {name: most for name, most in told.items() if most is not None}

    def __getitem__(self, name: str) -> AnyMemory:
        if name not in self._memories:
            raise UsageError(f"No memory is called {name!r}.", hint=nearest(name, self._memories))
        return self._memories[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._memories)

    def __len__(self) -> int:
        return len(self._memories)

    def reset(self) -> None:
        """Forget everything of the stream; each memory stays within its share, as ever."""
        for name, limit in self.shares().items():
            self[name].reset(self.stream)
            self[name].shrink_to(self.stream, limit)

    @property
    def nbytes(self) -> int:
        return sum(memory.nbytes(self.stream) for memory, _ in self._memories.values())

    def stats(self) -> dict[str, Mapping[str, int | float | str]]:
        return {name: m.stats(self.stream) for name, (m, _) in self._memories.items()}

    def snapshot(self, path: str | Path, seq: int = -1) -> None:
        """Write all memories to one file, atomically. ``seq``: the last frame they have seen."""
        memories: dict[str, tuple[Mapping[str, Json], Any]] = {
            name: (m.config, m.snapshot(self.stream)) for name, (m, _) in self._memories.items()
        }
        snapshot.save(path, snapshot.MemoryFile(self.stream, seq, memories))

    def restore(self, path: str | Path) -> int:
        """Take all memories from ``path`` and return its ``seq``.

        Raises StateError, with every memory as it was before, when the file is damaged or was
        made with other memories or other configurations. The stream's name may differ.
        """
        file = snapshot.load(path)
        if set(file.memories) != set(self._memories):
            raise StateError(
                f"{path} holds the memories {sorted(file.memories)}, "
                f"this hub has {sorted(self._memories)}."
            )
        for name, (config, _) in file.memories.items():
            snapshot.check_config(name, self[name].config, config)
        before = {name: self[name].snapshot(self.stream) for name in self}
        limits = self.shares()
        try:
            for name, (_, state) in file.memories.items():
                self[name].restore(self.stream, state)
                self[name].shrink_to(self.stream, limits[name])
        except BaseException:
            for name, state in before.items():
                self[name].restore(self.stream, state)
                self[name].shrink_to(self.stream, self._limits[name])
            raise
        return file.seq
