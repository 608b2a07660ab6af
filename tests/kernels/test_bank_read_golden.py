"""The enhancement and its use in a box head against numbers from the two public codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared_data import shared_data
from torch import Tensor
from torch.nn import functional as F

from retain.kernels.bank_read import geo, reference
from retain.kernels.bank_read.reference import Form, Geo

Arrays = dict[str, np.ndarray]

CODES: dict[str, tuple[Form, tuple[str, ...]]] = {
    "A": ("released_2022", ("wq", "wk", "wv")),
    "B": ("paper", ("fc_embed", "ref_fc_embed", "ref_fc", "fc")),
}
LIMIT = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture(scope="module")
def golden() -> Arrays:
    with np.load(shared_data("golden/mamba_geo.npz"), allow_pickle=False) as file:
        return dict(file)


def weights(golden: Arrays, prefix: str, code: str, dtype: torch.dtype = torch.float64) -> Geo:
    parts = []
    for name in CODES[code][1]:
        matrix = torch.from_numpy(golden[f"{prefix}.{name}.weight"]).to(dtype)
        bias = torch.from_numpy(golden[f"{prefix}.{name}.bias"]).to(dtype)
        parts += [matrix.flatten(1), bias]
    return Geo(*parts)


def inputs(golden: Arrays, size: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    query, keys = (torch.from_numpy(golden[f"{size}.in.{name}"]) for name in ("query", "keys"))
    return query.to(dtype), keys.to(dtype)


def near(got: Tensor, want: np.ndarray, limit: float = 1e-12) -> None:
    torch.testing.assert_close(got.double(), torch.from_numpy(want).double(), atol=limit, rtol=0)


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("size", ["s1", "s2"])
@pytest.mark.parametrize("code", CODES)
def test_definition(golden: Arrays, code: str, size: str, dtype: torch.dtype) -> None:
    form, own = CODES[code][0], weights(golden, f"{size}.{code}.w", code, dtype)
    query, keys = inputs(golden, size, dtype)
    heads, limit = int(golden[f"{size}.in.heads"]), LIMIT[dtype]
    read = reference.attention(query, keys, own, heads, form)
    near(read, golden[f"{size}.{code}.att_f64"], limit)
    near(reference.enhance(query, keys, own, heads, form), golden[f"{size}.{code}.out_f64"], limit)
    one = reference.enhance(query, keys[:1], own, heads, form)
    near(one, golden[f"{size}.{code}.onekey_f64"], limit)


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("size", ["s1", "s2"])
@pytest.mark.parametrize("code", CODES)
def test_cached_rows(golden: Arrays, code: str, size: str, dtype: torch.dtype) -> None:
    own = weights(golden, f"{size}.{code}.w", code, dtype)
    query, keys = inputs(golden, size, dtype)
    projected = geo.project(keys, own, int(golden[f"{size}.in.heads"]))
    got = geo.enhance(query[None], *projected, own)[0]
    near(got, golden[f"{size}.{code}.out_f64"], LIMIT[dtype])


@pytest.mark.parametrize("size", ["s1", "s2"])
def test_quirks_of_2022(golden: Arrays, size: str) -> None:
    own, heads = weights(golden, f"{size}.A.w", "A"), int(golden[f"{size}.in.heads"])
    query, keys = inputs(golden, size)
    mixed = reference.enhance(query, keys, own, heads, "released_2022", alignment=True)
    near(mixed, golden[f"{size}.A.out_alignment_test_f64"])
    alone = reference.enhance(query, keys[:0], own, heads, "released_2022", when_empty="self")
    near(alone, golden[f"{size}.A.self_f64"])
    assert torch.equal(reference.enhance(query, keys[:0], own, heads, "released_2022"), query)


@pytest.mark.parametrize("size", ["s1", "s2"])
def test_the_wrong_form_fails(golden: Arrays, size: str) -> None:
    own, heads = weights(golden, f"{size}.B.w", "B"), int(golden[f"{size}.in.heads"])
    query, keys = inputs(golden, size)
    other = reference.enhance(query, keys, own, heads, "released_2022")
    assert np.abs(other.numpy() - golden[f"{size}.B.out_f64"]).max() > 0.1


def linear(golden: Arrays, name: str, x: Tensor) -> Tensor:
    weight, bias = (
        torch.from_numpy(golden[f"trace.{name}.{part}"]).double() for part in ("weight", "bias")
    )
    return F.linear(x, weight, bias)


def test_a_box_head_of_2024(golden: Arrays) -> None:
    """A bank per layer, of enhanced rows before ReLU; the first frame's are not enhanced."""
    heads, top = int(golden["trace.in.heads"]), int(golden["trace.in.topk"])
    own = [weights(golden, f"trace.B.w.aggregator.{i}", "B") for i in range(2)]
    x = torch.from_numpy(golden["trace.in.ref_x"]).double()
    banks: list[Tensor] = []
    for i in range(2):
        banks.append(linear(golden, f"B.w.shared_fcs.{i}", x))
        x = banks[i].relu()
    for t, frame in enumerate(torch.from_numpy(golden["trace.in.x"]).double()):
        x = frame
        for i in range(2):
            x = linear(golden, f"B.w.shared_fcs.{i}", x)
            x = geo.enhance(x[None], *geo.project(banks[i], own[i], heads), own[i])[0]
            if t:
                banks[i] = torch.cat([banks[i], x[:top]])
            x = x.relu()
            near(banks[i], golden[f"trace.B.bank{i}_after_{t}"], 1e-11)
        near(x, golden[f"trace.B.out_{t}"], 1e-11)


def test_a_box_head_of_2022(golden: Arrays) -> None:
    """One bank of plain rows after the first layer; the second takes both rows and queries."""
    heads, top = int(golden["trace.in.heads"]), int(golden["trace.in.topk"])
    own = [weights(golden, f"trace.A.w.ins_mem.geos.{i}", "A") for i in range(2)]

    def head(x: Tensor, rows: Tensor) -> Tensor:
        x = geo.enhance(x[None], *geo.project(rows, own[0], heads), own[0])[0]
        x, rows = (linear(golden, "A.w.fcs.1", each).relu() for each in (x, rows))
        return geo.enhance(x[None], *geo.project(rows, own[1], heads), own[1])[0]

    first = torch.from_numpy(golden["trace.in.ref_x"]).double()[:top]
    bank = linear(golden, "A.w.fcs.0", first).relu()
    near(bank, golden["trace.A.bank_after_init"], 1e-11)
    for t, frame in enumerate(torch.from_numpy(golden["trace.in.x"]).double()):
        x = linear(golden, "A.w.fcs.0", frame).relu()
        near(head(x, bank), golden[f"trace.A.out_{t}"], 1e-11)
        if t == 0:
            near(head(x, x), golden["trace.A.out_emptybank_0"], 1e-11)
        bank = torch.cat([bank, x[:top]])
        near(bank, golden[f"trace.A.bank_after_{t}"], 1e-11)
