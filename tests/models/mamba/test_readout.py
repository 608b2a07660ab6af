"""The read-outs against their formulas written out, in float64."""

from __future__ import annotations

from dataclasses import replace

import mamba_parts as parts
import pytest
import torch
from mamba_parts import HOST
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.bank_read import reference
from retain.models.mamba.gated import Gated
from retain.models.mamba.rows import SLOWING_S, Seen, motion, pack, unpack, width_of
from retain.models.mamba.scene import LEVELS, Likeness

C, K = HOST.channels, 3
LIKE = Likeness(torch.tensor([0.7, 0.6]), torch.tensor([-0.1, 0.05]))


def things(count: int, seed: int = 0, *, age: float = 0.0) -> Seen:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=g)

    corner = draw(count, 2, low=0, high=100)
    return Seen(
        draw(count, C),
        draw(count, low=-4, high=4),
        draw(count, K, low=-4, high=4),
        torch.cat((corner, corner + draw(count, 2, low=10, high=50)), 1),
        corner + 8,
        draw(count, 4, low=-60, high=60),
        torch.zeros(count),
        torch.randint(0, 3, (count,), generator=g),
        age + draw(count, low=0, high=0.3) if age else torch.zeros(count),
    )


def trained(seed: int = 0) -> Gated:
    """Random everywhere, so that every term of the formula counts."""
    readout = parts.gated(seed=seed)
    with torch.no_grad():
        for parameter in readout.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return readout


def explicit(readout: Gated, queries: Seen, held: Seen, own: Tensor) -> Tensor:
    """S [N, H, M + 1] as the module's text gives it, without folding anything."""
    r, side = readout, float(readout.config.side)
    held = held.now()
    dials = r.dials(own).view(len(queries), 4, -1).clamp(-4, 4)
    heads = dials.shape[2]

    def unit(linear: torch.nn.Linear, x: Tensor) -> Tensor:
        return F.normalize(linear((x - r.mean) / r.std).view(len(x), heads, -1), dim=2)

    q, k = unit(r.to_query, queries.features), unit(r.to_key, held.features)
    wide = (held.boxes[:, 2:] - held.boxes[:, :2]).clamp(min=1)
    s = wide.prod(1).sqrt().clamp(min=12.0) / side

    def centre(b: Tensor) -> Tensor:
        return (b[:, :2] + b[:, 2:]) / 2 / side

    def size(b: Tensor) -> Tensor:
        return ((b[:, 2:] - b[:, :2]) / side).log()

    out = torch.zeros(len(queries), heads, len(held) + 1, dtype=queries.features.dtype)
    for h in range(heads):
        alpha = (r.alpha[h] + dials[:, 1, h]).exp()[:, None]
        beta = (r.beta[h] + dials[:, 2, h]).exp()[:, None]
        cells = torch.cdist(queries.points / side, held.points / side).square() / s.square()
        places = torch.cdist(centre(queries.boxes), centre(held.boxes)).square() / s.square()
        sizes = torch.cdist(size(queries.boxes), size(held.boxes)).square()
        level = (queries.levels[:, None] == held.levels).to(cells.dtype) * r.level[h]
        bias = r.gamma[h].exp() * held.scores.clamp(min=1e-3).log()
        bias = bias - r.rho[h].exp() * (held.ages - held.ages.min()) / 0.04
        alike = (0.7 + dials[:, 0, h]).exp()[:, None] * (q[:, h] @ k[:, h].T)
        out[:, h, :-1] = alike - alpha * cells - beta * places - beta / 2 * sizes + level + bias
        out[:, h, -1] = 5 * dials[:, 3, h] - 4.0
    return out


def double(seen: Seen) -> Seen:
    names = [n for n in seen.__slots__ if n != "levels"]
    return replace(seen, **{name: getattr(seen, name).double() for name in names})


