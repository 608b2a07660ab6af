"""Sizes and switches of GDKVM (arXiv 2512.10252)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from retain.pipeline.errors import UsageError, nearest

Mode = Literal["mass", "paper_raw", "released_2025"]
Rule = Literal["full", "none", "sum", "replace", "beta", "alpha"]
Size = Literal["mini", "base"]
Layer = Literal["gated_delta", "frame_delta", "block_linear", "kalman", "cached", "mixture"]


@dataclass(frozen=True, slots=True)
class GdkvmConfig:
    """What a network is; travels with its weights. Raises UsageError when it cannot be built."""

    size: Size = "mini"
    grid: int = 112
    """Side of the square input, pixels; a multiple of ``stride``."""
    objects: tuple[str, ...] = ("cavity", "myocardium", "atrium")
    key_dim: int = 32
    value_dim: int = 48
    pixel_dim: int = 48
    sensory_dim: int = 16
    heads: int = 4
    mode: Mode = "mass"
    """How the memory is written; see docs/gated_delta.md. ``released_2025`` as in December 2025."""
    rule: Rule = "full"
    """Ablation of the write. ``sum`` is LKVA alone (linear attention over the past), ``full`` LKVA
    with the gated delta rule; ``none`` reads zero, so only mask and sensory map carry the past."""
    layer: Layer = "gated_delta"
    """What the values are written into (ours); see docs/layers.md. ``mode`` and ``rule`` are those
    of ``gated_delta``; of rules the others know ``none``."""
    carry: bool = True
    """False: sensory map and mask do not last, so that the memory alone carries the past; for
    ablations."""
    kpff: bool = True
    """Key-pixel feature fusion; without it the key is the bare projection."""
    placed_keys: bool = True
    """Keys carry a learned code of their place (ours): a picture that shows nothing still finds
    what the memory knows of each place. False: keys are of the picture alone, as published."""
    pixfeat_lag: int = 0
    """1 gives the value encoder the pixel feature of the frame before, as the public code does."""
    aux_last_only: bool = False
    """True computes the auxiliary loss for the last sample alone, as the public code does."""
    summary_decay: float = 0.98
    """Base size: what object summaries keep from one frame to the next. 1 sums for ever, as the
    public code does."""

    def __post_init__(self) -> None:
        if self.size not in ("mini", "base"):
            raise UsageError(f"The size of GDKVM is 'mini' or 'base', not {self.size!r}.")
        if not self.objects or len(set(self.objects)) != len(self.objects):
            raise UsageError(f"GDKVM needs objects with different names, got {self.objects}.")
        if self.grid % self.stride or self.grid < 4 * self.stride:
            raise UsageError(
                f"The grid of GDKVM {self.size} must be a multiple of {self.stride} and at least "
                f"{4 * self.stride}, got {self.grid}."
            )
        for name in ("key_dim", "value_dim", "pixel_dim", "sensory_dim", "heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.value_dim % self.heads:
            raise UsageError(f"value_dim {self.value_dim} does not split in {self.heads} heads.")
        if self.size == "base" and (self.value_dim % 8 or self.value_dim < 16):
            raise UsageError(f"value_dim of GDKVM base must be 16, 24, ..., got {self.value_dim}.")
        if self.mode not in get_args(Mode):
            raise UsageError(
                f"Unknown mode {self.mode!r}.", hint=nearest(self.mode, get_args(Mode))
            )
        if self.rule not in get_args(Rule):
            raise UsageError(
                f"Unknown rule {self.rule!r}.", hint=nearest(self.rule, get_args(Rule))
            )
        if self.layer not in get_args(Layer):
            raise UsageError(
                f"Unknown layer {self.layer!r}.", hint=nearest(self.layer, get_args(Layer))
            )
        known = self.mode == "mass" and self.rule in ("full", "none")
        if self.layer != "gated_delta" and not known:
            raise UsageError(
                f"Mode {self.mode!r} and rule {self.rule!r} mean nothing to layer {self.layer!r}.",
                hint="Leave both at their defaults, or choose layer gated_delta.",
            )
        if self.pixfeat_lag not in (0, 1):
            raise UsageError(f"pixfeat_lag is 0 or 1, got {self.pixfeat_lag}.")
        if not 0 <= self.summary_decay <= 1:
            raise UsageError(f"summary_decay is from 0 to 1, got {self.summary_decay}.")

    @property
    def stride(self) -> int:
        """Of the memory's cells, in grid pixels."""
        return 8 if self.size == "mini" else 16

    @property
    def cells(self) -> int:
        """Side of the memory's map."""
        return self.grid // self.stride

    @staticmethod
    def base(grid: int = 256, **changes: Any) -> GdkvmConfig:
        """The paper's sizes: 35 M parameters."""
        values: dict[str, Any] = {
            "size": "base",
            "grid": grid,
            "objects": ("cavity",),
            "key_dim": 64,
            "value_dim": 256,
            "pixel_dim": 256,
            "sensory_dim": 256,
            "heads": 8,
        }
        return GdkvmConfig(**(values | changes))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "objects": list(self.objects)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> GdkvmConfig:
        """Raises UsageError for keys it does not know."""
        known = set(GdkvmConfig.__dataclass_fields__)
        if unknown := sorted(set(values) - known):
            raise UsageError(f"Unknown GDKVM settings: {', '.join(unknown)}.")
        named: dict[str, Any] = {k: tuple(v) if k == "objects" else v for k, v in values.items()}
        return GdkvmConfig(**named)
