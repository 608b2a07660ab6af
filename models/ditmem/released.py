"""The encoder as released (DiT-Mem, December 2025), its defects included: for parity, and for who
has its weights. Names of parameters are those of its checkpoints.

Known defects (docs/imagine.md): time collapses to one step that is then copied; the filters' ramps
run over stored indices and carry noise; in evaluation the batch norms use running statistics which,
like the filter tables, a published checkpoint does not hold.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.ditmem.config import Band
from retain.models.ditmem.filters import FLOOR, gain, radius

_LOWEST, _HIGHEST, _LOWEST_NOISY = 0.2, 1.2, 0.05
_NOISE = 0.05


def table(band: Band, channels: int, frames: int, height: int, width: int) -> Tensor:
    """Gains [C, T, H, W // 2 + 1] before the noise: the band's curve with a slope and an offset
    that grow with the channel, cut to 0.2..1.2."""
    slope = torch.linspace(0.7, 1.3, channels)[:, None, None, None]
    offset = torch.linspace(-0.05, 0.05, channels)[:, None, None, None]
    curve = gain(band, radius(frames, height, width, signed=False))
    if band == "low":
        curve = curve + FLOOR  # as released it goes from 1.2 to 0.4
    return (slope * curve + offset).clamp(_LOWEST, _HIGHEST)


def noisy(gains: Tensor, noise: Tensor) -> Tensor:
    """Complex weights [..., 2] from real ``gains`` and standard normal ``noise`` [..., 2]."""
    real = (gains + _NOISE * noise[..., 0]).clamp(_LOWEST_NOISY, _HIGHEST)
    return torch.stack([real, _NOISE * noise[..., 1]], -1)


def hermitian(weight: Tensor, width: int) -> Tensor:
    """Complex ``weight`` [C, T, H, W // 2 + 1] with the columns that mirror themselves made
    so: what an inverse real transform does with the rest depends on its library."""
    own = [0, width // 2] if width % 2 == 0 else [0]
    column = weight[..., own]
    mirrored = column.roll((-1, -1), (1, 2)).flip(1, 2).conj()
    # roll and flip: index k goes to -k modulo the length, in time and in height.
    out = weight.clone()
    out[..., own] = (column + mirrored) / 2
    return out


class Filter(nn.Module):
    """Filter, residual, batch norm. The table belongs to one size and is drawn anew for another."""

    def __init__(self, band: Band, channels: int, mode: Literal["release", "paper"]) -> None:
        super().__init__()
        self.band: Band = band
        self.mode = mode
        self.norm = nn.BatchNorm3d(channels)
        self.complex_weight: Tensor
        self.register_buffer("complex_weight", torch.zeros(channels, 1, 1, 1, 2))

    def draw(self, frames: int, height: int, width: int, noise: Tensor | None = None) -> None:
        """A table for clips of this size. ``noise`` [C, T, H, W // 2 + 1, 2], if any."""
        gains = table(self.band, len(self.complex_weight), frames, height, width)
        drawn = torch.zeros(*gains.shape, 2)
        if self.mode == "release":
            drawn = torch.randn(drawn.shape) if noise is None else noise
        self.complex_weight = noisy(gains, drawn).to(self.complex_weight)

    def summed(self, x: Tensor) -> Tensor:
        """``x`` [N, C, T, H, W], filtered, plus itself."""
        if self.complex_weight.shape[1:4] != (*x.shape[2:4], x.shape[4] // 2 + 1):
            self.draw(*x.shape[2:])
        weight = hermitian(torch.view_as_complex(self.complex_weight.contiguous()), x.shape[4])
        spectrum = torch.fft.rfftn(x, dim=(2, 3, 4), norm="ortho") * weight
        found: Tensor = torch.fft.irfftn(spectrum, s=x.shape[2:], dim=(2, 3, 4), norm="ortho")
        return found + x

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.summed(x))
        return out


class Stage(nn.Module):
    """Convolution, filter, ReLU, pooling. ``bn`` is in the checkpoints and used by nothing."""

    def __init__(
        self, band: Band, inner: int, outer: int, kernel: int, stride: int, mode: str
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inner, outer, kernel, stride, kernel // 2)
        self.fft_filter = Filter(band, outer, mode)  # type: ignore[arg-type]
        self.bn = nn.BatchNorm3d(outer)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(functional.relu(self.fft_filter(self.conv(x))), 2)


class ReleasedBranch(nn.Module):
    """One band. ``grid``: time, height and width after the second stage, as built for."""

    def __init__(
        self,
        band: Band,
        channels: int,
        wide: tuple[int, int],
        grid: tuple[int, int, int],
        tokens: int,
        dim: int,
        mode: str,
    ) -> None:
        super().__init__()
        self.grid, self.tokens = grid, tokens
        self.conv_block1 = Stage(band, channels, wide[0], 7, 4, mode)
        self.conv_block2 = Stage(band, wide[0], wide[1], 3, 1, mode)
        self.feature_proj = nn.Linear(wide[1] * grid[1] * grid[2], dim)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, T, H, W] to [N, tokens, D]."""
        x = self.conv_block2(self.conv_block1(x))
        if tuple(x.shape[2:]) != self.grid:
            x = functional.adaptive_avg_pool3d(x, self.grid)
        steps = x.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [N, C * H * W, time]
        out: Tensor = self.feature_proj(
            functional.adaptive_avg_pool1d(steps, self.tokens).transpose(1, 2)
        )
        return out


class ReleasedAttention(nn.Module):
    """Over the tokens of all clips: QK-norm over the full width, no residual, no positions."""

    def __init__(self, dim: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, 1e-6), nn.RMSNorm(dim, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        def split(rows: Tensor) -> Tensor:
            return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)

        q, k = split(self.norm_q(self.q(x))), split(self.norm_k(self.k(x)))
        seen = functional.scaled_dot_product_attention(q, k, split(self.v(x)))
        out: Tensor = self.o(seen.transpose(1, 2).flatten(2))
        return out


class ReleasedEncoder(nn.Module):
    """Latents of reference clips to tokens; 78.8 million parameters at its sizes.

    latent   channels, frames, height, width of what it is built for
    mode     ``paper``: filters without their noise
    """

    def __init__(
        self,
        latent: tuple[int, int, int, int] = (16, 21, 60, 104),
        wide: tuple[int, int] = (512, 768),
        dim: int = 1536,
        tokens: int = 100,
        mode: Literal["release", "paper"] = "release",
    ) -> None:
        super().__init__()
        grid = tuple(_after(size) for size in latent[1:])
        made = (latent[0], wide, grid, tokens, dim, mode)
        self.high_pass_module = ReleasedBranch("high", *made)  # type: ignore[arg-type]
        self.low_pass_module = ReleasedBranch("low", *made)  # type: ignore[arg-type]
        self.self_attention = ReleasedAttention(dim)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, K, C, T, H, W] to [B, 2 K tokens, D]: high of all clips, then low."""
        b = len(clips)
        out = []
        for branch in (self.high_pass_module, self.low_pass_module):
            own = branch(clips.flatten(0, 1))
            out.append(self.self_attention(own.reshape(b, -1, own.shape[-1])))
        return torch.cat(out, 1)


def _after(size: int) -> int:
    """Of an axis after convolution, pooling, convolution, pooling."""
    return ((size - 1) // 4 + 1) // 2 // 2
