"""Reading a bank: the definition, its invariances, the fast paths and their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from retain.kernels.bank_read import geo, op, reference
from retain.kernels.bank_read.reference import Geo

Read = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def given_read(
    batch: int = 2, queries: int = 7, rows: int = 23, heads: int = 3, dim: int = 5,
    width: int = 4, own: int = 3, count: int = 19, dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Read:  # fmt: skip
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)

    index = torch.randint(-1, rows, (batch, count), generator=rng)
    return (
        random(batch, queries, heads, dim), random(rows, heads, dim), random(rows, own, width),
        index, random(batch, count, heads),
    )  # fmt: skip


def by_hand(query: Tensor, keys: Tensor, values: Tensor, index: Tensor, bias: Tensor) -> Tensor:
    """Row by row, in Python's own floats."""
    batch, queries, heads, dim = query.shape
    out = torch.zeros(batch, queries, heads, values.shape[-1], dtype=torch.float64)
    for b in range(batch):
        there = [(j, int(r)) for j, r in enumerate(index[b].tolist()) if r >= 0]
        for n in range(queries):
            for h in range(heads):
                e = [
                    torch.exp(query[b, n, h] @ keys[r, h] / dim**0.5 + bias[b, j, h])
                    for j, r in there
                ]
                for weight, (_, r) in zip(e, there, strict=True):
                    out[b, n, h] += weight / sum(e) * values[r, h % values.shape[1]]
    return out


@pytest.mark.parametrize("own", [1, 3])
def test_the_definition_is_what_its_text_says(own: int) -> None:
    read = given_read(queries=2, rows=6, count=5, own=own)
    torch.testing.assert_close(reference.attend(*read), by_hand(*read), atol=1e-12, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3), st.integers(0, 5), st.integers(1, 600), st.integers(0, 530),
    st.sampled_from([1, 4]), st.sampled_from([torch.float64, torch.float32, torch.float16]),
    st.booleans(),
)  # fmt: skip
def test_cpu_computes_the_definition(
    batch: int, queries: int, rows: int, count: int, own: int, dtype: torch.dtype, all_rows: bool
) -> None:
    query, keys, values, index, bias = given_read(
        batch, queries, rows, 4, 5, 6, own, count, dtype, seed=rows
    )
    rest = (None, None) if all_rows else (index, bias)
    with torch.no_grad():
        got = op.read(query, keys, values, *rest)
    assert got.dtype == dtype
    wide = query.double(), keys.double(), values.double()
    limit = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(got.double(), reference.attend(*wide, *rest), atol=limit, rtol=limit)


def test_extreme_scores_do_not_overflow() -> None:
    query, keys, values, index, bias = given_read(dtype=torch.float32)
    got = op.read(query * 1e4, keys * 1e3, values, index, bias)
    assert got.isfinite().all()


def test_order_and_duplicates_of_rows_do_not_matter() -> None:
    query, keys, values, index, bias = given_read()
    before = op.read(query, keys, values, index, bias)
    order = torch.randperm(index.shape[1], generator=torch.Generator().manual_seed(1))
    moved = op.read(query, keys, values, index[:, order], bias[:, order])
    torch.testing.assert_close(moved, before, atol=1e-12, rtol=0)
    place = torch.randperm(len(keys), generator=torch.Generator().manual_seed(2))
    where = torch.where(index < 0, -1, place.argsort()[index.clamp(min=0)])
    stored = op.read(query, keys[place], values[place], where, bias)
    torch.testing.assert_close(stored, before, atol=1e-12, rtol=0)
    twice = op.read(query, keys, values, index.repeat(1, 2), bias.repeat(1, 2, 1))
    torch.testing.assert_close(twice, before, atol=1e-12, rtol=0)


def test_one_row_is_read_as_it_is() -> None:
    query, keys, values, _, _ = given_read(rows=1)
    torch.testing.assert_close(op.read(query, keys, values), values[None].expand(2, 7, -1, -1))


@pytest.mark.parametrize("grad", [False, True])
def test_no_row_reads_zero(grad: bool) -> None:
    query, keys, values, index, bias = given_read()
    with torch.set_grad_enabled(grad):
        assert not op.read(query, keys, values, torch.full_like(index, -1), bias).any()
        assert not op.read(query, keys[:0], values[:0]).any()
        assert not op.read(query, keys, values, index[:, :0]).any()
    assert not reference.attend(query, keys, values, index[:, :0]).any()


@pytest.mark.parametrize("queries", [1, 150])
def test_a_stream_reads_the_same_bits_in_any_batch(queries: int) -> None:
    query, keys, values, index, bias = given_read(
        5, queries, 400, 16, 64, 64, 16, 300, torch.float32
    )
    with torch.no_grad():
        together = op.read(query, keys, values, index, bias)
        for b in range(5):
            one = slice(b, b + 1)
            alone = op.read(query[one], keys, values, index[one], bias[one])
            assert torch.equal(alone, together[one])


