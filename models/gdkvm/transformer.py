"""The object transformer of the base size: sixteen queries per object go over its map.

Half of the queries may look only where the object was just predicted, half only at the rest
(masked cross-attention). Before the first block and after each, a coarse mask is predicted; it
steers the next block, and the auxiliary losses train it. The queries start from what the frames
before left behind: weighted sums over their cells, kept with the weights' totals and fading by
``summary_decay`` per frame, so that they stay bounded and favour the recent. (In the public code
they sum for ever, which is ``summary_decay`` 1: only sum over total is used.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.models.gdkvm.blocks import AttendedResBlock, aggregate, apart, places

QUERIES, BLOCKS, HEADS, WIDTH = 16, 3, 8, 2048
"""Queries per object, half for the foreground; ``WIDTH`` of the feed-forward layers."""

EMPTY = 1e-4
"""Added to a summary's total weight before dividing by it, in cells."""


class ObjectTransformer(nn.Module):
    """See the module's text. ``dim``: channels of the map, a multiple of 8."""

    def __init__(self, dim: int, summary_decay: float) -> None:
        super().__init__()
        self.dim, self.summary_decay = dim, summary_decay
        self.query = nn.Parameter(torch.randn(QUERIES, dim))
        self.query_place = nn.Parameter(torch.randn(QUERIES, dim))
        self.summary_query = nn.Linear(dim, dim)
        self.summary_place = nn.Linear(dim, dim)
        self.pixel = nn.Conv2d(dim, dim, 1)
        self.pixel_place = nn.Conv2d(dim, dim, 1)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(BLOCKS))
        self.masks = nn.ModuleList(nn.Conv2d(dim, 1, 1) for _ in range(BLOCKS + 1))
        self.value = nn.Linear(dim, dim)
        self.feature = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.weight = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, QUERIES))

    @property
    def summary_shape(self) -> tuple[int, int]:
        """Of an object's summaries: per query a sum [dim] and the total of its weights."""
        return QUERIES, self.dim + 1

    def forward(self, x: Tensor, summaries: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """``x`` [B, N, dim, h, w], ``summaries`` [B, N, 16, dim + 1] -> the map refined, and the
        coarse logits [B, N + 1, h, w] before block 1 and after each block."""
        batch, number, _, height, width = x.shape
        before = summaries[..., :-1] / (summaries[..., -1:] + EMPTY)
        before = before.flatten(0, 1)
        query = self.query + self.summary_query(before)
        query_place = self.query_place + self.summary_place(before)
        flat = x.flatten(0, 1)
        pixel = self.pixel(flat)
        pixel_place = _rows(self.pixel_place(flat)) + places(height, width, self.dim, x.device)

        def predict(level: int) -> Tensor:
            logit = self.masks[level](F.relu(pixel))
            return aggregate(logit.view(batch, number, height, width))

        aux = [predict(0)]
        for level, block in enumerate(self.blocks, 1):
            seen = allowed(aux[-1])
            query, pixel = block(query, query_place, pixel, pixel_place, seen)
            aux.append(predict(level))
        return apart(pixel, batch, number), tuple(aux)

    def summarise(self, values: Tensor, mask: Tensor, summaries: Tensor) -> Tensor:
        """``summaries`` faded, plus this frame's: ``values`` [B, N, dim, h, w] and the mask
        [B, N, H, W] just predicted for it -> float32 [B, N, 16, dim + 1]."""
        height, width = values.shape[-2:]
        inside = F.interpolate(mask, size=(height, width), mode="area").flatten(2).unsqueeze(3)
        half = QUERIES // 2
        share = torch.cat(
            [inside.expand(-1, -1, -1, half), (1 - inside).expand(-1, -1, -1, half)], 3
        )
        cells = self.value(values.flatten(3).mT) + places(height, width, self.dim, values.device)
        weight = torch.sigmoid(self.weight(cells).float()) * share.float()
        feature = self.feature(cells).float()
        # Sums over cells, kept for long: not in the half precision of a surrounding autocast.
        with torch.autocast(values.device.type, enabled=False):
            sums = weight.mT @ feature
        totals = weight.sum(dim=2).unsqueeze(3)
        return self.summary_decay * summaries + torch.cat([sums, totals], dim=3)


class Block(nn.Module):
    """Queries look at the map where they may, then at each other; the map looks at the queries."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.look, self.talk, self.answer = Attention(dim), Attention(dim), Attention(dim)
        self.think = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, WIDTH), nn.ReLU(), nn.Linear(WIDTH, dim)
        )
        self.mix = AttendedResBlock(dim, dim)

    def forward(
        self, query: Tensor, query_place: Tensor, pixel: Tensor, pixel_place: Tensor, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries [BN, 16, C], map [BN, C, h, w], places like them, ``seen`` [BN, 16, h w] bool."""
        rows = _rows(pixel)
        query = self.look(query, query_place, rows, pixel_place, seen)
        query = self.talk(query, query_place)
        query = query + self.think(query)
        rows = self.answer(rows, pixel_place, query, query_place)
        return query, self.mix(rows.mT.reshape(pixel.shape))


class Attention(nn.Module):
    """x plus what it finds in ``other`` (itself without one). Places are added to queries and keys,
    not to values.

    forward: x [B, L, C], other [B, M, C], ``seen`` [B, L, M] bool -> [B, L, C].
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.value, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        x: Tensor,
        place: Tensor,
        other: Tensor | None = None,
        other_place: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        own = self.norm(x)
        other = own if other is None else other
        other_place = place if other_place is None else other_place
        query = _heads(self.query(own + place))
        key, value = _heads(self.key(other + other_place)), _heads(self.value(other))
        mask = None if seen is None else seen.unsqueeze(1)
        found = F.scaled_dot_product_attention(query, key, value, mask)
        out: Tensor = x + self.out(found.transpose(1, 2).flatten(2))
        return out


def allowed(logits: Tensor) -> Tensor:
    """Which cells each query may look at, bool [B N, 16, h w], from coarse logits [B, N + 1, h, w]:
    the first half of the queries where its object wins, the others elsewhere. Queries with no cell
    left may look everywhere: a softmax over nothing is not a number."""
    own = (logits[:, 1:] >= logits.max(dim=1, keepdim=True).values).flatten(0, 1).flatten(1)
    half = QUERIES // 2
    seen = torch.cat([own[:, None].expand(-1, half, -1), ~own[:, None].expand(-1, half, -1)], dim=1)
    return seen | ~seen.any(dim=2, keepdim=True)


def _rows(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h w, C]."""
    return x.flatten(2).mT


def _heads(x: Tensor) -> Tensor:
    """[B, L, C] -> [B, heads, L, C / heads]."""
    return x.view(*x.shape[:2], HEADS, -1).transpose(1, 2)
