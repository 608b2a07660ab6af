"""MAMBA's memory bank (arXiv 2401.09923), causal and bounded: rows of features per stream.

Rows lie in tensors allocated once. When they are full, a new row is written over one that the
policy gives up; nothing is moved. Keys and values are projected when a row is written, once, and a
read lists places instead of copying rows. Where this differs from the public codes, and why, is in
docs/bank.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.memory.bank.policies import Lasso, bank_policy, chosen
from retain.memory.bank.rows import COLUMNS, BankQuery, BankWrite, KeySet, Projection
from retain.memory.base import Json, State
from retain.memory.eviction import Policy, Ranks
from retain.memory.table import ARRIVAL, Table
from retain.pipeline.errors import StateError, UsageError

_LEAST_ROWS = 64
_READING = 0x5EED
"""Apart from the seed of eviction: what is read tells nothing about what stays."""


@dataclass(frozen=True, slots=True)
class BankConfig:
    """Sizes and policies (see policies.py). Raises UsageError when they cannot work."""

    dim: int
    """Channels of a row."""
    capacity: int = 20_000
    key_set: int = 2_000
    """Rows of a read, at most."""
    evict: str = "uniform"
    select: str = "uniform"
    recent: int = 150
    """Rows that ``recent-heap`` always holds."""
    keep_rows: bool = False
    """Rows as written are kept beside their projections; without a projection they always are."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dim", "capacity", "key_set", "recent"):
            if getattr(self, name) < 1:
                raise UsageError(f"Bank option {name} must be at least 1.")
        for name in ("evict", "select"):
            bank_policy(getattr(self, name))


class _Stream:
    """One stream's rows: numbers in ``table``, features in tensors, at the same places."""

    def __init__(self, room: int, shapes: Mapping[str, tuple[int, ...]], device: str) -> None:
        self.table = Table(room, COLUMNS)
        self.tensors = {
            name: torch.zeros(room, *shape, device=device) for name, shape in shapes.items()
        }
        self.written = 0

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + sum(x.numel() * x.element_size() for x in self.tensors.values())


