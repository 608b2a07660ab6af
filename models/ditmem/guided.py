"""A backbone and what guides it: reference clips, or what such guidance is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.encoder import MemoryEncoder
from retain.models.ditmem.inject import CrossAttention, MemoryRows, RowPairs, add_lora
from retain.pipeline.errors import UsageError, nearest

Source = Literal["references", "oracle", "none"]
Reader = Literal["own", "rows", "cross"]
Training = Literal["frozen", "lora", "joint"]
ORACLE_TOKENS = 8


@dataclass(frozen=True, slots=True)
class GuideConfig:
    """How a backbone is guided; travels with the weights. Raises UsageError for what cannot be."""

    dit: DitConfig = field(default_factory=DitConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    training: Training = "lora"
    """``frozen``: the backbone stays as it is (published); ``lora``: thin companions learn beside
    it; ``joint``: all of it learns."""
    source: Source = "references"
    """``oracle``: the world's true parameters; ``none``: nothing, for what training alone buys."""
    reader: Reader = "own"
    """``rows``: keys and values by the backbone's weights at the step's time (published); ``own``:
    by weights of their own, whatever the time; ``cross``: attention of its own beside the
    backbone's."""
    rank: int = 16
    gate: float = -1.0
    """Where the learned bias of the rows' logits starts; e^gate is their weight."""
    params: int = 0
    """Of a world, which the oracle is told and the auxiliary head has to find; 0: neither."""

    def __post_init__(self) -> None:
        for name, known in (("training", Training), ("source", Source), ("reader", Reader)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise UsageError(
                    f"Unknown {name} {value!r}.", hint=nearest(str(value), get_args(known))
                )
        if self.rank < 1 or self.params < 0:
            raise UsageError(f"LoRA needs a rank of 1 or more, got {self.rank}.")
        if self.source == "oracle" and not self.params:
            raise UsageError("An oracle needs to know how many parameters a world has.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> GuideConfig:
        encoder = EncoderConfig.from_json(values["encoder"])
        return GuideConfig(**{**values, "dit": DitConfig(**values["dit"]), "encoder": encoder})


class Guided(nn.Module):
    """``dit`` with a memory. The same ``dit`` without: ``rows`` not given."""

    def __init__(self, config: GuideConfig, dit: VideoDit | None = None) -> None:
        """``dit``: a trained backbone, which is changed (LoRA) but not copied."""
        super().__init__()
        self.config = c = config
        self.dit = dit or VideoDit(c.dit)
        self.dit.requires_grad_(c.training == "joint")
        if c.reader == "own" and c.source != "none":
            self.pairs = RowPairs(self.dit)
        if c.training == "lora":
            add_lora(self.dit, c.rank)
        self.bias = nn.Parameter(torch.full((c.dit.depth,), c.gate))
        if c.source == "references":
            self.encoder = MemoryEncoder(c.encoder, c.dit)
            if c.params:
                self.law = nn.Linear(self.encoder.tokens_per_clip * c.dit.dim, c.params)
        elif c.source == "oracle":
            self.oracle = nn.Sequential(
                nn.Linear(c.params, 128), nn.SiLU(), nn.Linear(128, ORACLE_TOKENS * c.dit.dim)
            )
        if c.reader == "cross":
            self.adapter = CrossAttention(c.dit.dim, c.dit.depth, c.dit.heads)

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def rows(self, references: Tensor, valid: Tensor | None = None) -> MemoryRows:
        """``references`` [B, K, T, C, H, W] in 0..1, ``valid`` bool [B, K]."""
        return self._rows(*self.encoder(references, valid))

    def told(self, params: Tensor) -> MemoryRows:
        """Rows of the oracle, from standardised true parameters [B, P]."""
        tokens = self.oracle(params).reshape(len(params), ORACLE_TOKENS, -1)
        return self._rows(tokens, None)

    def _rows(self, tokens: Tensor, valid: Tensor | None) -> MemoryRows:
        if self.config.reader == "cross":
            return MemoryRows(tokens, valid, adapter=self.adapter)
        kept = self.pairs(tokens) if self.config.reader == "own" else None
        return MemoryRows(tokens, valid, self.bias, kept=kept)