def test_place_age_and_confidence_of_a_row_need_no_matrix_of_their_own() -> None:
    """A read that prefers rows near the query, young and sure, and mixes raw rows: distance is
    three more channels of query and key, age and confidence a bias, values shared by the heads."""
    query, keys, _, index, _ = given_read()
    index = index.clamp(min=0)
    rng = torch.Generator().manual_seed(9)
    rows = torch.randn(len(keys), 12, generator=rng, dtype=torch.float64)
    here = torch.rand(*query.shape[:2], 2, generator=rng, dtype=torch.float64)
    there = torch.rand(len(keys), 2, generator=rng, dtype=torch.float64)
    age, sure = torch.rand(2, len(keys), generator=rng, dtype=torch.float64) * 50
    near, old, firm = torch.tensor([[0.5, 10.0, 60.0], [0.1, 0.5, 1.0], [0.2, 0.0, 0.1]]).double()
    distance = (here[:, :, None] - there[index][:, None]).square().sum(-1)
    scores = torch.einsum("bnhd,bkhd->bnhk", query, keys[index])
    scores = scores - near[:, None] * distance[:, :, None]
    bias = firm * sure[index][..., None] - old * torch.log1p(age[index])[..., None]
    share = (scores + bias.mT[:, None]).softmax(-1)
    wanted = torch.einsum("bnhk,bkc->bnhc", share, rows[index])

    place = torch.cat([there, there.square().sum(-1, keepdim=True)], -1)
    more = torch.cat([2 * here, -torch.ones_like(here[..., :1])], -1)
    got = op.read(
        torch.cat([query, near[:, None] * more[:, :, None]], -1),
        torch.cat([keys, place[:, None].expand(-1, 3, -1)], -1),
        rows[:, None], index, bias, scale=1.0,
    )  # fmt: skip
    torch.testing.assert_close(got, wanted, atol=1e-11, rtol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_torch_compiles_the_operator() -> None:
    query, keys, values, index, bias = given_read(dtype=torch.float32)
    leaves = [x.requires_grad_() for x in (query, keys, values)]
    torch.library.opcheck(
        torch.ops.retain.bank_read.default,
        (*leaves, index, bias.requires_grad_(), 0.5),
        test_utils="test_aot_dispatch_dynamic",
    )


@pytest.mark.parametrize(
    ("part", "shape", "message"),
    [
        (1, (23, 3, 6), "keys"),
        (2, (22, 3, 4), "values"),
        (2, (23, 2, 4), "values"),
        (3, (3, 19), "index"),
        (4, (2, 19, 2), "bias"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    part: int, shape: tuple[int, ...], message: str
) -> None:
    read: list[Any] = list(given_read())
    read[part] = torch.zeros(shape, dtype=read[part].dtype)
    with pytest.raises(ValueError, match=message):
        op.read(*read)


def test_a_row_that_is_not_there_is_refused() -> None:
    query, keys, values, index, bias = given_read()
    with pytest.raises(IndexError):
        op.read(query, keys, values, index + len(keys), bias)


def some_geo(channels: int, out: bool, seed: int = 0, dtype: torch.dtype = torch.float64) -> Geo:
    rng = torch.Generator().manual_seed(seed)
    parts: list[Tensor | None] = []
    for _ in range(4 if out else 3):
        parts.append(torch.randn(channels, channels, generator=rng, dtype=dtype) / channels**0.5)
        parts.append(torch.randn(channels, generator=rng, dtype=dtype))
    return Geo(*parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("out", [False, True])
def test_cached_projections_equal_the_published_form(out: bool) -> None:
    """Projecting each row when it is written, reading by index; in both forms."""
    weights, rng = some_geo(24, out), torch.Generator().manual_seed(3)
    rows = torch.randn(40, 24, generator=rng, dtype=torch.float64)
    query = torch.randn(2, 9, 24, generator=rng, dtype=torch.float64)
    index = torch.stack([torch.randperm(40, generator=rng)[:11] for _ in range(2)])
    written = [geo.project(part, weights, 4) for part in rows.split([3, 30, 7])]
    keys, values = (torch.cat(parts) for parts in zip(*written, strict=True))
    got = geo.enhance(query, keys, values, weights, index)
    form: reference.Form = "paper" if out else "released_2022"
    for b in range(2):
        wanted = reference.enhance(query[b], rows[index[b]], weights, 4, form)
        torch.testing.assert_close(got[b], wanted, atol=1e-12, rtol=0)


def test_an_empty_bank_returns_the_queries() -> None:
    weights = some_geo(8, out=True)
    query = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys, values = geo.project(query[0], weights, 2)
    assert torch.equal(geo.enhance(query, keys[:0], values[:0], weights), query)
    index = torch.tensor([[-1, -1], [0, -1]])
    got = geo.enhance(query, keys, values, weights, index)
    assert torch.equal(got[0], query[0])
    assert not torch.equal(got[1], query[1])
    assert torch.equal(reference.enhance(query[0], query[0, :0], weights, 2), query[0])


def test_a_zero_output_map_changes_no_bit() -> None:
    """How a trained detector gets a bank without any change of its boxes."""
    weights, rng = some_geo(64, True, dtype=torch.float32), torch.Generator().manual_seed(1)
    zero = weights._replace(w_out=torch.zeros(64, 64), b_out=torch.zeros(64))
    query = torch.randn(1, 13, 64, generator=rng)
    keys, values = geo.project(torch.randn(50, 64, generator=rng), zero, 16)
    assert torch.equal(geo.enhance(query, keys, values, zero), query)


def test_a_stream_is_enhanced_to_the_same_bits_in_any_batch() -> None:
    weights, rng = some_geo(64, True, dtype=torch.float32), torch.Generator().manual_seed(1)
    keys, values = geo.project(torch.randn(50, 64, generator=rng), weights, 16)
    query = torch.randn(4, 13, 64, generator=rng)
    index = torch.stack([torch.randperm(50, generator=rng)[:30] for _ in range(4)])
    together = geo.enhance(query, keys, values, weights, index)
    for b in range(4):
        one = slice(b, b + 1)
        assert torch.equal(
            geo.enhance(query[one], keys, values, weights, index[one])[0], together[b]
        )
