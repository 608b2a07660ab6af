"""From features to poses and Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.onlinex.blocks import DecoderBlock, Mlp, places, turns
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.types import Maps, rigid, rotation

_SPREAD = (0.6, 0.6, 0.3)
"""Scales before training, in blocks: neighbours overlap, so that a first picture has no holes."""
_WIDEST = 4.0
"""Blocks a Gaussian may be wide."""
_OPAQUE = 2.2
"""Logit of the opacity before training: 0.9."""
_TINT = 0.25
"""How far a colour may leave the picture's."""
_SMALL = 1e-2
"""Deviation of the last weights of maps before training: outputs begin where they are told to."""
_STILL = 1e-3
"""The same of poses: errors of a chain add up."""
_SURE = 6.0
"""Largest logarithm of a confidence."""


class PoseHead(nn.Module):
    """A feature to a rigid motion, the identity before training."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = config
        self.norm = nn.LayerNorm(c.decoder_dim)
        self.mlp = Mlp(c.decoder_dim, c.decoder_dim, 7)
        _quiet(self.mlp.fc2, _STILL)

    def forward(self, feature: Tensor) -> Tensor:
        """[B, D] to [B, 4, 4]: translation in metres and a quaternion, made unit."""
        out = self.mlp(self.norm(feature))
        return motion(out[:, :3], out[:, 3:])


def motion(shift: Tensor, turn: Tensor) -> Tensor:
    """[B, 3] metres and [B, 4], added to the quaternion that turns nothing, to [B, 4, 4]."""
    still = turn.new_tensor([1.0, 0.0, 0.0, 0.0])
    return rigid(rotation(functional.normalize(turn + still, dim=-1)), shift)


@dataclass(frozen=True, slots=True)
class Raw:
    """What a map head says, before activation."""

    place: Tensor
    """[B, n, 3]: a point, or the logarithm of a depth in the first number."""
    rest: Tensor
    """[B, n, 1 + 3 + 4 + 1 + 3 + language]: confidence, scales, turn, opacity, tint, code."""
    features: Tensor
    """[B, n, head_dim]"""

    def maps(self, centres: Tensor, size: Tensor, colours: Tensor) -> Maps:
        """Activated at ``centres`` [B, n, 3] for blocks ``size`` [B, n] metres wide, of mean
        colour ``colours`` [B, n, 3]; turns as they are said."""
        parts = torch.split(self.rest, [1, 3, 4, 1, 3, self.rest.shape[-1] - 12], -1)
        sure, scale, turn, opacity, tint, code = parts
        first = scale.new_tensor([math.log(math.expm1(s)) for s in _SPREAD])
        spread = functional.softplus(scale + first).clamp(max=_WIDEST)
        still = turn.new_tensor([1.0, 0.0, 0.0, 0.0])
        return Maps(
            centres=centres,
            confidence=1 + sure[..., 0].clamp(max=_SURE).exp(),
            scales=spread * size[..., None],
            quats=functional.normalize(turn + still, dim=-1),
            opacities=(opacity[..., 0] + _OPAQUE).sigmoid(),
            colours=colours + _TINT * tint.tanh(),
            codes=functional.normalize(code, dim=-1),
        )


class MapHead(nn.Module):
    """Tokens to a map of Gaussians: light convolutions over unfolded tokens and the picture itself,
    whose edges a token of 8 x 8 pixels has lost. One that ``corrects`` another's says nothing
    before training."""

    def __init__(self, config: OnlineXConfig, width: int, *, corrects: bool = False) -> None:
        super().__init__()
        c = self.config = config
        fold = c.patch // c.head_stride
        self.norm = nn.LayerNorm(width)
        self.unfold = nn.Linear(width, c.head_dim * fold**2)
        self.look = nn.Conv2d(3 * c.head_stride**2, c.head_dim, 3, 1, 1)
        self.mix = nn.Conv2d(c.head_dim, c.head_dim, 3, 1, 1)
        self.again = nn.Conv2d(c.head_dim, c.head_dim, 3, 1, 1)
        self.out = nn.Linear(c.head_dim, 15 + c.language)
        _quiet(self.out, _SMALL)
        if not corrects:
            with torch.no_grad():  # a code of length zero has no direction to be trained in
                self.out.bias[15:] = torch.randn(c.language)

    def forward(self, tokens: Tensor, image: Tensor) -> Raw:
        """``tokens`` [B, N, width] and the picture [B, 3, S, S]."""
        c = self.config
        fold = c.patch // c.head_stride
        x = self.unfold(self.norm(tokens)).transpose(1, 2).unflatten(2, (c.grid, c.grid))
        x = functional.pixel_shuffle(x, fold)
        x = functional.gelu(x + self.look(functional.pixel_unshuffle(image - 0.5, c.head_stride)))
        x = x + functional.gelu(self.mix(x))
        x = x + functional.gelu(self.again(x))
        features = x.flatten(2).transpose(1, 2)
        said = self.out(features)
        return Raw(said[..., :3], said[..., 3:], features)


class Readout(nn.Module):
    """Dense relative features look at the global pose feature, and become global ones.

    That feature is given as all words of the director after the exchange: attention over one token
    alone would add the same vector everywhere.
    """

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = config
        self.blocks = nn.ModuleList(
            DecoderBlock(c.decoder_dim, c.decoder_heads, c.mlp) for _ in range(c.readout_depth)
        )
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = turns(places(c.grid, c.grid), c.decoder_dim // c.decoder_heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, dense: Tensor, words: Tensor) -> Tensor:
        """[B, N, D] and [B, W, D]: [B, N, D]."""
        for block in self.blocks:
            dense, _ = block(dense, words, (self.cos, self.sin), None)
        return dense


def point(raw: Tensor) -> Tensor:
    """The exp activation of DUSt3R: free numbers [..., 3] to points, near ones finely."""
    length = raw.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    away: Tensor = raw / length * length.clamp(max=4.6).expm1()
    return away


def distance(raw: Tensor, far: float) -> Tensor:
    """Free numbers to depths between ``far`` / 100 and ``far``, their logarithm about linear in the
    middle, which is a tenth of ``far``."""
    reach = math.log(10)
    return far / 10 * (reach * (raw / reach).tanh()).exp()


def _quiet(layer: nn.Linear, deviation: float) -> None:
    nn.init.normal_(layer.weight, std=deviation)
    nn.init.zeros_(layer.bias)
