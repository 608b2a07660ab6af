"""The frame memory: budgets, tiers, reading, and going on after a restore."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_parts import bare, features, feed, frames

from retain.memory import pictures
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, FrameQuery, Item
from retain.memory.tokens import tokens
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import SYNTHETIC
from retain.pipeline.results import Held

DIM = 32


def watch(memory: FrameMemory, count: int, width: int = 320, height: int = 180) -> list[Held]:
    rows = features(count, DIM)
    return [
        memory.observe(f.stream, f, row)[1]
        for f, row in zip(frames(count, width, height), rows, strict=True)
    ]


@settings(deadline=None, max_examples=25)
@given(
    token_budget=st.integers(1, 900),
    spare=st.integers(0, 60_000),
    max_entries=st.integers(1, 12),
    policy=st.sampled_from(["robust", "fifo", "score", "reservoir", "adjacent-merge"]),
    seed=st.integers(0, 99),
)
def test_no_budget_is_ever_exceeded(
    token_budget: int, spare: int, max_entries: int, policy: str, seed: int
) -> None:
    probe = FrameMemory(FrameMemoryConfig(dim=DIM, max_entries=max_entries, policy=policy))
    budget = probe.min_bytes + spare
    memory = FrameMemory(
        FrameMemoryConfig(
            dim=DIM,
            policy=policy,
            max_entries=max_entries,
            token_budget=token_budget,
            byte_budget=budget,
        )
    )
    rng = np.random.default_rng(seed)
    for frame, row in zip(frames(25, 400, 300, seed), features(25, DIM, seed), strict=True):
        _, held = memory.observe("s", frame, row, query=rng.random() < 0.1)
        assert len(held.entries) <= max_entries
        assert held.tokens == sum(entry.tokens for entry in held.entries) <= token_budget
        assert held.nbytes == memory.nbytes("s") <= budget
        assert [e.seq for e in held.entries] == sorted(e.seq for e in held.entries)


def test_bytes_are_counted_exactly_and_stay_flat() -> None:
    memory = bare(DIM)
    rows = features(20_000, DIM)
    feed(memory, rows[:200])
    before = memory.nbytes("s")
    feed(memory, rows)
    assert memory.nbytes("s") == before
    state = memory.snapshot("s")
    assert sum(t.nbytes for t in state.tensors.values()) <= before


def test_pictures_are_kept_clear_or_blurred_and_decode() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM, token_budget=100_000, max_entries=100))
    held = watch(memory, 30, 640, 360)[-1]
    entries = memory.read("s")
    assert {e.tier for e in entries} == {"clear", "blurred"}
    for entry, shown in zip(entries, held.entries, strict=True):
        image = entry.image()
        assert image.shape == (entry.height, entry.width, 3)
        assert len(entry.jpeg) == shown.nbytes
        assert entry.tokens == tokens(entry.width, entry.height)
        if entry.tier == "clear":
            assert image.shape == (360, 640, 3)
        else:
            assert entry.tokens <= 64
            assert image.shape[1] / image.shape[0] == pytest.approx(640 / 360, rel=0.03)
    assert entries[0].reason == "warm-up"
    assert entries[0].time_base == Fraction(1, 1000)


def test_the_paper_queue_holds_the_last_twenty_blurred_ones_square() -> None:
    memory = FrameMemory(FrameMemoryConfig.paper(DIM))
    sizes = [len(held.entries) for held in watch(memory, 80, 320, 180)]
    entries = memory.read("s")
    assert max(sizes) == len(entries) == 20
    assert {(e.width, e.height) for e in entries if e.tier == "blurred"} == {(224, 224)}
    assert {(e.width, e.height) for e in entries if e.tier == "clear"} == {(320, 180)}


def test_clear_pictures_are_blurred_before_anything_is_dropped() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM, token_budget=1000, max_entries=100))
    kept = 0
    for held in watch(memory, 60, 640, 360):
        tiers = [entry.tier for entry in held.entries]
        if len(tiers) < kept:
            assert "clear" not in tiers[:-1]
        kept = len(tiers)
    assert kept > 3


def test_a_picture_beyond_the_clear_limit_is_scaled_down() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM, max_clear_tokens=200))
    watch(memory, 1, 1280, 720)
    (entry,) = memory.read("s")
    assert entry.tier == "clear"
    assert 150 < entry.tokens <= 200


def test_colours_survive_the_keeping() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 0], image[:, 48:, 2] = 220, 200
    kept = pictures.decode(pictures.encode(image), (96, 64))
    assert np.abs(kept.astype(int) - image).mean() < 4
    with pytest.raises(StateError, match="damaged or missing"):
        pictures.decode(b"\xff\xd8nonsense", (96, 64))


def test_reading_by_time_and_by_example() -> None:
    memory = bare(DIM)
    rows = features(200, DIM)
    entries = feed(memory, rows).entries
    some = memory.read("s", FrameQuery(start_s=20.0, end_s=60.0))
    assert [e.seq for e in some] == [e.seq for e in entries if 20 <= e.seconds <= 60]
    wanted = entries[7].seq
    near = memory.read("s", FrameQuery(embedding=3.0 * rows[wanted], k=1))
    assert [e.seq for e in near] == [wanted]
    top = memory.read("s", FrameQuery(embedding=rows[wanted], k=5))
    assert wanted in [e.seq for e in top]
    assert [e.seconds for e in top] == sorted(e.seconds for e in top)


def test_the_frame_of_a_question_is_held_clear() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM))
    row = features(1, DIM)[0]
    for frame in frames(20, 640, 360):
        route, held = memory.observe("s", frame, row, query=frame.seq == 19)
    assert route.reason == held.entries[-1].reason == "query"
    assert held.entries[-1].tier == "clear"


def test_gate_zero_keeps_a_frame_out() -> None:
    memory = bare(DIM)
    row = features(1, DIM)[0]
    route = memory.route("s", row, 0.0)
    held = memory.write("s", Item(None, 0, 0, Fraction(1), 0.0, row, route), gate=0.0)
    assert (held.seen, held.entries) == (1, ())


@pytest.mark.parametrize("paper", [False, True])
def test_a_restored_memory_goes_on_bit_for_bit(paper: bool) -> None:
    config = FrameMemoryConfig.paper(DIM) if paper else FrameMemoryConfig(dim=DIM, max_entries=8)
    one, two = FrameMemory(config), FrameMemory(config)
    rows = features(60, DIM)
    for frame, row in zip(frames(60), rows, strict=True):
        if frame.seq == 31:
            two.restore("s", one.snapshot("s"))
        first = one.observe("s", frame, row)
        if frame.seq >= 31:
            assert repr(two.observe("s", frame, row)) == repr(first)
    a, b = one.snapshot("s"), two.snapshot("s")
    assert a.header == b.header
    assert {k: v.tobytes() for k, v in a.tensors.items()} == {
        k: v.tobytes() for k, v in b.tensors.items()
    }


def test_two_streams_interleaved_are_two_streams() -> None:
    both, alone = bare(DIM), bare(DIM)
    rows = {name: features(120, DIM, seed) for seed, name in enumerate("ab")}
    for i in range(120):
        for name in "ab":
            route = both.route(name, rows[name][i], i / 2)
            item = Item(None, i, i, Fraction(1), i / 2, rows[name][i], route)
            both.write(name, item)
    for name in "ab":
        assert repr(both.held(name)) == repr(feed(alone, rows[name], name))


def test_black_frames_and_broken_features_do_no_harm() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM))
    rows = features(30, DIM)
    rows[5:10], rows[12] = 0.0, np.nan
    for frame, row in zip(frames(30), rows, strict=True):
        memory.observe("s", frame, row, query=frame.seq == 12)
    kept = {e.seq: e for e in memory.read("s")}
    assert not kept.keys() & set(range(5, 10))
    assert not kept[12].embedding.any()
    assert all(np.isfinite(e.embedding).all() for e in kept.values())


def test_shrinking_keeps_the_newest() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM))
    held = watch(memory, 60, 640, 360)[-1]
    memory.shrink_to("s", memory.min_bytes)
    small = memory.held("s")
    assert small.nbytes <= memory.min_bytes < held.nbytes
    assert small.entries[-1].seq == held.entries[-1].seq
    with pytest.raises(UsageError, match="cannot live in 1000 bytes"):
        memory.shrink_to("s", 1000)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(UsageError, match="needs at least .* bytes per stream"):
        FrameMemory(FrameMemoryConfig(byte_budget=1000))
    with pytest.raises(UsageError, match="max_entries must be at least 1"):
        FrameMemoryConfig(max_entries=0)
    with pytest.raises(UsageError, match="Did you mean 'robust'"):
        FrameMemoryConfig(policy="robus")
    with pytest.raises(UsageError, match=r"must be \[32\], got \[7\]"):
        bare(DIM).read("s", FrameQuery(embedding=np.zeros(7)))


@pytest.mark.parametrize("name", ["rows.tier", "rows.tokens", "background.mean", "router.numbers"])
def test_rows_that_cannot_be_are_refused_and_nothing_changes(name: str) -> None:
    memory = bare(DIM)
    feed(memory, features(100, DIM))
    state = memory.snapshot("s")
    broken = dict(state.tensors)
    broken[name] = broken[name] + np.asarray(100_000).astype(broken[name].dtype)
    if name.startswith(("background", "router")):
        broken[name] = broken[name][..., :-1]
    before = repr(memory.held("s"))
    with pytest.raises(StateError):
        memory.restore("s", type(state)(broken, state.header))
    assert repr(memory.held("s")) == before


def test_generated_frames_never_enter_a_memory() -> None:
    memory = FrameMemory(FrameMemoryConfig(dim=DIM))
    (first, frame), rows = frames(2), features(2, DIM)
    memory.observe("s", first, rows[0])
    before = repr(memory.held("s")), memory.snapshot("s").tensors["router.numbers"].tobytes()
    with pytest.raises(UsageError, match="Frame 1 of .* was made by a model"):
        memory.observe("s", replace(frame, meta={SYNTHETIC: True}), rows[1])
    route = bare(DIM).route("s", rows[1], 1.0)
    made = Item(frame.image, 1, 1, Fraction(1), 1.0, rows[1], route, synthetic=True)
    with pytest.raises(UsageError, match="never enters a memory"):
        memory.write("s", made)
    after = repr(memory.held("s")), memory.snapshot("s").tensors["router.numbers"].tobytes()
    assert after == before
