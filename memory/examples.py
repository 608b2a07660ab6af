"""Pairs of features and masks that an online learner trains on: bounded, the first ones for good.

RMSCL and its baselines (arXiv 2309.15274) differ in which of these they train on, not in how they
are kept: when the room is used up, the oldest pair that is not pinned leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from retain.memory.base import Json, State
from retain.memory.carry import Shapes
from retain.memory.table import ARRIVAL, Table
from retain.pipeline.errors import StateError, UsageError

_COLUMNS = {
    "seq": np.int64,
    ARRIVAL: np.int64,
    "seconds": np.float64,
    "weight": np.float64,
    "pinned": np.uint8,
}


@dataclass(frozen=True, slots=True)
class ExampleConfig:
    """What a pair is made of, and how many there are. Raises UsageError when it cannot work."""

    maps: Shapes
    """[C, h, w] of each feature map; kept in float16."""
    masks: tuple[int, int, int]
    """[objects, h, w]; kept in steps of 1 / 255."""
    digest: int
    """Numbers by which a frame is compared with others; kept in float32."""
    capacity: int = 24
    least: int = 4
    """Pairs below which this memory is of no use."""

    def __post_init__(self) -> None:
        if not self.maps or min(*self.masks, self.digest) < 1:
            raise UsageError("Examples need feature maps, masks and a digest.")
        if not 1 <= self.least <= self.capacity:
            raise UsageError(f"Examples need room for {self.least} pairs, not {self.capacity}.")

    @property
    def item_bytes(self) -> int:
        """Bytes of one pair with all that belongs to it."""
        columns = sum(np.dtype(dtype).itemsize for dtype in _COLUMNS.values())
        maps = 2 * sum(math.prod(shape) for shape in self.maps.values())
        return columns + maps + math.prod(self.masks) + 4 * self.digest


@dataclass(frozen=True, slots=True)
class Example:
    """One pair. Tensors of the shapes of the configuration; masks in [0, 1]."""

    seq: int
    seconds: float
    maps: Mapping[str, Tensor]
    masks: Tensor
    digest: Tensor
    weight: float = 1.0
    """How much it counts where nothing else decides: d_n."""
    pinned: bool = False
    """It never leaves, unless pinned ones alone fill the room."""


@dataclass(frozen=True, slots=True)
class Examples:
    """What is held, oldest first. Views: not to be changed, and good until the next write."""

    seq: np.ndarray
    """int64 [n]."""
    weight: np.ndarray
    """float64 [n]."""
    pinned: np.ndarray
    """bool [n]."""
    digest: Tensor
    """float32 [n, D]."""
    _maps: Mapping[str, Tensor] = field(repr=False)
    _masks: Tensor = field(repr=False)
    _places: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.seq)

    def pair(self, number: int) -> tuple[dict[str, Tensor], Tensor]:
        """Maps float32 [1, C, h, w] and masks float32 [objects, h, w] of one."""
        place = int(self._places[number])
        maps = {name: x[place : place + 1].float() for name, x in self._maps.items()}
        return maps, self._masks[place].float() / 255


class _Stream:
    """One stream's pairs; place i of each tensor belongs to row i of the table."""

    def __init__(self, config: ExampleConfig, room: int, device: str) -> None:
        self.table = Table(room, _COLUMNS)
        self.maps = {
            name: torch.zeros(room, *shape, dtype=torch.float16, device=device)
            for name, shape in config.maps.items()
        }
        self.masks = torch.zeros(room, *config.masks, dtype=torch.uint8, device=device)
        self.digest = torch.zeros(room, config.digest, device=device)

    def free(self) -> int | None:
        """The place for another pair: an empty one, or that of the oldest one not pinned."""
        if len(self.table) < self.table.capacity:
            return len(self.table)
        loose = np.flatnonzero(self.table["pinned"] == 0)
        return int(loose[self.table.order[loose].argmin()]) if len(loose) else None

    def tensors(self) -> dict[str, Tensor]:
        return {f"map.{n}": x for n, x in self.maps.items()} | {
            "mask": self.masks,
            "digest": self.digest,
        }

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + sum(
            x.numel() * x.element_size() for x in self.tensors().values()
        )


