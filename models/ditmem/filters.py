"""Band filters over clips: a fixed gain per frequency, which favours fast or slow change.

Frequencies are those of ``rfftn`` over time, height and width, each axis scaled to 0..1. As
published the scale runs over the stored index, so that the upper half of time and height, which
holds negative frequencies, counts as ever faster (``signed=False``); ours goes by their size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retain.models.ditmem.config import Band

FLOOR = 0.2
"""Gain where a band is weakest; it is 1 where it is strongest."""
_SMALL = 512
"""Points of a clip up to which a matrix is quicker."""


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


class BandFilter:
    """``filtered`` by gains that are made once for each size of clip.

    Small clips are multiplied by the filter as a matrix, which is what it is: transforms of a few
    points are mostly overhead.
    """

    def __init__(self, gains: Callable[[int, int, int, int], Tensor]) -> None:
        """``gains`` of channels, frames, height and width: [..., T, H, W // 2 + 1]."""
        self._gains = gains
        self._made: dict[tuple[int, ...], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [N, C, T, H, W], filtered."""
        c, t, h, w = x.shape[1:]
        if (c, t, h, w) not in self._made:
            own = self._gains(c, t, h, w)
            self._made[c, t, h, w] = _matrix(own, t, h, w) if t * h * w <= _SMALL else own
        made = self._made[c, t, h, w].to(x.device)
        if t * h * w > _SMALL:
            return filtered(x, made)
        flat = x.float().flatten(2)
        out = flat @ made if made.dim() == 2 else torch.einsum("ncx,cxy->ncy", flat, made)
        return out.reshape(x.shape).to(x.dtype)


def _matrix(gains: Tensor, t: int, h: int, w: int) -> Tensor:
    """The filter of one size: [..., T * H * W, T * H * W], answers to single points."""
    n = t * h * w
    points = torch.eye(n).reshape(n, t, h, w)
    if gains.dim() > 3:
        gains = gains[..., None, :, :, :]
    return filtered(points, gains).flatten(-3)
