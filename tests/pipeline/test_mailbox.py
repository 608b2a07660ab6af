from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_parts import frame

from retain.pipeline.frame import Frame
from retain.pipeline.mailbox import Mailbox, RateGate
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.wire import Barrier

POLICIES = ["block", "latest", "drop_oldest(3)", "drop_newest(3)", "rate(10)"]


def packet(seq: int, width: int = 16, stream: str = "s") -> Packet:
    return Packet(frame(seq, width, stream=stream))


def seqs(box: Mailbox) -> list[int]:
    out = []
    while (got := box.get()) is not None:
        out.append(got.frame.seq)
    return out


@given(
    st.sampled_from(POLICIES),
    st.integers(400, 4000),
    st.lists(st.one_of(st.integers(1, 100), st.just("get"), st.just("clear")), max_size=80),
)
def test_every_packet_is_accounted_for(policy: str, limit: int, steps: list[int | str]) -> None:
    box, seq = Mailbox(Policy.parse(policy), max_bytes=limit), 0
    got, lost, put = [], [], []
    for step in steps:
        if step == "get":
            got += [item.frame.seq] if (item := box.get()) else []
        elif step == "clear":
            lost += [item.frame.seq for item, _ in box.clear("stopped")]
        elif box.room(item := packet(seq, width=int(step))):
            lost += [item.frame.seq for item, _ in box.put(item)]
            put.append(seq)
            seq += 1
        assert box.captured == box.delivered + sum(box.dropped.values()) + len(box) == len(put)
        assert len(box) <= box.policy.depth
        assert box.nbytes <= limit or len(box) == 1
    assert got == sorted(got), "order is kept"
    assert sorted(got + lost + seqs(box)) == put, "nothing lost twice, nothing made up"
    assert box.nbytes == 0


@given(
    st.sampled_from(POLICIES),
    st.lists(st.sampled_from(["put", "put", "put", "get", "mark"]), max_size=60),
)
def test_a_barrier_keeps_its_place(policy: str, steps: list[str]) -> None:
    """What comes out before it was put before it, what comes after was put after; none is lost."""
    box, seq, number = Mailbox(Policy.parse(policy)), 0, 0
    put_before: dict[int, int] = {}
    came: list[int] = []

    def take() -> bool:
        if barrier := box.barrier:
            box.pass_barrier()
            before = put_before.pop(barrier.number)
            assert all(seq < before for seq in came)
            floor.append(before)
            return True
        if item := box.get():
            came.append(item.frame.seq)
            assert item.frame.seq >= floor[-1]
            return True
        return False

    floor = [0]
    for step in steps:
        if step == "get":
            take()
        elif step == "mark":
            number += 1
            put_before[number] = seq
            box.mark(Barrier(number))
        elif box.room(item := packet(seq)):
            box.put(item)
            seq += 1
        assert box.captured == box.delivered + sum(box.dropped.values()) + len(box)
    while take():
        pass
    assert put_before == {}, "every barrier came"


@pytest.mark.parametrize("policy", ["latest", "drop_oldest(3)", "rate(1)"])
def test_the_mark_of_a_gap_outlives_its_frame(policy: str) -> None:
    box = Mailbox(Policy.parse(policy))
    marked = replace(frame(3), discontinuity=True)
    for seq in range(40):
        box.put(Packet(marked) if seq == 3 else packet(seq))
    came = [box.get() for _ in range(len(box))]
    assert [item.frame.discontinuity for item in came if item] == [True] + [False] * (len(came) - 1)


def test_the_mark_of_a_refused_frame_goes_to_a_later_one() -> None:
    box = Mailbox(Policy.parse("drop_newest(2)"))
    for seq in range(3):
        box.put(Packet(replace(frame(seq), discontinuity=seq == 2)))
    before = [box.get() for _ in range(2)]
    assert [item.frame.discontinuity for item in before if item] == [False, False]
    box.put(packet(3))
    after = box.get()
    assert after is not None
    assert after.frame.discontinuity


@pytest.mark.parametrize(
    ("policy", "kept", "cause"),
    [
        ("latest", [9], "stale"),
        ("drop_oldest(3)", [7, 8, 9], "stale"),
        ("drop_newest(3)", [0, 1, 2], "full"),
        ("rate(10)", [9], "rate"),
    ],
)
def test_who_loses(policy: str, kept: list[int], cause: str) -> None:
    box = Mailbox(Policy.parse(policy))
    for seq in range(10):
        box.put(packet(seq))
    assert box.dropped[cause] > 0  # type: ignore[index]
    assert seqs(box) == kept


def test_block_makes_the_producer_wait_by_depth_and_by_bytes() -> None:
    box = Mailbox(Policy.parse("block"), max_bytes=2 * packet(0).frame.nbytes)
    box.put(packet(0))
    box.put(packet(1))
    assert not box.room(packet(2))
    box.get()
    assert box.room(packet(2))
    box.put(packet(2))
    with pytest.raises(AssertionError, match="wait for room"):
        box.put(packet(3))


def test_bytes_push_out_the_oldest_and_say_so() -> None:
    box = Mailbox(Policy.parse("drop_oldest(9)"), max_bytes=2 * packet(0).frame.nbytes)
    for seq in range(3):
        box.put(packet(seq))
    assert dict(box.dropped) == {"bytes": 1}
    assert seqs(box) == [1, 2]


@given(st.sampled_from([1.0, 2.0, 5.0, 7.5, 29.97]), st.lists(st.integers(1, 9), max_size=200))
def test_rate_is_never_above_its_number(fps: float, gaps: list[int]) -> None:
    gate, pts, passed = RateGate(fps), 0, 0
    for gap in gaps:
        pts += gap
        passed += gate.passes(at(pts))
    seconds = pts / 60
    assert passed <= seconds * fps + 1


def at(pts: int, stream: str = "s") -> Packet:
    return Packet(Frame(stream, 0, pts, Fraction(1, 60), np.zeros((1, 1, 3), np.uint8)))


def test_rate_hits_its_number_and_goes_by_stream() -> None:
    gate = RateGate(10)
    assert sum(gate.passes(at(pts)) for pts in range(600)) == 100
    assert gate.passes(at(0, "other"))


def test_time_that_runs_backwards_starts_again() -> None:
    gate = RateGate(10)
    assert [gate.passes(at(pts)) for pts in (6000, 6001, 0, 1, 6)] == [
        True,
        False,
        True,
        False,
        True,
    ]
