"""Band filters over clips: a fixed gain per frequency, which favours fast or slow change.

Frequencies are those of ``rfftn`` over time, height and width, each axis scaled to 0..1. As
published the scale runs over the stored index, so that the upper half of time and height, which
holds negative frequencies, counts as ever faster (``signed=False``); ours goes by their size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retain.models.ditmem.config import Band

FLOOR = 0.2
"""Gain where a band is weakest; it is 1 where it is strongest."""


def radius(frames: int, height: int, width: int, *, signed: bool = True) -> Tensor:
    """How fast each stored frequency is: 0 (constant) to 1, [T, H, W // 2 + 1]."""
    sizes = (frames, height, width)
    if signed:
        axes = [torch.fft.fftfreq(n).abs() * 2 for n in sizes[:2]]
        axes.append(torch.fft.rfftfreq(width) * 2)
        axes = [a / a.max() if float(a.max()) > 0 else a for a in axes]
    else:
        axes = [torch.linspace(0, 1, n) for n in (*sizes[:2], width // 2 + 1)]
    t, h, w = axes
    square = t[:, None, None] ** 2 + h[None, :, None] ** 2 + w[None, None, :] ** 2
    out: Tensor = (square / 3).sqrt()
    return out


def gain(band: Band, r: Tensor) -> Tensor:
    """Of ``band`` at ``r``; ``low`` is 1 where ``high`` is weakest and weakest where it is 1."""
    rising = FLOOR + (1 - FLOOR) * r.sqrt()
    return rising if band == "high" else 1 + FLOOR - rising


def filtered(x: Tensor, gains: Tensor) -> Tensor:
    """``x`` [..., T, H, W] with ``gains`` [T, H, W // 2 + 1] applied, real, in float32."""
    spectrum = torch.fft.rfftn(x.float(), dim=(-3, -2, -1), norm="ortho")
    wave = spectrum * gains
    out: Tensor = torch.fft.irfftn(wave, s=x.shape[-3:], dim=(-3, -2, -1), norm="ortho")
    return out.to(x.dtype)
