"""Gated-delta memory (GDKVM, arXiv 2512.10252): one matrix per object, however long the stream.

A frame writes all its cells at once: what the memory would answer to these keys is erased, the new
values are written, and the rest fades, by gates that the state itself decides. The arithmetic is in
``kernels/gated_delta/reference.py``, why it is stable in docs/gated_delta.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from retain.kernels.gated_delta import op
from retain.kernels.gated_delta.reference import Gates, Mode, Rule, start
from retain.memory.base import Json, State
from retain.memory.carry import array, checked, counted, fixed_bytes, moved, refuse_to_shrink
from retain.pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class GatedDeltaConfig:
    """Sizes and arithmetic. Raises UsageError when they cannot work."""

    objects: int
    key_dim: int
    value_dim: int
    heads: int
    mode: Mode = "mass"
    rule: Rule = "full"
    tile_alpha: bool = False
    max_norm: float = 512.0
    """No object's matrix is longer (Frobenius) than this after a write: it is scaled back. The rule
    alone promises no bound where the gates hardly decay; see docs/gated_delta.md."""

    def __post_init__(self) -> None:
        for name in ("objects", "key_dim", "value_dim", "heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"Gated-delta option {name} must be at least 1.")
        if not self.max_norm > 0:
            raise UsageError(f"Gated-delta option max_norm must be > 0, got {self.max_norm}.")
        if self.value_dim % self.heads:
            raise UsageError(
                f"{self.value_dim} value channels do not split into {self.heads} heads."
            )


@dataclass(frozen=True, slots=True)
class DeltaWrite:
    """One frame: ``key`` [Ck, P], columns summing to 1; ``value`` [N, Cv, P]; ``dt`` frames since
    the last write, 1 when none was left out."""

    key: Tensor
    value: Tensor
    dt: float = 1.0


class GatedDelta:
    """See the module's text. ``gates``: the learned projections, float32.

    The first write of a stream starts its matrix, without gates. ``gate`` < 1 moves the state only
    that share of the way to what the write would have made it; 0 writes nothing. Frames that are
    not written are counted by ``skip``: the ``dt`` of the next write needs ``skipped``.
    """

    def __init__(self, config: GatedDeltaConfig, gates: Gates, device: str = "cpu") -> None:
        c = config
        for tensor, shape in zip(
            gates, ((c.heads, c.value_dim), (c.heads, c.value_dim), (c.heads,), (c.heads,)),
            strict=True,
        ):  # fmt: skip
            if tuple(tensor.shape) != shape:
                raise UsageError(f"A gate parameter is {list(tensor.shape)}, not {list(shape)}.")
        self._config, self._device = config, device
        self._gates = Gates(*(tensor.detach().to(device) for tensor in gates))
        # A state means nothing to other gates: the digest makes a hub refuse it.
        flat = b"".join(tensor.detach().cpu().float().numpy().tobytes() for tensor in gates)
        self._digest = hashlib.sha256(flat).hexdigest()[:16]
        self._shapes = {"state": (c.objects, c.key_dim, c.value_dim)}
        self._streams: dict[str, tuple[Tensor, int, int]] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "gated-delta", **asdict(self._config), "gates": self._digest}

    @property
    def min_bytes(self) -> int:
        return fixed_bytes(self._shapes)

    def empty(self, stream: str) -> bool:
        """Whether nothing was written yet."""
        return self._stream(stream)[1] == 0

    def state(self, stream: str) -> Tensor:
        """The matrices, float32 [N, Ck, Cv]; not to be changed in place."""
        return self._stream(stream)[0]

    def skip(self, stream: str, frames: int) -> None:
        """``frames`` more passed without a write."""
        state, written, skipped = self._stream(stream)
        self._streams[stream] = state, written, skipped + frames

    def skipped(self, stream: str) -> int:
        """Frames that were skipped since the last write."""
        return self._stream(stream)[2]

    def write(self, stream: str, item: DeltaWrite, gate: float = 1.0) -> None:
        if gate == 0:
            return
        state, frames, _ = self._stream(stream)
        key, value, c = item.key[None].float(), item.value[None].float(), self._config
        if not frames:
            new = start(key, value, mode=c.mode)
        else:
            dt = None if item.dt == 1 else torch.tensor([item.dt], device=state.device)
            new = op.write(
                state[None], key, value, self._gates,
                mode=c.mode, rule=c.rule, dt=dt, tile_alpha=c.tile_alpha,
            )  # fmt: skip
        kept = _capped(new[0].detach(), c.max_norm)
        self._streams[stream] = moved(state, kept, gate), frames + 1, 0

    def read(self, stream: str, query: Tensor) -> Tensor:
        """What cells with the keys ``query`` [Ck, P] remember: [N, Cv, P]. Zero under ``none``."""
        state = self.state(stream)
        if self._config.rule == "none":
            c = self._config
            return torch.zeros(c.objects, c.value_dim, query.shape[1], device=state.device)
        return op.read(state[None], query[None].float())[0]

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Nothing here can shrink. Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("gated-delta memory", nbytes, self.min_bytes)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        state, frames, _ = self._stream(stream)
        norm = float(torch.linalg.vector_norm(state))
        return {"frames": frames, "norm": norm, "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        state, frames, skipped = self._stream(stream)
        return State({"state": array(state)}, {"frames": frames, "skipped": skipped})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for matrices of another shape or with values that are not finite."""
        frames, skipped = counted(state, "gated-delta memory")
        held = checked(state, self._shapes, self._device)
        self._streams[stream] = held["state"], frames, skipped

    def _stream(self, stream: str) -> tuple[Tensor, int, int]:
        if stream not in self._streams:
            self._streams[stream] = torch.zeros(self._shapes["state"], device=self._device), 0, 0
        return self._streams[stream]


def _capped(state: Tensor, limit: float) -> Tensor:
    """[N, Ck, Cv] with no object's matrix longer than ``limit``."""
    norm = torch.linalg.vector_norm(state, dim=(1, 2), keepdim=True)
    kept: Tensor = state * (limit / norm).clamp(max=1.0)
    return kept
