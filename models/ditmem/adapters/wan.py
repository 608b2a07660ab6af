"""The memory in diffusers' Wan transformers (Wan2.1, Wan2.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from retain.models.ditmem.adapters.base import Handle, Joined, Layers, heads, need_diffusers, turned
from retain.models.ditmem.inject import Pair
from retain.pipeline.errors import UsageError


def install(transformer: Any, layers: Layers = "all", *, memory_in_uncond: bool = True) -> Handle:
    """Let ``layers`` of a WanTransformer3DModel read memory rows.

    Wan2.2-A14B has two transformers: install on both and set both memories. Rows are [B, M, D] of
    the transformer's width (1.3B: 1536, TI2V-5B: 3072, A14B: 5120). See ``Handle``. Raises
    MissingExtra without diffusers, UsageError for another model or where a memory cannot go.
    """
    need_diffusers("Memory in a Wan transformer")
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    if not isinstance(transformer, WanTransformer3DModel):
        raise UsageError(
            "Memory for Wan goes into a WanTransformer3DModel, not a "
            f"{type(transformer).__name__}.",
            hint="Of a pipeline, give its .transformer; install before torch.compile.",
        )
    return Handle(
        transformer, transformer.blocks, WanAttnProcessor, WanJoined, layers, memory_in_uncond
    )


class WanJoined(Joined):
    """Self-attention of a Wan block with memory rows."""

    @staticmethod
    def row(temb: Tensor, noised: Tensor) -> Tensor:
        if temb.ndim == 3:
            return temb
        return temb[torch.arange(len(temb), device=temb.device), noised]

    @staticmethod
    def moment(transformer: nn.Module, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        own: Any = transformer.condition_embedder
        weights = next(iter(own.time_embedder.parameters())).dtype
        wave = own.timesteps_proj(timestep)
        if weights != torch.int8:  # quantised layers take what they are given
            wave = wave.to(weights)
        time: Tensor = own.time_proj(own.act_fn(own.time_embedder(wave).to(dtype)))
        return time.reshape(1, 6, -1)

    def made(self, attn: Any, tokens: Tensor, time: Tensor, dtype: torch.dtype) -> Pair:
        shift, scale = (self.block.scale_shift_table + time.float())[:, :2].unsqueeze(2).unbind(1)
        rows = (self.block.norm1(tokens.float()) * (1 + scale) + shift).to(dtype)
        if attn.fused_projections:
            # The queries are not needed; a slice of the weight would pass by a LoRA or quantiser.
            _, key, value = attn.to_qkv(rows).chunk(3, -1)
        else:
            key, value = attn.to_k(rows), attn.to_v(rows)
        n = attn.heads
        return heads(attn.norm_k(key), n), heads(value, n)

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
        from diffusers.models.attention_dispatch import dispatch_attention_fn

        if attn.fused_projections:
            query, key, value = attn.to_qkv(hidden_states).chunk(3, -1)
        else:
            query, key, value = (p(hidden_states) for p in (attn.to_q, attn.to_k, attn.to_v))
        n = attn.heads
        query, key = heads(attn.norm_q(query), n), heads(attn.norm_k(key), n)
        value = heads(value, n)
        if rotary_emb is not None:
            query, key = turned(query, rotary_emb), turned(key, rotary_emb)
        seen = dispatch_attention_fn(
            query,
            torch.cat([key, pair[0]], 1),
            torch.cat([value, pair[1]], 1),
            attn_mask=self.mask(hidden_states, hidden_states.shape[1]),
            backend=self._attention_backend,
        )
        out = attn.to_out[0](seen.flatten(2, 3).type_as(query))
        return attn.to_out[1](out)  # type: ignore[no-any-return]
