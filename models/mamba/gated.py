"""The read-out that knows where, how old and how sure each remembered row is, and can say no.

Queries are cells of the frame, keys remembered rows moved on to where they should be now
(``rows.Seen.now``). With c a centre, b a box, s the side of the row's box, age in seconds
behind the youngest row:

    S_h = f_h(q) cos(q_h, k_h)  -  alpha_h(q) |c_q - c_r|^2 / s^2  -  beta_h(q) |b_q - b_r|^2
          + level_h [same level]  -  rho_h age / 40 ms  +  gamma_h log score

and one more key of no object whose S_h is learned from the query: its share says how little of the
memory fits. All of it is one dot product with the extra channels of ``_query`` and ``_keys``, so
the bank is read by ``kernels/bank_read`` and no matrix of scores exists. What is read is not
features but what the host decided then: logits of objectness and classes, boxes in input pixels.

    y = x + gate(x, R) (R + shift(x, R) - x)        for objectness, classes and box each

``gate`` and ``shift`` come from a small network that sees numbers only, none of them a feature:
scores here and there, ages, overlap, and how the frame resembles the scene remembered; and where
no head finds anything that fits, the gate is shut. With ``scale`` 0, as it is before training, or
a gate that is shut, y is x to the bit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from retain.kernels.bank_read import op, reference
from retain.memory.base import Json
from retain.models.mamba.host import Predicted
from retain.models.mamba.rows import Seen
from retain.models.mamba.scene import LEVELS, Likeness

_EXPECT = 24
"""Remembered things at most that the frame is asked for."""
_FRAME = 2 * LEVELS + 4
_TICK_S = 0.04
_SMALLEST = 12.0
"""Pixels: the least side a distance is measured by."""
_MOST_LEVELS = 5
_CLOSED = 0.1


@dataclass(frozen=True, slots=True)
class GatedConfig:
    """Sizes of the read-out."""

    channels: int
    """Of the host's rows."""
    side: int
    """Longest side of the host's input, the unit of places."""
    heads: int = 4
    dim: int = 16
    """Of a head, for features."""
    hidden: int = 48

    def as_json(self) -> dict[str, Json]:
        return {"kind": "gated", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the memory made of N queries."""

    predicted: Predicted
    gate: Tensor
    """[N] of the objectness: how much comes from memory."""
    query: Tensor
    """[N, H, D] and ..."""
    keys: Tensor
    """[M + 1, H, D] ..."""
    bias: Tensor
    """... [M + 1, H]: what ``shares`` needs; the last key is of no object."""

    def shares(self, rows: Tensor) -> Tensor:
        """[n, M]: how much of what the queries ``rows`` [n] read came from each key."""
        share = reference.weights(
            self.query[None, rows], self.keys, None, self.bias[None], scale=1.0
        )[0].mean(1)[:, :-1]
        return share / share.sum(1, keepdim=True).clamp(min=1e-9)


class Gated(nn.Module):
    """See the module's text."""

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, config: GatedConfig) -> None:
        super().__init__()
        self.config = config
        heads, dim = config.heads, config.dim
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))
        self.register_buffer("scale", torch.zeros(()))
        self.to_query = nn.Linear(config.channels, heads * dim, bias=False)
        self.to_key = nn.Linear(config.channels, heads * dim, bias=False)
        spread = torch.linspace(0, 1, heads)
        # Logarithms: heads from wide and patient to narrow and impatient.
        self.alpha = nn.Parameter(2.5 + 2.0 * spread)
        self.beta = nn.Parameter(-2.0 + 2.0 * spread.flip(0))
        self.rho = nn.Parameter(-1.5 + 2.2 * spread)
        self.gamma = nn.Parameter(torch.zeros(heads))
        self.level = nn.Parameter(torch.ones(heads))
        self.dials = nn.Linear(3 + _FRAME, 4 * heads)
        evidence = 3 + _FRAME + 6 * heads
        told = nn.Linear(config.hidden, heads + 5)
        self.judge = nn.Sequential(
            nn.Linear(evidence, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            told,
        )
        for last in (self.dials, told):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        with torch.no_grad():  # What fits is believed at first, a box and a class rather whole.
            told.bias[heads : heads + 3] = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, queries: Seen, held: Seen, like: Likeness, best: Tensor) -> Reading:
        """What ``queries`` should have been, given ``held``, M >= 1 rows as remembered. ``best``:
        the frame's highest score, a scalar tensor."""
        held = held.now()
        frame = self._frame(queries, held, like, best)
        own = torch.stack((queries.objectness / 5, queries.classes.amax(1) / 5, queries.scores), 1)
        own = torch.cat((own, frame.expand(len(own), -1)), 1)
        query = self._query(queries, own)
        keys, bias = self._keys(held)
        values = torch.cat(
            (_values(held, self._side), keys.new_zeros(1, 1, held.classes.shape[1] + 7))
        )
        read = op.read(query[None], keys, values, None, bias[None], 1.0)[0]
        mass = read[..., -1]
        known = read[..., :-1] / mass[..., None].clamp(min=1e-6)
        parts = self._evidence(queries, known, mass)
        told = self.judge(torch.cat((own, parts.flatten(1)), 1))
        heads = self.config.heads
        router = told[:, :heads] + mass.clamp(min=1e-6).log()
        mixed = (router.softmax(1)[..., None] * known).sum(1)
        fit = mass.amax(1, keepdim=True)
        gates = (1 + _CLOSED) * told[:, heads : heads + 3].sigmoid() * fit - _CLOSED
        gates = self.scale * F.relu(gates)
        shift = 4 * torch.tanh(told[:, heads + 3 :] / 4)
        wanted = (
            mixed[:, 0] + shift[:, 0],
            mixed[:, 5:-1] + shift[:, 1:],
            mixed[:, 1:5] * self._side,
        )
        now = queries.objectness, queries.classes, queries.boxes
        y = [
            torch.where(g > 0, x + g * (r - x), x)
            for g, x, r in zip(
                (gates[:, 0], gates[:, 1:2], gates[:, 2:3]), now, wanted, strict=True
            )
        ]
        return Reading(Predicted(*y), gates[:, 0], query, keys, bias)

    @property
    def _side(self) -> float:
        return float(self.config.side)

    def _frame(self, queries: Seen, held: Seen, like: Likeness, best: Tensor) -> Tensor:
        """[_FRAME]: does this frame show the scene remembered, and how well?"""
        worth = held.scores * (-held.ages / 0.3).exp()
        worth, of = worth.topk(min(_EXPECT, len(held)))
        expected = held.only(of)
        overlap = _iou(expected.boxes[:, None], queries.boxes[None])
        there = (overlap * queries.scores).amax(1)
        found = (there * worth).sum() / worth.square().sum().clamp(min=1e-4)
        covered = (overlap * expected.scores[:, None]).amax(0)
        lone = (queries.scores * (1 - covered).clamp(min=0)).amax()
        numbers = torch.stack(
            (_logit(best) / 5, _logit(worth.amax()) / 5, found.clamp(max=3), lone)
        )
        return torch.cat((like.alike, like.contrast, numbers))

    def _query(self, queries: Seen, own: Tensor) -> Tensor:
        """[N, H, D]."""
        heads = self.config.heads
        count = len(queries)
        turned = self.dials(own).view(count, 4, heads).clamp(-4, 4)
        features = self.to_query((queries.features - self.mean) / self.std).view(count, heads, -1)
        features = F.normalize(features, dim=2) * (0.7 + turned[:, 0, :, None]).exp()
        alpha = (self.alpha + turned[:, 1]).exp()
        beta = (self.beta + turned[:, 2]).exp()
        point = (queries.points / self._side)[:, None].expand(-1, heads, -1)
        centre, size = _place(queries.boxes / self._side)
        centre, size = (x[:, None].expand(-1, heads, -1) for x in (centre, size))
        code = F.one_hot(queries.levels.clamp(max=_MOST_LEVELS - 1), _MOST_LEVELS)
        code = code[:, None].to(alpha.dtype) * self.level[:, None]
        return torch.cat(
            (
                features,
                _against(alpha, point),
                _against(beta, centre),
                _against(beta / 2, size),
                code,
                (5 * turned[:, 3])[..., None],
            ),
            2,
        )

    def _keys(self, held: Seen) -> tuple[Tensor, Tensor]:
        """[M + 1, H, D] and [M + 1, H], the last for no object."""
        heads = self.config.heads
        count = len(held)
        features = self.to_key((held.features - self.mean) / self.std).view(count, heads, -1)
        features = F.normalize(features, dim=2)
        centre, size = _place(held.boxes / self._side)
        wide = held.boxes[:, 2:] - held.boxes[:, :2]
        side = wide.clamp(min=1).prod(1).sqrt().clamp(min=_SMALLEST) / self._side
        code = F.one_hot(held.levels.clamp(max=_MOST_LEVELS - 1), _MOST_LEVELS).to(centre.dtype)
        zero = centre.new_zeros(count, 1)
        places = (
            _from(held.points / self._side, side),
            _from(centre, side),
            _from(size, torch.ones_like(side)),
            code,
            zero,
        )
        same = torch.cat(places, 1)[:, None].expand(-1, heads, -1)
        keys = torch.cat((features, same), 2)
        none = keys.new_zeros(1, heads, keys.shape[2])
        none[..., -1] = 1
        age = (held.ages - held.ages.amin())[:, None] / _TICK_S
        sure = held.scores.clamp(min=1e-3).log()[:, None]
        bias = self.gamma.exp() * sure - self.rho.exp() * age
        return torch.cat((keys, none)), torch.cat((bias, bias.new_full((1, heads), -4.0)))

    def _evidence(self, queries: Seen, known: Tensor, mass: Tensor) -> Tensor:
        """[N, H, 6] of what each head read, [N, H, 1 + 4 + K + 1]."""
        classes, boxes = known[..., 5:-1], known[..., 1:5] * self._side
        top = classes.argmax(2, keepdim=True)
        here = queries.classes[:, None].expand_as(classes).gather(2, top)[..., 0]
        overlap = _iou(boxes, queries.boxes[:, None])
        return torch.stack(
            (
                mass,
                known[..., 0] / 5,
                classes.amax(2) / 5,
                here / 5,
                overlap,
                known[..., -1],
            ),
            2,
        )