def test_the_folded_attention_is_the_formula() -> None:
    readout = trained().double()
    queries, held = double(things(7)), double(things(9, 1, age=0.05))
    like = Likeness(LIKE.alike.double(), LIKE.contrast.double())
    best = torch.tensor(0.4, dtype=torch.float64)
    got = readout(queries, held, like, best)
    share = reference.weights(got.query[None], got.keys, None, got.bias[None], 1.0)[0]
    frame = readout._frame(queries, held.now(), like, best)
    own = torch.stack((queries.objectness / 5, queries.classes.amax(1) / 5, queries.scores), 1)
    own = torch.cat((own, frame.expand(len(own), -1)), 1)
    wanted = explicit(readout, queries, held, own).softmax(2)
    torch.testing.assert_close(share, wanted, rtol=1e-6, atol=1e-9)


def test_what_is_read_lies_between_the_frame_and_the_memory() -> None:
    readout = parts.gated()
    queries, held = things(5), things(1, 3, age=0.05)
    got = readout(queries, held, LIKE, torch.tensor(0.2)).predicted
    there = held.now()
    for x, y, r in (
        (queries.objectness[:, None], got.objectness[:, None], held.objectness[:, None]),
        (queries.boxes, got.boxes, there.boxes),
        (queries.classes, got.classes, held.classes),
    ):
        low, high = torch.minimum(x, r), torch.maximum(x, r)
        assert (y >= low - 1e-3).all()
        assert (y <= high + 1e-3).all()
    assert (readout(queries, held, LIKE, torch.tensor(0.2)).gate > 0).any()


def test_order_of_rows_means_nothing() -> None:
    readout = trained()
    queries, held = things(5), things(12, 2, age=0.1)
    mixed = held.only(torch.randperm(12, generator=torch.Generator().manual_seed(0)))
    a = readout(queries, held, LIKE, torch.tensor(0.5)).predicted
    b = readout(queries, mixed, LIKE, torch.tensor(0.5)).predicted
    torch.testing.assert_close(a.boxes, b.boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(a.objectness, b.objectness, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    readout = trained().requires_grad_(True)
    got = readout(things(6), things(9, 1, age=0.05), LIKE, torch.tensor(0.4)).predicted
    (got.objectness.sum() + got.classes.square().sum() + got.boxes.sum()).backward()
    silent = [n for n, p in readout.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


@pytest.mark.parametrize("levels", [1, LEVELS])
def test_rows_are_packed_and_unpacked(levels: int) -> None:
    seen = things(6, age=0.1)
    rows = pack(seen)
    assert rows.shape == (6, width_of(C, K))
    again = unpack(rows, seen.levels, seen.ages, C, K)
    assert all(torch.equal(getattr(seen, n), getattr(again, n)) for n in seen.__slots__)


def test_a_row_learns_how_fast_it_moves_and_says_where_it_should_be() -> None:
    one = things(1)
    one = replace(one, speeds=torch.zeros(1, 4), boxes=torch.tensor([[20.0, 20.0, 60.0, 60.0]]))
    held = None
    for k in range(12):
        moved = replace(one, boxes=one.boxes + 2.0 * k)
        if held is not None:
            moved = motion(moved, replace(held, ages=torch.tensor([1 / 24])))
        held = moved
    assert held is not None
    soon = replace(held, ages=torch.tensor([1 / 24])).now().boxes - held.boxes
    torch.testing.assert_close(soon, torch.full((1, 4), 2.0), rtol=0.15, atol=0.0)
    late = replace(held, ages=torch.tensor([100.0])).now().boxes - held.boxes
    assert (late <= held.speeds * SLOWING_S + 1e-3).all()


def test_another_class_or_another_place_gives_no_speed() -> None:
    one = things(1)
    old = replace(one, ages=torch.tensor([0.04]), speeds=torch.zeros(1, 4))
    far = replace(one, boxes=one.boxes + 200)
    other = replace(one, classes=one.classes.flip(1))
    for new in (far, other):
        assert not motion(new, old).speeds.any() or torch.equal(one.classes, other.classes)
