"""Reference clips to memory tokens (DiT-Mem, arXiv 2511.19229), repaired.

What differs from the released encoder, which is in ``released``, and why:

- time is kept: the released one pools it to one step and copies the result;
- the bands separate: no residual around the filters, and frequencies go by their size;
- filters have no noise, norms are per clip: the same clip gives the same tokens in any company;
- attention over the references has a residual and no positions, so their order does not matter;
- clips that are not valid are masked, not zero, which a modulated norm would not take as nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.ditmem.config import Band, DitConfig, EncoderConfig
from retain.models.ditmem.filters import BandFilter, gain, radius
from retain.models.ditmem.released import table


class Branch(nn.Module):
    """One band: two filtered 3D convolutions, then a token per two frames."""

    def __init__(self, config: EncoderConfig, band: Band, clip: DitConfig) -> None:
        super().__init__()
        first, second = config.wide
        self.band: Band = band
        self.mode = config.mode
        self.conv1 = nn.Conv3d(clip.channels, first, (3, 5, 5), (1, 2, 2), (1, 2, 2))
        self.conv2 = nn.Conv3d(first, second, 3, 1, 1)
        self.norm1, self.norm2 = nn.GroupNorm(8, first), nn.GroupNorm(8, second)
        side = -(-clip.side // 2) // 2
        self.project = nn.Linear(second * side * side, clip.dim)
        self.filter = BandFilter(self._gains)

    def forward(self, clips: Tensor) -> Tensor:
        """[N, C, T, H, W] in -1..1 to [N, T // 2, D]."""
        x = functional.relu(self.norm1(self._filter(self.conv1(clips))))
        x = functional.max_pool3d(x, (1, 2, 2))
        x = functional.relu(self.norm2(self._filter(self.conv2(x))))
        x = functional.max_pool3d(x, (2, 1, 1))
        out: Tensor = self.project(x.transpose(1, 2).flatten(2))
        return out

    def _gains(self, channels: int, frames: int, height: int, width: int) -> Tensor:
        if self.mode == "paper":
            return table(self.band, channels, frames, height, width)
        return gain(self.band, radius(frames, height, width))

    def _filter(self, x: Tensor) -> Tensor:
        out = self.filter(x)
        return out + x if self.mode == "paper" else out


class MemoryEncoder(nn.Module):
    """Any number of reference clips to tokens of width D; see the module's text."""

    def __init__(self, config: EncoderConfig, clip: DitConfig) -> None:
        super().__init__()
        self.config, self.clip = config, clip
        steps, bands = clip.frames // 2, len(config.bands)
        self.branches = nn.ModuleList(Branch(config, band, clip) for band in config.bands)
        self.when = nn.Parameter(0.02 * torch.randn(steps, clip.dim))
        self.which = nn.Parameter(0.02 * torch.randn(bands, 1, clip.dim))
        self.norm = nn.LayerNorm(clip.dim)
        self.attention = nn.MultiheadAttention(clip.dim, config.heads, batch_first=True)

    @property
    def tokens_per_clip(self) -> int:
        return len(self.config.bands) * (self.clip.frames // 2)

    def branch(self, clips: Tensor) -> Tensor:
        """Tokens of each clip by itself: ``clips`` [B, K, T, C, H, W] in 0..1 to [B, K, n, D],
        band by band, in each in order of time."""
        b, k = clips.shape[:2]
        x = (clips * 2 - 1).flatten(0, 1).transpose(1, 2)
        own = [made(x) for made in self.branches]
        if self.config.mode == "paper":
            own = [tokens.mean(1, keepdim=True).expand_as(tokens) for tokens in own]
        else:
            own = [tokens + self.when for tokens in own]
        bands = [tokens + which for tokens, which in zip(own, self.which, strict=True)]
        return torch.cat(bands, 1).reshape(b, k, -1, self.clip.dim)

    def join(self, tokens: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens of clips [B, K, n, D] that have seen each other: [B, K * n, D], and which of them
        are valid. ``valid`` bool [B, K]."""
        b, k, n, _ = tokens.shape
        there = tokens.new_ones(b, k, dtype=torch.bool) if valid is None else valid
        rows, there = tokens.flatten(1, 2), there.repeat_interleave(n, 1)
        # A sample without references attends to itself, so that nothing becomes NaN; its rows are
        # not valid and nobody reads them.
        hidden = ~there & there.any(1, keepdim=True)
        normal = self.norm(rows)
        seen, _ = self.attention(normal, normal, normal, hidden, need_weights=False)
        return (seen if self.config.mode == "paper" else rows + seen), there

    def forward(self, clips: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``clips`` [B, K, T, C, H, W] in 0..1, ``valid`` bool [B, K]: tokens [B, M, D] and which
        of them are valid, bool [B, M]."""
        return self.join(self.branch(clips), valid)

    def descriptor(self, clips: Tensor) -> Tensor:
        """What a clip is found by, [B, K, E] of unit length: per band the mean over time, and of
        the first band how it varies. Other references have no part in it."""
        return describe(self.branch(clips), len(self.config.bands))


def describe(tokens: Tensor, bands: int) -> Tensor:
    """``MemoryEncoder.descriptor`` from the tokens [B, K, n, D] of ``branch``."""
    b, k, n, d = tokens.shape
    by_band = tokens.reshape(b, k, bands, n // bands, d)
    spread = by_band[:, :, 0].std(2, correction=0)
    return functional.normalize(torch.cat([by_band.mean(3).flatten(2), spread], -1), dim=-1)
