"""Gated delta memory for tokens that bring their own gates: a frame or a whole clip in one write.

One matrix per head, however long the stream. Unlike ``memory/gated_delta.py``, whose frames wait
for one another, all tokens of a write are taken in by a few matrix products, and how a clip is cut
into writes changes nothing but rounding. The rule is in ``kernels/gated_delta/chunked.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from retain.kernels.gated_delta.chunked import advance
from retain.memory.base import Json, State
from retain.memory.carry import array, checked, fixed_bytes, refuse_to_shrink
from retain.pipeline.errors import StateError, UsageError

_STABLE = 2 + 1e-5
"""Most that beta |k|^2 may be, with room for rounding: beyond it erasing enlarges."""


@dataclass(frozen=True, slots=True)
class DeltaScanConfig:
    """Sizes. Raises UsageError when one is not positive."""

    heads: int
    key_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        for name in ("heads", "key_dim", "value_dim"):
            if getattr(self, name) < 1:
                raise UsageError(f"Delta-scan option {name} must be at least 1.")


@dataclass(frozen=True, slots=True)
class ScanWrite:
    """T tokens, oldest first: ``k`` [T, H, Dk], best of length 1; ``v`` [T, H, Dv]; ``g`` [T, H],
    log of the decay, <= 0; ``beta`` [T, H], write strength, >= 0 with beta |k|^2 <= 2."""

    k: Tensor
    v: Tensor
    g: Tensor
    beta: Tensor


class DeltaScan:
    """See the module's text.

    ``gate`` scales ``g`` and ``beta`` of every token: at 0.5 a token fades the past and writes half
    as strongly, at 0 the state stays as it is, bit for bit, and fades neither.
    """

    def __init__(self, config: DeltaScanConfig, device: str = "cpu") -> None:
        self._config, self._device = config, device
        self._shapes = {"state": (config.heads, config.key_dim, config.value_dim)}
        self._streams: dict[str, tuple[Tensor, int]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "delta-scan", **asdict(self._config)}

    @property
    def min_bytes(self) -> int:
        return fixed_bytes(self._shapes)

    def write(self, stream: str, item: ScanWrite, gate: float = 1.0) -> None:
        """Raises ValueError, and leaves the state alone, for tensors of other shapes and for tokens
        that would make the state grow without end or stop being numbers."""
        if not 0 <= gate <= 1:
            raise ValueError(f"a gate is in [0, 1], got {gate}")
        given = (item.k, item.v, item.g, item.beta)
        tokens = [x.detach().to(self._device, torch.float32) for x in given]
        self._check(*tokens)
        if gate == 0:
            return
        state, count = self._stream(stream)
        k, v, g, beta = (x[None] for x in tokens)
        new = advance(k, v, gate * g, gate * beta, state[None])[0]
        self._streams[stream] = new, count + len(item.k)

    def read(self, stream: str, query: Tensor) -> Tensor:
        """What the present state holds for ``query`` [T, H, Dk]: S^T q, [T, H, Dv], not scaled, so
        that a token written with |k| = beta = 1 is read back by its own key as it was."""
        state, _ = self._stream(stream)
        return (query.to(state).transpose(0, 1) @ state).transpose(0, 1)

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Nothing here can shrink. Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("delta-scan memory", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        state, count = self._stream(stream)
        norm = float(torch.linalg.vector_norm(state))
        return {"tokens": count, "norm": norm, "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        state, count = self._stream(stream)
        return State({"state": array(state)}, {"tokens": count})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for matrices of another shape or with values that are not finite."""
        count = state.header.get("tokens")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise StateError("The snapshot's header does not belong to a delta-scan memory.")
        held = checked(state, self._shapes, self._device)
        self._streams[stream] = held["state"], count

    def _check(self, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> None:
        c = self._config
        lead = (len(k), c.heads)
        shapes = ((*lead, c.key_dim), (*lead, c.value_dim), lead, lead)
        for name, x, shape in zip(["k", "v", "g", "beta"], (k, v, g, beta), shapes, strict=True):
            if x.shape != shape:
                raise ValueError(f"{name} is {list(x.shape)}, not {list(shape)}")
        erase = beta * k.square().sum(-1)
        if not ((g <= 0) & (beta >= 0) & (erase <= _STABLE)).all() or not v.isfinite().all():
            raise ValueError(
                "a token needs g <= 0, beta >= 0, beta |k|^2 <= 2 and finite values; "
                "make keys unit length and beta a sigmoid"
            )

    def _stream(self, stream: str) -> tuple[Tensor, int]:
        if stream not in self._streams:
            self._streams[stream] = torch.zeros(self._shapes["state"], device=self._device), 0
        return self._streams[stream]
