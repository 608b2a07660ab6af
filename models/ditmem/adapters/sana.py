"""The memory in diffusers' SANA-Video transformer, whose attention is linear: the rows are added to
its sums, so that a step costs the same however many references there are tokens of."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.ditmem.adapters.base import Handle, Joined, Layers, heads, need_diffusers, turned
from retain.models.ditmem.inject import Pair
from retain.pipeline.errors import UsageError


def install(transformer: Any, layers: Layers = "all", *, memory_in_uncond: bool = True) -> Handle:
    """Let ``layers`` of a SanaVideoTransformer3DModel read memory rows [B, M, D] of its width
    (2240 as published).

    Its pipeline makes both passes of guidance as one batch, the one without prompt first, and
    names no ``cache_context``: a call with twice as many samples as rows is taken for one. See
    ``Handle``. Raises MissingExtra without diffusers, UsageError for another model or where a
    memory cannot go.
    """
    need_diffusers("Memory in a SANA-Video transformer")
    from diffusers import SanaVideoTransformer3DModel
    from diffusers.models.transformers.transformer_sana_video import SanaLinearAttnProcessor3_0

    if not isinstance(transformer, SanaVideoTransformer3DModel):
        raise UsageError(
            "Memory for SANA-Video goes into a SanaVideoTransformer3DModel, not a "
            f"{type(transformer).__name__}.",
            hint="Of a pipeline, give its .transformer; install before torch.compile.",
        )
    blocks = transformer.transformer_blocks
    return Handle(
        transformer, blocks, SanaLinearAttnProcessor3_0, SanaJoined, layers, memory_in_uncond
    )


class SanaJoined(Joined):
    """Linear self-attention of a SANA-Video block with memory rows."""

    time_argument: ClassVar[tuple[str, int]] = ("timestep", 4)

    @staticmethod
    def row(temb: Tensor, noised: Tensor) -> Tensor:
        one = temb[torch.arange(len(temb), device=temb.device), noised]
        return one.reshape(len(temb), 6, -1)

    @staticmethod
    def moment(transformer: Any, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        if transformer.config.guidance_embeds:
            raise UsageError("This transformer's time depends on its guidance: no static_time.")
        time, _ = transformer.time_embed(timestep, batch_size=1, hidden_dtype=dtype)
        return time.reshape(1, 6, -1)  # type: ignore[no-any-return]

    def made(self, attn: Any, tokens: Tensor, time: Tensor, dtype: torch.dtype) -> Pair:
        shift, scale = (self.block.scale_shift_table[None] + time)[:, :2].unsqueeze(2).unbind(1)
        rows = (self.block.norm1(tokens.to(dtype)) * (1 + scale) + shift).to(dtype)
        key = functional.relu(_normed(attn.norm_k, attn.to_k(rows)))
        return heads(key, attn.heads), heads(attn.to_v(rows), attn.heads)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Pair | None = None,
    ) -> Tensor:
        pair = self.pair(attn, hidden_states, attention_mask)
        if pair is None:
            out: Tensor = self.plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb
            )
            return out
        assert rotary_emb is not None  # plain cannot do without either
        n = attn.heads
        query = heads(functional.relu(_normed(attn.norm_q, attn.to_q(hidden_states))), n)
        key = heads(functional.relu(_normed(attn.norm_k, attn.to_k(hidden_states))), n)
        value = heads(attn.to_v(hidden_states), n).float()
        kept, told = pair[0].float(), pair[1].float()
        weight = self.mask(hidden_states, 0)
        if weight is not None:  # a logit's bias, as a weight of what is summed; 0: absent
            kept = kept * weight.float().exp().permute(0, 3, 1, 2)
        state = torch.einsum("bnhv,bnhk->bhvk", value, turned(key, rotary_emb).float())
        state = state + torch.einsum("bmhv,bmhk->bhvk", told, kept)
        total = key.sum(1) + kept.sum(1).to(key.dtype)
        seen = torch.einsum("bhvk,bnhk->bnhv", state, turned(query, rotary_emb).float())
        norm = 1 / (torch.einsum("bhk,bnhk->bnh", total, query) + 1e-15)
        mixed = (seen * norm[..., None]).flatten(2).to(hidden_states.dtype)
        return attn.to_out[1](attn.to_out[0](mixed))  # type: ignore[no-any-return]


def _normed(norm: nn.Module | None, rows: Tensor) -> Tensor:
    return rows if norm is None else norm(rows)
