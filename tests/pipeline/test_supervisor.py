"""When a dead process is started again, and which frame is to blame: no process is needed."""

from __future__ import annotations

import signal
from random import Random

import pytest
from runtime_parts import frame

from retain.pipeline.graph import Graph
from retain.pipeline.ledger import Hand, Ledger
from retain.pipeline.mailbox import Mailbox
from retain.pipeline.metrics import EdgeStats, NodeStats
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.runners.accounts import Accounts
from retain.pipeline.runners.control import Port, Spec
from retain.pipeline.runners.supervisor import Record, Supervision, complaint

THREE = Supervision(restarts=3, window_s=10.0, hang_s=5.0, silent_s=2.0, start_s=20.0)


def died(record: Record, now: float, code: int = -11, hand: Hand | None = None) -> float | None:
    return record.died(now, code, hand, THREE, Random(0))


def test_the_budget_is_of_a_time_not_of_a_life() -> None:
    record = Record()
    assert [died(record, t) is not None for t in (0, 1, 2, 3)] == [True, True, True, False]
    assert died(record, 12.5) is not None, "three of the four are long ago"


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer() -> None:
    many = Supervision(restarts=20, window_s=1e9, backoff_s=0.5)
    waits = []
    for seed in range(200):
        record, rng = Record(), Random(seed)
        waits.append([record.died(t, -11, None, many, rng) or 0.0 for t in range(12)])
    most = [max(column) for column in zip(*waits, strict=True)]
    bounds = [0.0, *(min(0.5 * 2**n, 30.0) for n in range(11))]
    assert all(0.9 * bound <= wait <= bound for wait, bound in zip(most, bounds, strict=True))
    assert min(column[-1] for column in waits) < 3.0, "drawn from zero on: not all at one time"


def test_a_quiet_hour_is_forgotten() -> None:
    record = Record()
    assert died(record, 0) == 0.0
    assert died(record, 3600) == 0.0


@pytest.mark.parametrize(("code", "deaths"), [(-signal.SIGSEGV, 2), (1, 2), (-signal.SIGKILL, 3)])
def test_a_frame_is_convicted(code: int, deaths: int) -> None:
    record = Record()
    for death in range(deaths):
        assert record.poison == []
        died(record, death, code, (7, 7))
        died(record, death, code, (7, 8 + death))  # others are innocent
    assert record.poison == [(7, 7)]


@pytest.mark.parametrize(
    ("now", "beat", "busy", "says"),
    [
        (19.0, 0.0, 0.0, ""),
        (21.0, 0.0, 0.0, "did not start within 20 s"),
        (30.0, 29.0, 0.0, ""),
        (30.0, 27.0, 0.0, "gave no sign of life for 2 s"),
        (30.0, 29.0, 26.0, ""),
        (30.0, 29.0, 24.0, "worked on one frame for more than 5 s"),
    ],
)
def test_complaints(now: float, beat: float, busy: float, says: str) -> None:
    assert complaint(THREE, now, 0.0, beat, busy) == says


def test_before_its_first_packet_a_process_may_be_silent_while_libraries_are_loaded() -> None:
    assert complaint(THREE, 40.0, 0.0, 21.0, 0.0, worked=False) == ""
    assert "for 20 s" in complaint(THREE, 42.0, 0.0, 21.0, 0.0, worked=False)


def spec(name: str, role: str, inputs: list[str], outputs: list[str]) -> Spec:
    block = Policy.parse("drop_oldest(2)")
    return Spec(
        name, role, "x:y", {}, 0, "/tmp", "ipc://c", 1, 1,  # type: ignore[arg-type]
        [Port(peer, block, "a") for peer in inputs],
        [Port(peer, block, "a") for peer in outputs],
        4,
    )  # fmt: skip


def graph() -> Graph:
    made = Graph(promise="live")
    made.source("a", "x:y")
    made.stage("b", "x:y")
    made.sink("c", "x:y")
    made.connect("a", "b", "c", policy="drop_oldest(2)")
    return made


def test_a_death_between_two_neighbours_adds_up() -> None:
    """b had 10 sent to it, took 8, finished 7; it gave 7, of which 3 waited and 1 never came."""
    accounts, ledger, box = Accounts(graph()), Ledger(1, 1), Mailbox(Policy.parse("drop_oldest(3)"))
    for _ in range(8):
        ledger.took(0)
    ledger.count("finished", 7)
    for seq in range(7):
        box.put(Packet(frame(seq)))
        if seq < 4:
            assert box.get()
    ledger.note(0, box)
    accounts.bury(spec("b", "stage", ["a"], ["c"]), ledger)
    assert accounts.owed(("a", "b")) == 8
    accounts.settle(("b", "c"), arrived=3)
    b = accounts.node(NodeStats("b", "stage"))
    assert (b.received, b.failed) == (8, 1)
    edge = accounts.edge(None, ("b", "c"), gone=0)
    assert (edge.captured, edge.delivered, edge.dropped) == (7, 3, {"crashed": 4})
    later = EdgeStats("b", "c", "", captured=5, delivered=4, dropped={"stale": 1})
    total = accounts.edge(later, ("b", "c"), gone=1)
    assert (total.captured, total.delivered) == (12, 6)
    assert total.dropped == {"crashed": 5, "stale": 1}


def test_the_frame_in_hand_survives_in_the_ledger() -> None:
    ledger = Ledger(1, 0)
    assert ledger.hand is None
    ledger.take(frame(5))
    assert ledger.hand is not None
    assert ledger.hand[1] == 5
    ledger.let_go()
    assert ledger.hand is None
