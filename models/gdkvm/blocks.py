"""Small pieces GDKVM is put together from. Maps are [B, C, H, W]; objects are folded into B."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation: the same for a batch of one, live, as for a batch in training."""
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ResBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; the first may halve the size."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm1 = norm(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm2 = norm(outer)
        same = stride == 1 and inner == outer
        self.short = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class ChannelAttention(nn.Module):
    """Efficient channel attention: a short convolution over the channels' means gates them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = int(abs(math.log2(channels) + 1) / 2)
        width += 1 - width % 2
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(2, 3)).unsqueeze(1)
        return x * torch.sigmoid(self.conv(mean)).transpose(1, 2).unsqueeze(-1)


class AttendedResBlock(nn.Module):
    """Pre-activation residual block gated by channel attention."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, 1, 1)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1)
        self.attention = ChannelAttention(outer)
        self.short = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        out: Tensor = self.attention(y) + self.short(x)
        return out


class Fuse(nn.Module):
    """Joins a picture's map, shared by its objects, with a map per object.

    forward: picture [B, P, h, w], objects [B, N, V, h, w] -> [B, N, outer, h, w].
    """

    def __init__(self, picture: int, objects: int, outer: int, depth: int = 2) -> None:
        super().__init__()
        self.picture = nn.Conv2d(picture, outer, 1)
        self.objects = nn.Conv2d(objects, outer, 1)
        self.blocks = nn.Sequential(*(AttendedResBlock(outer, outer) for _ in range(depth)))

    def forward(self, picture: Tensor, objects: Tensor) -> Tensor:
        batch, number = objects.shape[:2]
        own = apart(self.objects(objects.flatten(0, 1)), batch, number)
        joined = own + self.picture(picture).unsqueeze(1)
        mixed: Tensor = self.blocks(joined.flatten(0, 1))
        return apart(mixed, batch, number)


class UpBlock(nn.Module):
    """Doubles the size and adds the encoder's map of that size, shared by the objects."""

    def __init__(self, inner: int, skip: int, outer: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, inner, 1)
        self.conv1 = nn.Conv2d(inner, outer, 3, 1, 1)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1)
        self.short = nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x [B, N, inner, h, w], skip [B, skip, 2h, 2w] -> [B, N, outer, 2h, 2w]."""
        batch, number = x.shape[:2]
        up = F.interpolate(x.flatten(0, 1), scale_factor=2.0, mode="bilinear", align_corners=False)
        up = (apart(up, batch, number) + self.skip(skip).unsqueeze(1)).flatten(0, 1)
        y = F.gelu(self.conv2(F.gelu(self.conv1(up)))) + self.short(up)
        return apart(y, batch, number)


class SensoryUpdate(nn.Module):
    """Gated recurrent update of the sensory map: h' = f h (1 - u) + u n."""

    def __init__(self, inner: int, sensory: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(inner + sensory, 3 * sensory, 3, 1, 1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, x: Tensor, sensory: Tensor) -> Tensor:
        """x [B, N, inner, h, w], sensory [B, N, S, h, w] -> [B, N, S, h, w]."""
        batch, number = sensory.shape[:2]
        values = self.transform(torch.cat([x, sensory], dim=2).flatten(0, 1))
        forget, update, new = apart(values, batch, number).float().chunk(3, dim=2)
        update = torch.sigmoid(update)
        return torch.sigmoid(forget) * sensory * (1 - update) + update * torch.tanh(new)


class Gather(nn.Module):
    """Maps that double in size, each through a 1x1 convolution, averaged down to the first's and
    summed: what the decoder saw, told to the sensory map.

    forward: maps k [B, N, channels k, 2^k h, 2^k w] -> [B, N, outer, h, w].
    """

    def __init__(self, channels: Sequence[int], outer: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(inner, outer, 1) for inner in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        batch, number, _, *size = maps[0].shape
        small = (
            layer(F.interpolate(x.flatten(0, 1), size=size, mode="area"))
            for layer, x in zip(self.layers, maps, strict=True)
        )
        return apart(torch.stack(list(small)).sum(dim=0), batch, number)


class Kpff(nn.Module):
    """Key-pixel feature fusion (paper, section on KPFF): a gate per cell between key and pixel.

        A = key + mean(key);  G = sigmoid(gate(A));  out = G A + (1 - G) pixel'

    forward: key [B, Ck, h, w], pixel [B, P, h, w] -> [B, Ck, h, w], before the softmax.
    """

    def __init__(self, pixel_dim: int, key_dim: int, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or pixel_dim
        self.layer1 = nn.Conv2d(pixel_dim, hidden, 1)
        self.layer2 = nn.Conv2d(hidden, key_dim, 3, 1, 1)
        self.gate = nn.Conv2d(key_dim, 1, 1)

    def forward(self, key: Tensor, pixel: Tensor) -> Tensor:
        summed = key + key.mean(dim=(2, 3), keepdim=True)
        gate = torch.sigmoid(self.gate(summed))
        out: Tensor = gate * summed + (1 - gate) * self.layer2(F.relu(self.layer1(pixel)))
        return out


def aggregate(logit: Tensor) -> Tensor:
    """Soft aggregation: object logits [B, N, h, w] -> [B, N + 1, h, w] with the background first.

    Background is where no object is: p0 = prod(1 - p). For one object this doubles the logit.
    """
    p = torch.sigmoid(logit.float())
    p = torch.cat([torch.prod(1 - p, dim=1, keepdim=True), p], dim=1).clamp(1e-7, 1 - 1e-7)
    return torch.log(p / (1 - p))


def apart(x: Tensor, batch: int, number: int) -> Tensor:
    """Objects folded into the batch, out of it again: [B N, ...] -> [B, N, ...]."""
    return x.view(batch, number, *x.shape[1:])


def places(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Where a cell lies, float32 [h w, dim]: sines and cosines of y and of x, at ``dim / 4``
    wavelengths from an eighth of the map to sixteen times the map."""
    rates = 16 * math.pi * 128 ** (-torch.arange(dim // 4, device=device) / (dim // 4 - 1))

    def waves(count: int) -> Tensor:
        at = (torch.arange(count, device=device) + 0.5) / count
        angle = at[:, None] * rates
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    down = waves(height)[:, None].expand(-1, width, -1)
    across = waves(width)[None].expand(height, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1)
