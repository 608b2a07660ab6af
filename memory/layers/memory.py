"""Any layer as a Memory: any number of streams, one row of a batch each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.memory.base import Json, State
from retain.memory.carry import array, checked, counted, refuse_to_shrink
from retain.memory.layers.base import Frame, Layer, LayerState

_ROUNDING = 1 + 1e-5


@dataclass(frozen=True, slots=True)
class FrameWrite:
    """One frame of one stream: ``k`` [T, H, Dk], ``v`` [T, H, Dv], ``beta`` [T, H], ``g`` [H]; see
    ``layers.base.Frame``."""

    k: Tensor
    v: Tensor
    beta: Tensor
    g: Tensor


class LayerMemory:
    """Holds a state of ``layer`` for every stream, float32.

    ``gate`` scales ``g`` and ``beta`` of a frame: at 0.5 it fades the past and writes half as
    strongly, at 0 the state stays as it is, bit for bit. ``writer`` names what makes the frames,
    say by a digest of its weights: a state means nothing to another, which a hub then refuses.
    Frames that are not written are counted by ``skip``: the next one's ``g`` is that of all.
    """

    def __init__(self, layer: Layer, device: str = "cpu", writer: str = "") -> None:
        self._layer, self._device, self._writer = layer, device, writer
        self._streams: dict[str, tuple[LayerState, int, int]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "layer", **self._layer.config, "writer": self._writer}

    @property
    def min_bytes(self) -> int:
        return self._layer.nbytes

    def empty(self, stream: str) -> bool:
        """Whether nothing was written yet."""
        return self._stream(stream)[1] == 0

    def state(self, stream: str) -> LayerState:
        """The layer's state, batch of one; not to be changed in place."""
        return self._stream(stream)[0]

    def skip(self, stream: str, frames: int) -> None:
        """``frames`` more passed without a write."""
        state, written, skipped = self._stream(stream)
        self._streams[stream] = state, written, skipped + frames

    def skipped(self, stream: str) -> int:
        """Frames that were skipped since the last write."""
        return self._stream(stream)[2]

    def write(self, stream: str, item: FrameWrite, gate: float = 1.0) -> None:
        """Raises ValueError, and leaves the state alone, for tensors of other shapes and for frames
        that would make the state grow without end or stop being numbers."""
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        given = (item.k, item.v, item.beta, item.g)
        k, v, beta, g = (x.detach().to(self._device, torch.float32) for x in given)
        self._check(k, v, beta, g)
        if gate == 0:
            return
        state, count, _ = self._stream(stream)
        frame = Frame(k[None], v[None], gate * beta[None], gate * g[None])
        with torch.no_grad():
            self._streams[stream] = self._layer.write(state, frame), count + 1, 0

    def read(self, stream: str, query: Tensor) -> Tensor:
        """[Q, H, Dv] of queries [Q, H, Dk]."""
        return self._layer.read(self._stream(stream)[0], query[None].to(self._device))[0]

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Nothing here can shrink. Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("memory layer", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        state, count, _ = self._stream(stream)
        norm = max(float(torch.linalg.vector_norm(x)) for x in state.values())
        return {"frames": count, "norm": norm, "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        state, count, skipped = self._stream(stream)
        header = {"frames": count, "skipped": skipped}
        return State({name: array(x[0]) for name, x in state.items()}, header)

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for tensors of other shapes or with values that are not finite."""
        count, skipped = counted(state, "memory layer")
        held = checked(state, self._layer.shapes, self._device)
        self._streams[stream] = {name: x[None] for name, x in held.items()}, count, skipped

    def _check(self, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> None:
        c, tokens = self._layer, len(k)
        lead = (tokens, c.heads)
        named: dict[str, tuple[Tensor, tuple[int, ...]]] = {
            "k": (k, (*lead, c.key_dim)),
            "v": (v, (*lead, c.value_dim)),
            "beta": (beta, lead),
            "g": (g, lead[1:]),
        }
        for name, (x, shape) in named.items():
            if x.shape != shape:
                raise ValueError(f"{name} is {list(x.shape)}, not {list(shape)}")
        sound = (g <= 0).all() & (beta >= 0).all() & (beta <= 1).all() & v.isfinite().all()
        if not tokens or not sound or not (k.norm(dim=-1) <= _ROUNDING).all():
            raise ValueError(
                "a frame needs tokens, keys of length 1 at most, beta in [0, 1], g <= 0 and finite "
                "values; make keys unit length and beta a sigmoid"
            )

    def _stream(self, stream: str) -> tuple[LayerState, int, int]:
        if stream not in self._streams:
            self._streams[stream] = self._layer.init(1, device=self._device), 0, 0
        return self._streams[stream]
