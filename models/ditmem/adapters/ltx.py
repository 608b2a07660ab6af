"""The memory in diffusers' LTX-Video transformer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retain.models.ditmem.adapters.base import Handle, Joined, Layers, heads, need_diffusers
from retain.models.ditmem.inject import Pair
from retain.pipeline.errors import UsageError


def install(transformer: Any, layers: Layers = "all", *, memory_in_uncond: bool = True) -> Handle:
    """Let ``layers`` of an LTXVideoTransformer3DModel read memory rows [B, M, D] of its width
    (2048 as published). LTX-2 is another model and not supported.

    See ``Handle``. Raises MissingExtra without diffusers, UsageError for another model or where a
    memory cannot go.
    """
    need_diffusers("Memory in an LTX transformer")
    from diffusers import LTXVideoTransformer3DModel
    from diffusers.models.transformers.transformer_ltx import LTXVideoAttnProcessor

    if not isinstance(transformer, LTXVideoTransformer3DModel):
        raise UsageError(
            "Memory for LTX goes into an LTXVideoTransformer3DModel, not a "
            f"{type(transformer).__name__}.",
            hint="Of a pipeline, give its .transformer; install before torch.compile.",
        )
    blocks = transformer.transformer_blocks
    return Handle(transformer, blocks, LTXVideoAttnProcessor, LtxJoined, layers, memory_in_uncond)


class LtxJoined(Joined):
    """Self-attention of an LTX block with memory rows."""

    @staticmethod
    def row(temb: Tensor, noised: Tensor) -> Tensor:
        one = temb[torch.arange(len(temb), device=temb.device), noised]
        return one.reshape(len(temb), 6, -1)

    @staticmethod
    def moment(transformer: nn.Module, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        embed: Any = transformer.time_embed
        time, _ = embed(timestep, batch_size=1, hidden_dtype=dtype)
        return time.reshape(1, 6, -1)  # type: ignore[no-any-return]

    def made(self, attn: Any, tokens: Tensor, time: Tensor, dtype: torch.dtype) -> Pair:
        shift, scale = (self.block.scale_shift_table[None] + time)[:, :2].unsqueeze(2).unbind(1)
        rows = self.block.norm1(tokens.to(dtype)) * (1 + scale) + shift
        # LTX's own processor never reads fused projections.
        key, value = attn.norm_k(attn.to_k(rows)), attn.to_v(rows)
        n = attn.heads
        return heads(key, n), heads(value, n)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Pair | None = None,
    ) -> Tensor:
        pair = self.pair(attn, hidden_states, attention_mask)
        if pair is None:
            out: Tensor = self.plain(
                attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
            )
            return out
        from diffusers.models.attention_dispatch import dispatch_attention_fn
        from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

        query = attn.norm_q(attn.to_q(hidden_states))
        key = attn.norm_k(attn.to_k(hidden_states))
        if image_rotary_emb is not None:  # over the full width, so before the heads are split
            query = apply_rotary_emb(query, image_rotary_emb)
            key = apply_rotary_emb(key, image_rotary_emb)
        value = heads(attn.to_v(hidden_states), attn.heads)
        seen = dispatch_attention_fn(
            heads(query, attn.heads),
            torch.cat([heads(key, attn.heads), pair[0]], 1),
            torch.cat([value, pair[1]], 1),
            attn_mask=self.mask(hidden_states, hidden_states.shape[1]),
            backend=self._attention_backend,
        )
        out = attn.to_out[0](seen.flatten(2, 3).to(query.dtype))
        return attn.to_out[1](out)  # type: ignore[no-any-return]