def _values(held: Seen, side: float) -> Tensor:
    """[M, 1, 1 + 4 + K + 1 + 1]: objectness, box over the side, classes, age, presence."""
    boxes = held.boxes / side
    age = torch.log1p(held.ages / _TICK_S)
    parts = (
        held.objectness[:, None],
        boxes,
        held.classes,
        age[:, None],
        torch.ones_like(age)[:, None],
    )
    return torch.cat(parts, 1)[:, None]


def _against(weight: Tensor, place: Tensor) -> Tensor:
    """Query channels [N, H, 4] of -weight |place - p|^2 / s^2, for ``_from``."""
    square = place.square().sum(2, keepdim=True)
    w = weight[..., None]
    return torch.cat((2 * w * place, -w, -w * square), 2)


def _from(place: Tensor, side: Tensor) -> Tensor:
    """Key channels [M, 4]."""
    weight = side.square().reciprocal()[:, None]
    return torch.cat((place, place.square().sum(1, keepdim=True), torch.ones_like(weight)), 1) * (
        weight
    )


def _place(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [N, 2], and logarithms of the sides [N, 2]."""
    wide = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    return (boxes[:, :2] + boxes[:, 2:]) / 2, wide.log()


def _logit(probability: Tensor) -> Tensor:
    return torch.logit(probability, eps=1e-4)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """Of boxes that broadcast, [..., 4] each."""
    corner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    inner = corner.clamp(min=0).prod(-1)
    both = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return inner / (both - inner).clamp(min=1e-6)