class ExampleMemory:
    """See the module's text. Any number of streams; each allocates its room once."""

    def __init__(self, config: ExampleConfig, device: str = "cpu") -> None:
        self._config, self._device = config, device
        self._streams: dict[str, _Stream] = {}
        self._room: dict[str, int] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        c = self._config
        maps: dict[str, Json] = {name: list(shape) for name, shape in c.maps.items()}
        return {
            "kind": "examples",
            "maps": maps,
            "masks": list(c.masks),
            "digest": c.digest,
            "capacity": c.capacity,
        }

    @property
    def item_bytes(self) -> int:
        return self._config.item_bytes

    @property
    def min_bytes(self) -> int:
        return self._config.least * self.item_bytes

    def room(self, stream: str) -> int:
        """How many pairs there may be."""
        return self._room.get(stream, self._config.capacity)

    def write(self, stream: str, item: Example, gate: float = 1.0) -> bool:
        """Keep a pair; ``gate`` scales its weight, and 0 keeps it out. Returns whether it is held.

        Raises ValueError for tensors of other shapes or with values that are not finite.
        """
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        self._check(item)
        if not gate:
            return False
        s = self._stream(stream)
        place = s.free()
        if place is None:
            return False
        for name, x in s.maps.items():
            x[place] = item.maps[name].to(x)
        s.masks[place] = (255 * item.masks.clamp(0, 1)).round().to(s.masks)
        s.digest[place] = item.digest.to(s.digest)
        values = {
            "seq": item.seq,
            ARRIVAL: s.table.order.max(initial=-1) + 1,
            "seconds": item.seconds,
            "weight": gate * item.weight,
            "pinned": item.pinned,
        }
        s.table.put(np.array([place]), values)
        return True

    def _check(self, item: Example) -> None:
        c = self._config
        given = {name: tuple(x.shape) for name, x in item.maps.items()}
        if given != {name: tuple(shape) for name, shape in c.maps.items()}:
            raise ValueError(f"examples hold maps {dict(c.maps)}, not {given}")
        if tuple(item.masks.shape) != c.masks or tuple(item.digest.shape) != (c.digest,):
            raise ValueError(f"masks {list(item.masks.shape)}, digest {list(item.digest.shape)}")
        for x in (*item.maps.values(), item.masks, item.digest):
            if not bool(x.isfinite().all()):
                raise ValueError(f"frame {item.seq} brings values that are not finite")

    def read(self, stream: str, query: None = None) -> Examples:
        """All pairs."""
        s = self._stream(stream)
        places, table = np.argsort(s.table.order), s.table
        return Examples(
            table["seq"][places],
            table["weight"][places],
            table["pinned"][places] > 0,
            s.digest[torch.from_numpy(places).to(self._device)],
            s.maps,
            s.masks,
            places,
        )

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self._streams[stream].nbytes if stream in self._streams else 0

    @property
    def max_bytes(self) -> int:
        return self._config.capacity * self.item_bytes

    def need(self, stream: str) -> int:
        held = len(self._streams[stream].table) if stream in self._streams else 0
        return max(self.min_bytes, min(held + 1, self._config.capacity) * self.item_bytes)

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """The newest pairs stay, and those that are pinned before others. Raises UsageError when
        ``nbytes`` is under ``min_bytes``."""
        if nbytes < self.min_bytes:
            raise UsageError(
                f"Examples cannot live in {nbytes} bytes; {self._config.least} of them need "
                f"{self.min_bytes}.",
                hint="Raise the budget, or work on smaller pictures.",
            )
        room = min(nbytes // self.item_bytes, self._config.capacity)
        old = self._streams.get(stream)
        self._room[stream] = room
        if old is None or old.table.capacity == room:
            return
        self._streams[stream] = self._resized(old, room)

    def _resized(self, old: _Stream, room: int) -> _Stream:
        n, fresh = len(old.table), _Stream(self._config, room, self._device)
        order = old.table.order
        # The newest of all is kept first, then what is pinned, then the newest of the rest.
        rank = (order == order.max(initial=-1)).astype(float) * 2 + (old.table["pinned"] > 0)
        rows = np.sort(np.lexsort((order, rank))[max(0, n - room) :])
        at = torch.from_numpy(rows).to(self._device)
        for name, x in fresh.tensors().items():
            x[: len(rows)] = old.tensors()[name][at]
        fresh.table.put(np.arange(len(rows)), {name: old.table[name][rows] for name in _COLUMNS})
        return fresh

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        held = len(self._streams[stream].table) if stream in self._streams else 0
        return {"examples": held, "room": self.room(stream), "bytes": self.nbytes(stream)}

    def snapshot(self, stream: str) -> State:
        s = self._stream(stream)
        n = len(s.table)
        saved = {name: x[:n].cpu().numpy().copy() for name, x in s.tensors().items()}
        return State({**s.table.tensors(), **saved}, {"room": s.table.capacity})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, changing nothing, for pairs of other shapes or more than there is
        room for."""
        room = state.header.get("room")
        if not isinstance(room, int) or not self._config.least <= room <= self._config.capacity:
            raise StateError(
                f"The snapshot's examples have room for {room} pairs, these for "
                f"{self._config.least} to {self._config.capacity}."
            )
        fresh = _Stream(self._config, room, self._device)
        fresh.table.load(state.tensors)
        n = len(fresh.table)
        for name, x in fresh.tensors().items():
            values = state.tensors.get(name)
            wanted = np.dtype(str(x.dtype).removeprefix("torch."))
            if values is None or values.dtype != wanted or values.shape != (n, *x.shape[1:]):
                raise StateError(f"The snapshot's examples lack {name!r} of {n} pairs.")
            if not np.isfinite(values).all():
                raise StateError(f"The snapshot's {name!r} holds values that are not finite.")
            x[:n] = torch.from_numpy(values.copy()).to(self._device)
        self._streams[stream], self._room[stream] = fresh, room

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config, self.room(stream), self._device)
        return self._streams[stream]
