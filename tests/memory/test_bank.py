"""The memory bank: what enters, what leaves, what is read, and who decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared_data
from torch import Tensor

from retain.kernels.bank_read import geo, reference
from retain.kernels.bank_read.reference import Geo
from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.policies import POLICIES, draws, reconstruct
from retain.memory.bank.rows import BankQuery, BankWrite, GeoProjection
from retain.memory.hub import Hub
from retain.pipeline.errors import StateError, UsageError

DIM = 8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def frame(number: int, count: int = 5, **values: Any) -> BankWrite:
    """Rows whose first number is their frame, whose scores rise with their place in it."""
    rows = random(count, DIM, seed=number)
    rows[:, 0] = number
    scores = (np.arange(count) + number % 7) / 10.0
    boxes = np.tile([number, 1.0, number + 2.0, 3.0], (count, 1))
    return BankWrite(rows, **({"frame": number, "scores": scores, "boxes": boxes} | values))


def bank(**values: Any) -> Bank:
    return Bank(BankConfig(**({"dim": DIM, "capacity": 20, "key_set": 8} | values)))


def frames(memory: Bank, **query: Any) -> list[int]:
    return memory.read("s", BankQuery(**({"count": 10**6} | query))).columns["frame"].tolist()


def some_geo(seed: int = 0) -> Geo:
    matrices = random(3, DIM, DIM, seed=seed).unbind()
    biases = random(3, DIM, seed=seed + 1).unbind()
    return Geo(*(x for pair in zip(matrices, biases, strict=True) for x in pair))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 26), max_size=12), st.sampled_from(sorted(POLICIES)))
def test_length_never_exceeds_capacity_and_the_newest_rows_are_there(
    sizes: list[int], policy: str
) -> None:
    """The public codes append while there is room, and so overshoot; keep nothing but the last
    write where it is larger than the bank; and lose everything by writing no row when full."""
    memory, held, bytes_before = bank(evict=policy), 0, None
    for number, size in enumerate(sizes):
        kept = memory.write("s", frame(number, size))
        assert kept == min(size, 20)
        held = min(held + size, 20)
        read = memory.read("s", BankQuery(count=99))
        assert len(read) == held
        assert (read.columns["frame"] == number).sum() == kept
        assert len(np.unique(read.columns["arrival"])) == held
        assert bytes_before in (None, memory.nbytes("s"))
        bytes_before = memory.nbytes("s")


def test_lengths_of_the_public_codes_up_to_the_overshoot() -> None:
    with np.load(shared_data("golden/mamba_geo.npz"), allow_pickle=False) as golden:
        sizes, lengths = golden["bank.write_sizes"], golden["bank.A.len_after_write"]
        kept, reads = golden["bank.A.old_rows_kept"], golden["bank.A.read_len"]
        empty = int(golden["bank.A.len_after_empty_write_when_full"])
    memory = bank()
    for number, (size, length, read) in enumerate(zip(sizes, lengths, reads, strict=True)):
        before = len(frames(memory))
        memory.write("s", frame(number, int(size)))
        now = frames(memory)
        assert len(now) == min(length, 20)
        assert len(memory.read("s")) == read
        assert len(now) - size == min(before, 20 - size) <= kept[number]
    assert empty == 0
    assert memory.write("s", frame(99, 0)) == 0
    assert len(frames(memory)) == 20


def test_a_frame_without_detections_changes_nothing() -> None:
    for filled in (0, 3, 20):
        memory = bank()
        if filled:
            memory.write("s", frame(0, filled))
        before = memory.snapshot("s")
        memory.write("s", frame(1, 0))
        after = memory.snapshot("s")
        assert after.header == before.header
        assert all(np.array_equal(after.tensors[k], v) for k, v in before.tensors.items())
        assert len(memory.read("s")) == min(filled, 8)


def test_the_first_rows_enter_where_not_all_fit_whatever_their_scores() -> None:
    """Proposals come in the order of their importance; sorting them anew would break it."""
    memory = bank()
    memory.write("s", frame(0, 26, scores=np.arange(26.0)))
    assert memory.read("s", BankQuery(count=99)).columns["score"].tolist() == list(range(20))


def test_rows_are_overwritten_in_place() -> None:
    memory = bank(evict="fifo")
    for number in range(4):
        memory.write("s", frame(number))
    before = memory.read("s", BankQuery(count=99))
    place = before.keys.data_ptr()
    memory.write("s", frame(4))
    after = memory.read("s", BankQuery(count=99))
    assert after.keys.data_ptr() == place
    assert after.columns["frame"].tolist() == [4] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_fifo_keeps_and_reads_the_newest() -> None:
    memory = bank(evict="fifo", select="fifo")
    for number in range(9):
        memory.write("s", frame(number, 3))
    assert sorted(set(frames(memory))) == [2, 3, 4, 5, 6, 7, 8]
    assert sorted(memory.read("s").columns["frame"].tolist()) == [6, 6, 7, 7, 7, 8, 8, 8]


def test_score_keeps_and_reads_the_best_of_the_past() -> None:
    memory = bank(evict="score", select="score")
    scores = np.random.default_rng(0).permutation(60) / 60
    for number, some in enumerate(scores.reshape(12, 5)):
        memory.write("s", frame(number, 5, scores=some))
    best = sorted(scores[:55])[-15:]
    held = memory.read("s", BankQuery(count=99)).columns
    assert sorted(held["score"][held["frame"] < 11]) == pytest.approx(best)
    assert sorted(memory.read("s").columns["score"]) == pytest.approx(sorted(held["score"])[-8:])


def test_of_equal_scores_the_oldest_leaves() -> None:
    memory = bank(evict="score")
    for number in range(6):
        memory.write("s", frame(number, 5, scores=np.zeros(5)))
    assert sorted(set(frames(memory))) == [2, 3, 4, 5]


def test_recent_heap_keeps_the_newest_and_the_best() -> None:
    memory = bank(evict="recent-heap", select="recent-heap", recent=5)
    for number in range(10):
        memory.write("s", frame(number, 5, scores=np.full(5, 9.0 - number)))
    assert sorted(set(frames(memory))) == [0, 1, 8, 9]
    read = memory.read("s").columns["frame"].tolist()
    assert read.count(9) == 5
    assert read.count(0) == 3


def test_uniform_eviction_is_uniform_over_the_old_rows() -> None:
    """After one more write of 5 into 20, each old row survives with probability 15/20."""
    survived = np.zeros(20)
    for seed in range(400):
        memory = bank(seed=seed)
        memory.write("s", frame(0, 20))
        memory.write("s", frame(1, 5))
        held = memory.read("s", BankQuery(count=99)).columns["arrival"]
        survived[held[held < 20]] += 1
    assert survived.sum() == 400 * 15
    assert abs(survived / 400 - 0.75).max() < 0.09  # 4 standard deviations


def test_frequency_follows_the_softmax_of_the_scores() -> None:
    scores = np.array([0.0, 1.0, 2.0])
    first = np.zeros(3)
    for seed in range(1500):
        memory = bank(select="frequency", seed=seed, key_set=1)
        memory.write("s", frame(0, 3, scores=scores))
        first[memory.read("s").columns["arrival"]] += 1
    assert first / 1500 == pytest.approx(np.exp(scores) / np.exp(scores).sum(), abs=0.05)


def test_reads_of_one_frame_agree_and_those_of_the_next_differ() -> None:
    memory = bank(capacity=200, key_set=30)
    memory.write("s", frame(0, 100))
    once, again = memory.read("s"), memory.read("s")
    assert torch.equal(once.index, again.index)
    memory.write("s", frame(1, 1))
    assert not torch.equal(once.index, memory.read("s").index)
    other = bank(capacity=200, key_set=30, seed=1)
    other.write("s", frame(0, 100))
    assert not torch.equal(once.index, other.read("s").index)


def test_the_draws_are_these_on_every_machine() -> None:
    assert draws(1, 2, np.array([0, 1, 2**40])).round(6).tolist() == [0.41086, 0.493621, 0.132978]
    many = draws(0, 0, np.arange(20_000))
    assert abs(many.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(many[1:], many[:-1])[0, 1]) < 0.03


def test_lasso_finds_a_planted_combination() -> None:
    rows = random(60, 40)
    target = 2 * torch.nn.functional.normalize(rows[7], dim=0)
    target += torch.nn.functional.normalize(rows[31], dim=0)
    psi = reconstruct(rows, target, sparsity=0.15, steps=200)
    assert psi.abs().topk(2).indices.tolist() == [7, 31]
    assert (psi.abs() > 1e-4).sum() <= 6


def test_lasso_reads_rows_like_those_of_the_frame() -> None:
    memory = bank(select="lasso", key_set=3)
    memory.write("s", frame(0, 15))
    rows = memory.read("s", BankQuery(count=99)).keys[:, 0]
    read = memory.read("s", BankQuery(target=rows[4:6]))
    assert {4, 5} <= set(read.index.tolist())
    evicting = bank(evict="lasso")
    evicting.write("s", frame(0, 20))
    old = evicting.read("s", BankQuery(count=99)).keys[:, 0].clone()
    evicting.write("s", BankWrite(old[9:10].repeat(10, 1), 1))
    held = evicting.read("s", BankQuery(count=99)).columns["arrival"]
    assert 9 in held


def test_one_level_is_read_alone() -> None:
    memory = bank()
    memory.write("s", frame(0, 6, levels=[0, 1, 0, 2, 1, 0]))
    assert memory.read("s", BankQuery(level=1)).columns["level"].tolist() == [1, 1]
    assert len(memory.read("s", BankQuery(level=7))) == 0


def test_two_populations_are_told_apart() -> None:
    memory = bank()
    memory.write("s", frame(0, 4, enhanced=False))
    memory.write("s", frame(1, 12))
    assert memory.stats("s")["enhanced"] == 0.75
    assert memory.read("s", BankQuery(count=99)).columns["enhanced"].tolist() == [0] * 4 + [1] * 12


def test_cached_projections_equal_the_raw_form_through_evictions() -> None:
    weights = some_geo()
    projection = GeoProjection(weights, 2)
    config = BankConfig(DIM, capacity=20, key_set=8, keep_rows=True)
    cached, raw = Bank(config, projection), bank()
    for number in range(12):
        for memory in (cached, raw):
            memory.write("s", frame(number))
    query = random(1, 6, DIM, seed=5)
    ours, plain = cached.read("s"), raw.read("s")
    assert torch.equal(ours.index, plain.index)
    assert plain.rows is not None
    assert ours.rows is not None
    assert torch.equal(ours.rows, plain.rows)
    got = geo.enhance(query, ours.keys, ours.values, weights, ours.index[None])
    wanted = reference.enhance(query[0], plain.rows[plain.index], weights, 2, "released_2022")
    torch.testing.assert_close(got[0], wanted, atol=1e-5, rtol=1e-5)


def test_an_empty_bank_leaves_the_queries_as_they_are() -> None:
    memory = Bank(BankConfig(DIM), GeoProjection(some_geo(), 2))
    read, query = memory.read("s"), random(1, 6, DIM)
    assert len(read) == 0
    assert torch.equal(
        geo.enhance(query, read.keys, read.values, some_geo(), read.index[None]), query
    )


def test_which_memory_decided() -> None:
    """Three frames of distinct rows; a query like one of them is answered by it."""
    memory = bank(select="fifo")
    for number in range(3):
        rows = 9.0 * torch.eye(DIM)[number : number + 1]
        boxes = np.array([[number, 0.0, 5.0, 6.0]])
        memory.write("s", BankWrite(rows, number, number / 25, [0.5], boxes, levels=number))
    read = memory.read("s")
    query = torch.eye(DIM)[[1, 2]][:, None]
    shares = read.shares(query)
    first, second = read.decided(shares, top=2)
    assert [len(first), len(second)] == [2, 2]
    assert (first[0].stream, first[0].frame, first[0].seconds, first[0].level) == ("s", 1, 0.04, 1)
    assert first[0].box == (1.0, 0.0, 5.0, 6.0)
    assert first[0].score == 0.5
    assert first[0].share > 0.8 > 0.2 > first[1].share
    assert second[0].frame == 2
    assert [each.frame for each in read.decided(shares, top=9)[1]] == [2, 0, 1]
    assert bank().read("s").decided(torch.zeros(2, 1, 0)) == [[], []]


def test_a_gate_scales_scores_or_keeps_the_frame_out() -> None:
    memory = bank(select="score", key_set=2)
    memory.write("s", frame(0, 2, scores=[0.9, 0.8]), gate=0.5)
    memory.write("s", frame(1, 2, scores=[0.7, 0.1]))
    assert memory.read("s").columns["score"].tolist() == [0.9, 0.7]
    assert memory.write("s", frame(2), gate=0.0) == 0
    assert frames(memory) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="gate"):
        memory.write("s", frame(3), gate=1.5)


def test_a_bank_in_the_hub_goes_on_bit_for_bit(tmp_path: Any) -> None:
    def hub() -> Hub:
        made = Hub(200_000, "s")
        made.add(
            "bank", Bank(BankConfig(DIM, 40, 8, evict="frequency"), GeoProjection(some_geo(), 2))
        )
        return made

    one, two = hub(), hub()
    for number in range(15):
        one["bank"].write("s", frame(number))
    one.snapshot(tmp_path / "bank.retain", 14)
    assert two.restore(tmp_path / "bank.retain") == 14
    for number in range(15, 30):
        for each in (one, two):
            each["bank"].write("s", frame(number))
        a, b = one["bank"].read("s"), two["bank"].read("s")
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.keys, b.keys)
        assert torch.equal(a.values, b.values)
    other = Hub(200_000, "s")
    other.add(
        "bank", Bank(BankConfig(DIM, 40, 8, evict="frequency"), GeoProjection(some_geo(9), 2))
    )
    with pytest.raises(StateError):
        other.restore(tmp_path / "bank.retain")


def test_bytes_do_not_grow_and_every_frame_can_be_remembered() -> None:
    """A long stream: 3,000 frames through room for 10; some of the distant past is still there."""
    memory = bank(capacity=50)
    before = memory.nbytes("s")
    for number in range(3000):
        memory.write("s", frame(number, number % 7))
    assert memory.nbytes("s") == before
    stats = memory.stats("s")
    assert (stats["rows"], stats["room"], stats["bytes"]) == (50, 50, before)
    assert stats["written"] == sum(number % 7 for number in range(3000))
    ages = 2999 - np.array(frames(memory))
    assert 10 < ages.max() < 300


def test_shrinking_keeps_the_newest_frame_and_the_best() -> None:
    memory = bank(capacity=200, evict="score")
    for number in range(30):
        memory.write("s", frame(number, 5, scores=np.full(5, -float(number))))
    memory.shrink_to("s", 64 * memory.row_bytes)
    assert sorted(set(frames(memory))) == [*range(12), 29]
    assert memory.nbytes("s") <= 64 * memory.row_bytes
    memory.shrink_to("s", 10**9)
    memory.write("s", frame(30, 40))
    assert sorted(set(frames(memory))) == [*range(12), 29, 30]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="uniform"):
        bank(evict="unifrom")
    with pytest.raises(UsageError, match="capacity"):
        bank(capacity=0)
    with pytest.raises(UsageError, match="does not keep"):
        Bank(BankConfig(DIM, select="lasso"), GeoProjection(some_geo(), 2))
    memory = bank()
    bad = random(2, DIM)
    bad[1, 3] = np.nan
    for item in (
        BankWrite(random(2, DIM + 1), 0), BankWrite(bad, 0), frame(0, 2, scores=[1.0]),
        frame(0, 2, boxes=np.zeros((3, 4))), frame(0, 2, scores=[np.inf, 0.0]),
        frame(0, 2, seconds=np.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"rows|scores|finite"):
            memory.write("s", item)
    assert len(memory.read("s")) == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows.arrival", lambda x: x * 0),
        ("rows.arrival", lambda x: x + 10**9),
        ("rows.seconds", lambda x: x * np.nan),
        ("row", lambda x: x + np.inf),
        ("rows.enhanced", lambda x: x + 3),
    ],
)
def test_a_snapshot_no_bank_wrote_is_refused(name: str, change: Any) -> None:
    memory = bank()
    memory.write("s", frame(0))
    state = memory.snapshot("s")
    with np.errstate(invalid="ignore"):
        tensors = dict(state.tensors) | {name: change(state.tensors[name])}
    with pytest.raises(StateError):
        memory.restore("s", type(state)(tensors, state.header))
    for header in (
        {},
        {"room": 10**9, "turn": 1, "written": 5},
        {"room": 20, "turn": 9, "written": 5},
    ):
        with pytest.raises(StateError):
            memory.restore("s", type(state)(state.tensors, header))
