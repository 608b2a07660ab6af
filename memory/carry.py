"""What a recurrent model carries from frame to frame: named tensors whose shapes never change."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from retain.memory.base import Json, State
from retain.pipeline.errors import StateError, UsageError

Shapes = Mapping[str, tuple[int, ...]]


class Carry:
    """Float32 tensors by name, zero before the first write; any number of streams.

    ``shapes`` says which there are. A write replaces those it names, the rest stays; with ``gate``
    < 1 it moves them only that share of the way. Reading gives all of them.
    """

    def __init__(self, shapes: Shapes, device: str = "cpu") -> None:
        if not shapes:
            raise UsageError("A carry memory needs at least one tensor.")
        self._shapes, self._device = dict(shapes), device
        self._streams: dict[str, dict[str, Tensor]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "carry", "shapes": {name: list(s) for name, s in self._shapes.items()}}

    @property
    def min_bytes(self) -> int:
        return fixed_bytes(self._shapes)

    def write(self, stream: str, item: Mapping[str, Tensor], gate: float = 1.0) -> None:
        """Raises ValueError for a name or shape that is not of this memory."""
        for name, value in item.items():
            if self._shapes.get(name) != tuple(value.shape):
                raise ValueError(f"carry has no {name!r} of shape {list(value.shape)}")
        held = self._stream(stream)
        for name, value in item.items():
            held[name] = moved(held[name], value.detach(), gate)

    def read(self, stream: str, query: None = None) -> Mapping[str, Tensor]:
        """All tensors, float32; not to be changed in place."""
        return dict(self._stream(stream))

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Nothing here can shrink. Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("carry memory", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"tensors": len(self._shapes), "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        return State({name: array(value) for name, value in self._stream(stream).items()})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for tensors of other shapes or with values that are not finite."""
        self._streams[stream] = checked(state, self._shapes, self._device)

    def _stream(self, stream: str) -> dict[str, Tensor]:
        if stream not in self._streams:
            self._streams[stream] = {
                name: torch.zeros(shape, device=self._device)
                for name, shape in self._shapes.items()
            }
        return self._streams[stream]


def moved(old: Tensor, new: Tensor, gate: float) -> Tensor:
    """``old`` taken the share ``gate`` of the way to ``new``; a tensor of its own, float32."""
    if not 0 <= gate <= 1:
        raise ValueError(f"a gate is in [0, 1], got {gate}")
    new = new.to(old.device, torch.float32)
    return new.clone() if gate == 1 else torch.lerp(old, new, gate)


def array(value: Tensor) -> np.ndarray:
    """A copy for disk, float32."""
    return value.detach().cpu().numpy().astype(np.float32, copy=True)


def fixed_bytes(shapes: Shapes) -> int:
    return 4 * sum(math.prod(shape) for shape in shapes.values())


def refuse_to_shrink(what: str, nbytes: int, least: int) -> None:
    if nbytes < least:
        raise UsageError(
            f"The {what} cannot live in {nbytes} bytes; it has a fixed size of {least}.",
            hint="Raise the budget.",
        )


def checked(state: State, shapes: Shapes, device: str) -> dict[str, Tensor]:
    """The tensors of ``state`` on ``device``. Raises StateError unless they are exactly those."""
    if set(state.tensors) != set(shapes):
        raise StateError(
            f"The snapshot holds the arrays {sorted(state.tensors)}, not {sorted(shapes)}."
        )
    out = {}
    for name, values in state.tensors.items():
        if values.dtype != np.float32 or values.shape != shapes[name]:
            raise StateError(
                f"The snapshot's array {name!r} is {values.dtype} {list(values.shape)}, "
                f"not float32 {list(shapes[name])}."
            )
        if not np.isfinite(values).all():
            raise StateError(f"The snapshot's array {name!r} holds values that are not finite.")
        out[name] = torch.from_numpy(values.copy()).to(device)
    return out


def counted(state: State, what: str) -> tuple[int, int]:
    """Frames written, and skipped since the last write, of a snapshot's header. Raises StateError
    for anything else."""
    frames, skipped = state.header.get("frames"), state.header.get("skipped")
    if type(frames) is not int or type(skipped) is not int or frames < 0 or skipped < 0:
        raise StateError(f"The snapshot's header does not belong to a {what}.")
    return frames, skipped