class Bank:
    """See the module's text. Without ``project`` keys and values are the rows, with one head.

    The newest frame's rows always enter; what leaves is chosen among the older ones, as published.
    """

    def __init__(
        self, config: BankConfig, project: Projection | None = None, device: str = "cpu"
    ) -> None:
        self._config, self._project, self._device = config, project, device
        self._evict = bank_policy(config.evict, config.seed, config.recent)
        self._select = bank_policy(config.select, config.seed ^ _READING, config.recent)
        self._shapes: dict[str, tuple[int, ...]] = {}
        if project is None or config.keep_rows:
            self._shapes["row"] = (config.dim,)
        if project is not None:
            self._shapes |= {"key": project.key_shape, "value": project.value_shape}
        if "row" not in self._shapes and "lasso" in (config.evict, config.select):
            raise UsageError(
                "The policy 'lasso' rebuilds frames from rows, which this bank does not keep.",
                hint="Set keep_rows.",
            )
        self._streams: dict[str, _Stream] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        projected = "" if self._project is None else self._project.digest
        return {"kind": "bank", **asdict(self._config), "projection": projected}

    @property
    def row_bytes(self) -> int:
        """Bytes of one row with all that belongs to it."""
        numbers = sum(np.dtype(dtype).itemsize for dtype in COLUMNS.values())
        return numbers + 4 * sum(math.prod(shape) for shape in self._shapes.values())

    @property
    def min_bytes(self) -> int:
        return min(_LEAST_ROWS, self._config.capacity) * self.row_bytes

    def empty(self, stream: str) -> bool:
        """Whether it holds no row."""
        return not len(self._stream(stream).table)

    def write(self, stream: str, item: BankWrite, gate: float = 1.0) -> int:
        """Keep a frame's rows, as many as there is room for, and return how many.

        ``gate`` in [0, 1] scales the scores that policies go by; 0 keeps the frame out. A frame
        without rows changes nothing. Raises ValueError for rows that do not fit or are not finite.
        """
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        s = self._stream(stream)
        count = min(len(item.rows), s.table.capacity)
        values = self._numbers(item, count, gate, s.written)
        rows = item.rows[:count].detach().to(self._device, torch.float32)
        if not bool(rows.isfinite().all()):
            raise ValueError(f"frame {item.frame} brings rows that are not finite")
        if not count or not gate:
            return 0
        places = self._room(s, rows)
        self._store(s, places, rows)
        s.table.put(places, values)
        s.table.turn += 1
        s.written += count
        return count

    def _numbers(
        self, item: BankWrite, count: int, gate: float, written: int
    ) -> dict[str, NDArray[np.generic]]:
        """The columns of the first ``count`` rows."""
        given = len(item.rows)
        if item.rows.dim() != 2 or item.rows.shape[1] != self._config.dim:
            raise ValueError(f"rows {list(item.rows.shape)}, not [k, {self._config.dim}]")
        scores = np.zeros(given) if item.scores is None else np.asarray(item.scores, np.float64)
        boxes = np.zeros((given, 4)) if item.boxes is None else item.boxes
        boxes = np.asarray(boxes, np.float32)
        levels = np.broadcast_to(np.asarray(item.levels, np.int32), (given,))
        if scores.shape != (given,) or boxes.shape != (given, 4):
            raise ValueError(f"{given} rows with scores {scores.shape}, boxes {boxes.shape}")
        if not all(np.isfinite(x).all() for x in (scores, boxes, item.seconds)):
            raise ValueError(
                f"frame {item.frame} brings scores, boxes or a time that is not finite"
            )
        return {
            "seconds": np.full(count, item.seconds),
            "score": scores[:count],
            "key": gate * scores[:count],
            ARRIVAL: written + np.arange(count),
            "frame": np.full(count, item.frame),
            "box": boxes[:count],
            "level": levels[:count],
            "enhanced": np.full(count, item.enhanced, np.uint8),
        }

    def _room(self, s: _Stream, rows: Tensor) -> NDArray[np.int64]:
        """Places for ``rows``: free ones first, then those of the lowest ranks."""
        held, count = len(s.table), len(rows)
        free = np.arange(held, min(held + count, s.table.capacity))
        missing = count - len(free)
        if not missing:
            return free
        rank = self._ranks(self._evict, s, rows)
        return np.concatenate([free, chosen(rank, s.table.order, missing)])

    def _ranks(self, policy: Policy, s: _Stream, target: Tensor | None) -> Ranks:
        if isinstance(policy, Lasso):
            rows = s.tensors["row"][: len(s.table)]
            return policy.ranks(s.table, rows, rows[:0] if target is None else target.to(rows))
        return policy.rank(s.table)

    def _store(self, s: _Stream, places: NDArray[np.int64], rows: Tensor) -> None:
        at = torch.from_numpy(places).to(self._device)
        if "row" in s.tensors:
            s.tensors["row"][at] = rows
        if self._project is not None:
            keys, values = self._project(rows)
            s.tensors["key"][at], s.tensors["value"][at] = keys, values

    def read(self, stream: str, query: BankQuery | None = None) -> KeySet:
        """The rows to attend to: all, or as many as a read may take, chosen by the policy. Until
        the next write the same question gives the same rows, in order of place."""
        s, query = self._stream(stream), query or BankQuery()
        places = np.arange(len(s.table))
        if query.level is not None:
            places = np.flatnonzero(s.table["level"] == query.level)
        surplus = len(places) - (self._config.key_set if query.count is None else query.count)
        if surplus > 0:
            rank, order = self._ranks(self._select, s, query.target), s.table.order
            places = np.delete(places, chosen(rank[places], order[places], surplus))
        held = {name: x[: len(s.table)] for name, x in s.tensors.items()}
        row = held.get("row")
        both = (row[:, None], row[:, None]) if row is not None and self._project is None else None
        keys, values = both or (held["key"], held["value"])
        return KeySet(
            stream,
            torch.from_numpy(places).to(self._device),
            keys,
            values,
            row,
            {name: s.table[name][places] for name in COLUMNS},
        )

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self._stream(stream).nbytes

    @property
    def max_bytes(self) -> int:
        return self._config.capacity * self.row_bytes

    def need(self, stream: str) -> int:
        """With as many rows more as the newest frame has."""
        table = self._stream(stream).table
        frames = table["frame"]
        more = int((frames == frames[table.order.argmax()]).sum()) if len(table) else 0
        rows = min(len(table) + more, self._config.capacity)
        return max(self.min_bytes, rows * self.row_bytes)

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Hold fewer rows from now on: those the policy ranks highest, of the newest frame all it
        can. Raises UsageError under ``min_bytes``."""
        if nbytes < self.min_bytes:
            raise UsageError(
                f"The bank cannot live in {nbytes} bytes; it needs {self.min_bytes}.",
                hint="Give it more, or configure narrower rows.",
            )
        s = self._stream(stream)
        room = min(self._config.capacity, nbytes // self.row_bytes)
        if room == s.table.capacity:
            return
        rank, order = self._ranks(self._evict, s, None), s.table.order
        newest = s.table["frame"] == s.table["frame"][order.argmax()] if len(order) else order > 0
        rank = np.where(newest, np.inf, rank)
        places = np.delete(np.arange(len(order)), chosen(rank, order, len(order) - room))
        smaller = _Stream(room, self._shapes, self._device)
        smaller.table.put(np.arange(len(places)), {n: s.table[n][places] for n in COLUMNS})
        at = torch.from_numpy(places).to(self._device)
        for name, tensor in s.tensors.items():
            smaller.tensors[name][: len(places)] = tensor[at]
        smaller.table.turn, smaller.written = s.table.turn, s.written
        self._streams[stream] = smaller

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        s = self._stream(stream)
        return {
            "rows": len(s.table),
            "room": s.table.capacity,
            "written": s.written,
            "evicted": s.written - len(s.table),
            "frames": len(np.unique(s.table["frame"])),
            "enhanced": float(s.table["enhanced"].mean()) if len(s.table) else 0.0,
            "bytes": s.nbytes,
        }

    def snapshot(self, stream: str) -> State:
        s = self._stream(stream)
        held = {
            name: x[: len(s.table)].cpu().numpy().copy() for name, x in sorted(s.tensors.items())
        }
        header: dict[str, Json] = {
            "room": s.table.capacity, "turn": s.table.turn, "written": s.written,
        }  # fmt: skip
        return State(s.table.tensors() | held, header)

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, changing nothing, for anything but rows this bank could hold."""
        room, turn, written = (state.header.get(name) for name in ("room", "turn", "written"))
        least = min(_LEAST_ROWS, self._config.capacity)
        if type(room) is not int or not least <= room <= self._config.capacity:
            raise StateError(f"The snapshot's bank has room for {room!r} rows.")
        if type(turn) is not int or type(written) is not int or not 0 <= turn <= written < 2**62:
            raise StateError("The snapshot's header does not belong to a bank.")
        s = _Stream(room, self._shapes, self._device)
        s.table.load(state.tensors)
        s.table.turn, s.written = turn, written
        n = len(s.table)
        for name, tensor in s.tensors.items():
            array = state.tensors.get(name)
            if array is None or array.dtype != np.float32 or array.shape != (n, *tensor.shape[1:]):
                raise StateError(f"The snapshot's array {name!r} is not that of {n} such rows.")
            if not np.isfinite(array).all():
                raise StateError(f"The snapshot's array {name!r} holds values that are not finite.")
            tensor[:n] = torch.from_numpy(array.copy()).to(self._device)
        _check(s.table, written)
        self._streams[stream] = s

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config.capacity, self._shapes, self._device)
        return self._streams[stream]


def _check(table: Table, written: int) -> None:
    """Raises StateError for numbers that no bank writes."""
    order = table.order
    good = len(np.unique(order)) == len(order)
    good &= bool(((order >= 0) & (order < written)).all())
    for name in ("seconds", "score", "key", "box"):
        good &= bool(np.isfinite(table[name]).all())
    if not good or (table["enhanced"] > 1).any():
        raise StateError("The snapshot holds rows that no bank could have written.")
