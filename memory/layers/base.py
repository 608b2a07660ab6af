"""What every memory layer is: a rule over named tensors, written and read one frame at a time.

    state = layer.init(batch)
    state = layer.write(state, frame, valid)      T tokens of one frame, for each row of the batch
    out   = layer.read(state, query)              [B, Q, H, Dk] -> [B, Q, H, Dv]; writes nothing

A state is a dict of tensors [B, H', ...], H' being the heads or a multiple of them, zero before the
first frame, whose shapes never change. It is float32, or float64 for oracles; everything is
computed in its type. Rows of a batch know nothing of each other. All rules are differentiable.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

from retain.memory.base import Json
from retain.memory.carry import Shapes, fixed_bytes
from retain.pipeline.errors import UsageError

LayerState = dict[str, Tensor]


class Frame(NamedTuple):
    """One frame's T tokens. A clip has the frames between batch and tokens: [B, F, T, ...]."""

    k: Tensor
    """[B, T, H, Dk], of length 1 at most."""
    v: Tensor
    """[B, T, H, Dv]."""
    beta: Tensor
    """[B, T, H] in [0, 1], how strongly a token is written; 0 leaves it out."""
    g: Tensor
    """[B, H] <= 0, log of what the frame keeps of the past."""
    plain: Tensor | None = None
    """[B, T, H, Dk]: keys before a rotary position code, for normalisers; ``k`` if None."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Frame:
        """All tensors through ``function``."""
        plain = None if self.plain is None else function(self.plain)
        return Frame(
            function(self.k), function(self.v), function(self.beta), function(self.g), plain
        )


@dataclass(frozen=True)
class Layer(ABC):
    """Sizes; subclasses have the rules. Raises UsageError when a size is not positive."""

    heads: int
    key_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        positive(self, "heads", "key_dim", "value_dim")

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """Of the state's tensors, without the batch."""

    @abstractmethod
    def update(self, state: LayerState, frame: Frame) -> LayerState:
        """The state after a frame that is valid in every row."""

    @abstractmethod
    def read(self, state: LayerState, q: Tensor, plain: Tensor | None = None) -> Tensor:
        """[B, Q, H, Dv] of queries ``q`` [B, Q, H, Dk]; ``plain``: before their rotation."""

    @property
    def nbytes(self) -> int:
        """Of one row's state in float32."""
        return fixed_bytes(self.shapes)

    def init(
        self, batch: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> LayerState:
        return {
            name: torch.zeros(batch, *shape, dtype=dtype, device=device)
            for name, shape in self.shapes.items()
        }

    def write(self, state: LayerState, frame: Frame, valid: Tensor | None = None) -> LayerState:
        """``valid`` [B] bool: rows that have no frame stay bit for bit. All have one if None."""
        given = next(iter(state.values()))
        with torch.autocast(given.device.type, enabled=False):
            new = self.update(state, frame.map(lambda x: x.to(given)))
        return new if valid is None else chosen(valid, new, state)

    def reset(self, state: LayerState, rows: Tensor) -> LayerState:
        """``rows`` [B] bool forget everything."""
        return chosen(rows, {name: torch.zeros_like(x) for name, x in state.items()}, state)

    def scan(
        self, state: LayerState, clip: Frame, q: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """Write F frames and read after each: (out [B, F, Q, H, Dv], last state).

        ``clip``: see Frame; ``q`` [B, F, Q, H, Dk]; ``valid`` [B, F]. This is the definition, frame
        by frame; layers whose frames need not wait for each other override it. Only without
        rotary codes: ``clip.plain`` is not read here.
        """
        out = []
        for f in range(q.shape[1]):
            there = None if valid is None else valid[:, f]
            state = self.write(state, _at(clip, f), there)
            out.append(self.read(state, q[:, f]))
        return torch.stack(out, 1), state

    @property
    def config(self) -> dict[str, Json]:
        """Name and options, what a snapshot must agree with."""
        named = {f.name: _json(getattr(self, f.name)) for f in fields(self)}
        return {"layer": type(self).__name__, **named}


def _at(clip: Frame, f: int) -> Frame:
    return clip.map(lambda x: x[:, f])


def positive(layer: Layer, *names: str) -> None:
    for name in names:
        if getattr(layer, name) < 1:
            raise UsageError(f"{type(layer).__name__} needs {name} of at least 1.")


def chosen(rows: Tensor, new: LayerState, old: LayerState) -> LayerState:
    """Per row of the batch, ``new`` where ``rows`` [B], or [B, H'], is true."""
    return {name: torch.where(spread(rows, x), new[name], x) for name, x in old.items()}


def spread(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with axes of 1 at its end, as many as ``like`` has."""
    return x.reshape(*x.shape, *(1,) * (like.dim() - x.dim()))


def phi(x: Tensor) -> Tensor:
    """SANA's feature map, ReLU after a root-mean-square norm, brought to length 1: the D^-1/2 of
    SANA-WM's key scale is in it. Non-negative, so that normalisers cannot change sign."""
    return normalize(relu(x), dim=-1)


def apart(x: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Leading axes that were folded into one, out of it again."""
    return x.reshape(*lead, *x.shape[1:])


def per_head(x: Tensor) -> Tensor:
    """[B, T, H, D] -> [B, H, T, D], and [B, T, H] -> [B, H, T, 1]."""
    return x.transpose(1, 2) if x.dim() == 4 else x.transpose(1, 2)[..., None]


def _json(value: object) -> Json:
    if isinstance(value, Layer):
        return value.config
    if isinstance(value, Tensor):
        raw = value.detach().cpu().float().numpy()
        return hashlib.sha256(raw.tobytes()).hexdigest()[:16]
    if isinstance(value, Mapping):
        raise TypeError("options of layers are numbers, names, tensors and layers")
    return value  # type: ignore[return-value]
