"""Delta-scan memory: a clip at once, what a key gives back, the gate, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from retain.kernels.gated_delta.chunked import recurrent
from retain.memory.base import State
from retain.memory.delta_scan import DeltaScan, DeltaScanConfig, ScanWrite
from retain.pipeline.errors import StateError, UsageError

CONFIG = DeltaScanConfig(heads=2, key_dim=8, value_dim=6)
EYE = torch.eye(8)[:, None].expand(8, 2, 8)
"""Every channel as a query, so that a read gives the whole state."""


def clip(count: int, seed: int = 0) -> ScanWrite:
    rng = torch.Generator().manual_seed(seed)
    k = normalize(torch.randn(count, 2, 8, generator=rng), dim=-1)
    v = torch.randn(count, 2, 6, generator=rng)
    return ScanWrite(
        k, v, -0.1 * torch.rand(count, 2, generator=rng), torch.rand(count, 2, generator=rng)
    )


def part(whole: ScanWrite, start: int, stop: int) -> ScanWrite:
    given = (whole.k, whole.v, whole.g, whole.beta)
    return ScanWrite(*(x[start:stop] for x in given))


@pytest.mark.parametrize("each", [1, 7, 32, 100])
def test_how_a_clip_is_cut_into_writes_changes_only_rounding(each: int) -> None:
    whole, memory = clip(100), DeltaScan(CONFIG)
    for start in range(0, 100, each):
        memory.write("s", part(whole, start, start + each))
    given = (x.double()[None] for x in (whole.k, whole.v, whole.g, whole.beta))
    k, v, g, beta = given
    _, state = recurrent(k, k, v, g, beta)
    got = memory.read("s", EYE).transpose(0, 1).double()
    assert float((got - state[0]).norm() / state.norm()) < 1e-5
    assert memory.stats("s")["tokens"] == 100


def test_a_key_gives_back_what_was_written_with_it() -> None:
    memory, written = DeltaScan(CONFIG), clip(20)
    memory.write("s", replace(written, beta=torch.ones(20, 2)))
    torch.testing.assert_close(memory.read("s", written.k[-1:]), written.v[-1:])


def test_reading_passes_gradients_to_the_query_and_writing_keeps_none() -> None:
    memory, written = DeltaScan(CONFIG), clip(3)
    memory.write("s", replace(written, v=written.v.requires_grad_()))
    assert not memory.read("s", written.k).requires_grad
    query = written.k.clone().requires_grad_()
    memory.read("s", query).sum().backward()
    assert query.grad is not None


def test_a_closed_gate_leaves_the_state_bit_for_bit() -> None:
    memory = DeltaScan(CONFIG)
    memory.write("s", clip(20))
    before = memory.snapshot("s")
    for item in (clip(20, 1), replace(clip(5), g=torch.full((5, 2), -math.inf)), clip(0)):
        memory.write("s", item, 0.0)
        after = memory.snapshot("s")
        assert after.header == before.header
        assert np.array_equal(after.tensors["state"], before.tensors["state"])


def test_a_half_open_gate_fades_and_writes_half() -> None:
    half, other = DeltaScan(CONFIG), DeltaScan(CONFIG)
    item = clip(20)
    half.write("s", item, 0.5)
    other.write("s", replace(item, g=item.g / 2, beta=item.beta / 2))
    assert torch.equal(half.read("s", EYE), other.read("s", EYE))
    with pytest.raises(ValueError, match="a gate is in"):
        half.write("s", item, 1.5)


def test_no_tokens_are_nothing() -> None:
    memory = DeltaScan(CONFIG)
    memory.write("s", clip(20))
    before = memory.read("s", EYE)
    memory.write("s", clip(0))
    assert torch.equal(memory.read("s", EYE), before)
    assert memory.stats("s")["tokens"] == 20


BAD = {
    "growing": replace(clip(3), g=torch.full((3, 2), 0.1)),
    "key not a number": replace(clip(3), k=torch.full((3, 2, 8), math.nan)),
    "value infinite": replace(clip(3), v=torch.full((3, 2, 6), math.inf)),
    "negative strength": replace(clip(3), beta=torch.full((3, 2), -0.1)),
    "long keys": replace(clip(3), k=2 * clip(3).k, beta=torch.ones(3, 2)),
}


@pytest.mark.parametrize("item", BAD.values(), ids=BAD)
def test_tokens_that_would_poison_the_state_are_refused(item: ScanWrite) -> None:
    memory = DeltaScan(CONFIG)
    memory.write("s", clip(20))
    before = memory.read("s", EYE)
    with pytest.raises(ValueError, match="make keys unit length and beta a sigmoid"):
        memory.write("s", item)
    assert torch.equal(memory.read("s", EYE), before)


def test_what_does_not_fit_is_refused() -> None:
    memory, item = DeltaScan(CONFIG), clip(3)
    with pytest.raises(ValueError, match=r"v is \[3, 2, 5\], not \[3, 2, 6\]"):
        memory.write("s", replace(item, v=item.v[..., 1:]))
    with pytest.raises(ValueError, match=r"beta is \[2, 2\], not \[3, 2\]"):
        memory.write("s", replace(item, beta=item.beta[1:]))
    with pytest.raises(UsageError, match="key_dim must be at least 1"):
        DeltaScanConfig(heads=1, key_dim=0, value_dim=2)
    saved = memory.snapshot("s")
    with pytest.raises(StateError, match="does not belong to a delta-scan memory"):
        memory.restore("s", State(saved.tensors, {"frames": 3}))


def test_ten_thousand_tokens_of_a_still_picture_stay_bounded() -> None:
    """Of values of length 1, with beta = 1 and no decay, a matrix that answers every key of the
    picture is at most as large as that picture's keys are ill-conditioned; 100 is far above."""
    memory, frame = DeltaScan(CONFIG), clip(100)
    still = ScanWrite(frame.k, normalize(frame.v, dim=-1), 0 * frame.g, 0 * frame.beta + 1)
    norms = []
    for _ in range(100):
        memory.write("s", still)
        norms.append(float(memory.stats("s")["norm"]))
    assert max(norms) < 100
    assert norms[-1] == pytest.approx(norms[49], rel=1e-3)
