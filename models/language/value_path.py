"""Dense features of a CLIP picture tower, without training: the value path of MaskCLIP.

The last block's attention gathers the picture into the class token and blurs the patches. Left out,
each patch keeps what it says itself, in the space that words are in (MaskCLIP, arXiv 2112.01071;
in this form CLIP-DINOiser, arXiv 2312.12359).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.pipeline.errors import UsageError

LOCAL = -3
"""Block after whose attention patches are compared (CLIP-DINOiser)."""


class Patches(NamedTuple):
    """Of a batch of pictures, on the grid of patches; float32."""

    values: Tensor
    """[B, E, h, w] in the space of words; any length."""
    local: Tensor | None
    """[B, D, h, w]: the second norm's output in block ``LOCAL``; None where there are fewer."""


class ValuePath(nn.Module):
    """``visual``: OpenCLIP's ``VisionTransformer``. Raises UsageError for towers of another kind,
    whose patches have no such path."""

    visual: Any

    def __init__(self, visual: Any, name: str = "this model") -> None:
        super().__init__()
        _check(visual, name)
        self.visual = visual
        self.patch: int = visual.patch_size[0]
        self.width: int = visual.ln_post.normalized_shape[0]

    def forward(self, pictures: Tensor) -> Patches:
        """``pictures`` [B, 3, H, W], normalised; H and W multiples of the patch, any of them."""
        visual = self.visual
        height, width = pictures.shape[2] // self.patch, pictures.shape[3] // self.patch
        tokens = self._tokens(pictures, height, width)
        blocks = visual.transformer.resblocks
        local = None
        for place, block in enumerate(blocks[:-1]):
            if place == len(blocks) + LOCAL:
                tokens = tokens + block.ls_1(block.attention(q_x=block.ln_1(tokens)))
                local = block.ln_2(tokens)
                tokens = tokens + block.ls_2(block.mlp(local))
            else:
                tokens = block(tokens)
        tokens = visual.ln_post(last_block(blocks[-1], tokens))
        return Patches(
            _grid(tokens[:, 1:] @ visual.proj, height, width),
            None if local is None else _grid(local[:, 1:], height, width),
        )

    def _tokens(self, pictures: Tensor, height: int, width: int) -> Tensor:
        """The class token and the patches with their places: [B, 1 + h w, D]."""
        visual = self.visual
        patches = visual.conv1(pictures).flatten(2).mT
        first = visual.class_embedding.expand(len(pictures), 1, -1)
        places = positions(visual.positional_embedding, visual.grid_size, (height, width))
        out: Tensor = visual.ln_pre(torch.cat([first, patches], 1) + places)
        return out


def last_block(block: Any, tokens: Tensor) -> Tensor:
    """The block on ``tokens`` [B, N, D] as if every token attended to itself alone."""
    attention = block.attn
    size = attention.embed_dim
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias[2 * size :]
    value = F.linear(block.ln_1(tokens), attention.in_proj_weight[2 * size :], bias)
    tokens = tokens + block.ls_1(attention.out_proj(value))
    out: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return out


def positions(table: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Position embeddings [1 + h w, D] of a ``grid`` of patches, for one of ``wanted`` size: as
    they are where it is the same, else interpolated bicubically; the class token keeps its own."""
    if grid == wanted:
        return table
    own = table[1:].T.reshape(1, -1, *grid)
    resized = F.interpolate(own, wanted, mode="bicubic", align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T])


def _grid(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.mT.reshape(len(tokens), -1, height, width).float()


def _check(visual: Any, name: str) -> None:
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    fits = (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.final_ln_after_pool
        and visual.patch_size[0] == visual.patch_size[1]
        and visual.transformer.batch_first
        and all(isinstance(b, ResidualAttentionBlock) for b in visual.transformer.resblocks)
    )
    if not fits:
        raise UsageError(
            f"The picture tower of {name!r} is no plain vision transformer, so its patches cannot "
            "be named.",
            hint="Use a ViT of OpenCLIP, for example openclip:ViT-B-16/laion2b_s34b_b88k.",
        )
