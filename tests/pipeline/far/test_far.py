"""An edge between hosts: order, end, policies, accounts, what is refused, and coming back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from far_parts import balanced, far, in_thread, packet, raw_peer
from waiting import until

from retain.pipeline import wire
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.far import line as line_module
from retain.pipeline.far import sender as sender_module
from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink
from retain.pipeline.far.wire import Beat, Leave, Picture, Want
from retain.pipeline.graph import Graph
from retain.pipeline.results import Embedding
from retain.pipeline.run import start


def test_block_loses_nothing_keeps_order_pixels_results_and_the_end(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    out = sink("block")
    into = source(out)

    def send() -> None:
        for seq in range(60):
            out.process(packet(seq).plus(e=Embedding(np.full(3, seq, np.float32), "e")))
        out.flush()

    done = in_thread(send)
    got = list(into.packets())
    done.join(20)
    assert [p.frame.seq for p in got] == list(range(60))
    assert all((p.frame.image == p.frame.seq % 251).all() for p in got)
    assert all(p.get("e", Embedding).vector[0] == p.frame.seq for p in got)
    assert not any(p.frame.discontinuity for p in got)
    stats = out.stats()
    assert (stats["captured"], stats["delivered"], stats["receivers"]) == (60, 60, 0)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("latest", [19]), ("drop_oldest(3)", [17, 18, 19]), ("drop_newest(3)", [2, 3, 4])],
)
def test_who_is_lost_is_decided_by_the_policy_at_the_sender(
    sink: Callable[..., FarSink], source: Callable[..., FarSource], policy: str, kept: list[int]
) -> None:
    out = sink(policy)
    into = source(out, credit=2)
    for seq in range(2):  # these use up the credit: nobody takes them
        out.process(packet(seq))
        until(lambda seq=seq: into.stats()["waiting"] == seq + 1)
    for seq in range(2, 20):
        out.process(packet(seq))
    assert balanced(out)
    assert out.stats()["waiting"] == len(kept)
    done = in_thread(out.flush)
    assert [f.seq for f in into.frames()] == [0, 1, *kept]
    done.join(20)
    assert balanced(out)


def test_age_stays_bounded_under_overload(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    """A consumer at a tenth of the rate sees frames at most credit + 1 behind the newest."""
    out = sink("latest")
    into = source(out, credit=1)
    newest = 0
    frames = into.frames()
    for turn in range(10):
        for _ in range(10):
            out.process(packet(newest))
            newest += 1
        behind = newest - 1 - next(frames).seq
        assert behind <= 20, turn
        time.sleep(0.02)
    assert balanced(out)


def test_each_receiver_has_its_own_mailbox(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    out = sink("latest")
    slow, fast = source(out, credit=1), source(out, credit=1)
    frames = fast.frames()
    seen = []
    for seq in range(20):
        out.process(packet(seq))
        seen.append(next(frames).seq)
    assert seen == list(range(20))
    assert out.stats()["dropped_stale"] == 18, "the slow one holds one, and one waits for it"
    assert slow.stats()["waiting"] == 1
    assert balanced(out)


def test_nobody_there_is_no_loss_and_is_counted(sink: Callable[..., FarSink]) -> None:
    out = sink("latest")
    out.process(packet(0))
    assert (out.stats()["unheard"], out.stats()["captured"]) == (1, 0)


def test_a_silent_receiver_is_dropped_and_what_it_missed_is_gone(
    sink: Callable[..., FarSink], made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sink("drop_oldest(8)")
    peer = raw_peer(out, made)
    peer.send(wire.pack(Want(7, 2, 0, 1, (0, 0))))
    assert peer.poll(10_000)
    for seq in range(5):
        out.process(packet(seq))
    until(lambda: out.stats()["waiting"] == 3)
    monkeypatch.setattr(sender_module, "SILENCE_S", 0.0)
    until(lambda: out.stats()["receivers"] == 0)
    stats = out.stats()
    assert (stats["captured"], stats["delivered"], stats["receivers_lost"]) == (5, 0, 1)
    assert stats["dropped_gone"] == 5, "three waited; two were sent and never confirmed"
    assert balanced(out)


def test_who_comes_back_says_what_had_come(sink: Callable[..., FarSink], made: list[Any]) -> None:
    """Unconfirmed is not lost: two of five had come, the third was on its way, two waited."""
    out = sink("drop_oldest(8)")
    peer = raw_peer(out, made)
    peer.send(wire.pack(Want(7, 3, 0, 1, (0, 0))))
    assert peer.poll(10_000)
    peer.recv()
    for seq in range(5):
        out.process(packet(seq))
    until(lambda: out.stats()["waiting"] == 2)
    assert peer.poll(10_000)
    first = wire.unpacker(Picture)(peer.recv_multipart()[0])
    again = raw_peer(out, made)
    again.send(wire.pack(Want(7, 0, 0, 2, (first.link, 2))))
    assert again.poll(10_000)
    stats = out.stats()
    assert (stats["captured"], stats["delivered"], stats["dropped_gone"]) == (5, 2, 3)
    again.send(wire.pack(Want(7, 0, 0, 3, (first.link, 3))))  # what was said stays
    assert again.poll(10_000)
    again.recv()
    assert out.stats()["delivered"] == 2
    assert balanced(out)


def test_a_line_that_breaks_loses_nothing_that_had_come(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    out = sink("drop_oldest(16)")
    into = source(out, credit=8)
    for seq in range(8):
        out.process(packet(seq))
    until(lambda: into.stats()["waiting"] == 8)
    line, io = into._line, into._io
    assert line
    assert io
    io.call(lambda: line._again("lost"))
    until(lambda: into.stats()["connections"] == 2)
    stats = out.stats()
    assert (stats["captured"], stats["delivered"]) == (8, 8)
    assert not stats.get("dropped_gone")


def test_who_leaves_says_what_had_come(sink: Callable[..., FarSink], made: list[Any]) -> None:
    out = sink("drop_oldest(8)")
    peer = raw_peer(out, made)
    peer.send(wire.pack(Want(7, 2, 0, 1, (0, 0))))
    assert peer.poll(10_000)
    for seq in range(2):
        out.process(packet(seq))
    until(lambda: not out.stats()["waiting"])
    peer.send(wire.pack(Leave(1)))
    until(lambda: out.stats()["receivers"] == 0)
    stats = out.stats()
    assert (stats["delivered"], stats["dropped_gone"], stats["receivers_lost"]) == (1, 1, 0)


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_source_that_broke_is_no_end_at_the_receiver(made: list[Any], runner: Any) -> None:
    """Through a stage in between, as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    graph = Graph(promise="live")
    graph.source("cam", "runtime_parts:Clip", frames=3, fault="broken")
    graph.stage("mean", "runtime_parts:Mean")
    graph.sink(
        "far",
        "retain.pipeline.far.sender:FarSink",
        address=f"tcp://127.0.0.1:{port}",
        policy="block",
    )
    graph.connect("cam", "mean", "far")
    with start(graph, runner=runner) as run:
        into = FarSource(f"far://127.0.0.1:{port}", timeout=20.0)
        made.append(into)
        with pytest.raises(SourceError, match="The clip broke.") as broke:
            list(into.frames())
        assert broke.value.fault is SourceFault.BROKEN
        assert broke.value.decoded == 3
        report = run.wait(20)
    assert [error.node for error in report.errors] == ["cam"]


def test_a_sender_that_comes_back_goes_on_with_a_discontinuity(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    first = sink("block")
    into = source(first)
    frames = into.frames()
    for seq in range(3):
        first.process(packet(seq))
    before = [next(frames) for _ in range(3)]
    first._io.close()  # as when its process dies: no end is said
    second = sink("block", first.address)
    for seq in range(3):
        second.process(packet(seq))
    after = [next(frames) for _ in range(3)]
    assert [f.discontinuity for f in before + after] == [False] * 3 + [True, False, False]
    assert [f.seq for f in before + after] == list(range(6))
    times = [f.pts for f in before + after]
    assert times == sorted(set(times))
    assert into.stats()["connections"] == 2


def test_sampling_goes_on_after_the_sender_came_back(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    """At 10 of 30 frames a second every third is kept; the second sender's times start at 0."""
    first = sink("block")
    frames = source(first, fps=10.0, credit=16).frames()
    for seq in range(10):
        first.process(packet(seq))
    before = [next(frames) for _ in range(4)]
    first._io.close()
    second = sink("block", first.address)
    for seq in range(10):
        second.process(packet(seq))
    after = [next(frames) for _ in range(3)]
    assert [f.seq for f in before] == [0, 3, 6, 9]
    shown = [int(f.image[0, 0, 0]) for f in after]  # which ones, the length of the gap decides
    assert shown == sorted(set(shown))
    assert shown[2] - shown[1] == 3
    assert [f.discontinuity for f in after] == [True, False, False]


def test_cut_short_is_not_the_end(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    out = sink("block")
    into = source(out)
    out.process(packet(0))
    until(lambda: into.stats()["waiting"] == 1)
    out.close()
    with pytest.raises(SourceError, match="was stopped") as caught:
        list(into.frames())
    assert (caught.value.fault, caught.value.decoded) == (SourceFault.BROKEN, 1)


def test_a_sender_that_is_gone_for_good_is_a_stall(sink: Callable[..., FarSink]) -> None:
    out = sink("block")
    into = FarSource(far(out), timeout=0.5)
    into.open()
    out._io.close()
    with pytest.raises(SourceError, match="No sign of it") as caught:
        list(into.frames())
    assert caught.value.fault is SourceFault.STALLED


def test_no_answer_is_a_timeout(sink: Callable[..., FarSink]) -> None:
    out = sink()
    out.close()
    with pytest.raises(SourceError, match="No answer") as caught:
        FarSource(far(out), timeout=0.3).open()
    assert caught.value.fault is SourceFault.TIMEOUT


def test_closing_wakes_whoever_waits(
    sink: Callable[..., FarSink], source: Callable[..., FarSource]
) -> None:
    out = sink("block")
    into = source(out)
    waiting = in_thread(lambda: list(into.frames()))
    into.close()
    waiting.join(20)
    blocked = in_thread(lambda: [out.process(packet(seq)) for seq in range(9)])
    until(lambda: out.stats()["receivers"] == 0)
    out.close()
    blocked.join(20)
    assert not waiting.is_alive()
    assert not blocked.is_alive()


def test_times_of_the_other_host_are_told_by_our_clock() -> None:
    clock = line_module.Clock()
    now = time.monotonic_ns()
    ahead = 10**15
    for trip_ms in (50, 4, 90):
        trip = trip_ms * 10**6
        clock.answered(Beat(now - trip, now - trip // 2 + ahead), now)
    assert clock.error_ns == 2 * 10**6
    assert abs(clock.ours(now - 10**9 + ahead) - (now - 10**9)) <= clock.error_ns
    assert clock.ours(now + 10**18 + ahead) <= time.monotonic_ns(), "never in the future"


def test_wrong_use_is_said_in_words(sink: Callable[..., FarSink]) -> None:
    with pytest.raises(UsageError, match="open to every host"):
        sink(address="tcp://0.0.0.0:*")
    with pytest.raises(UsageError, match="open to every host"):
        sink(address="tcp://*:5555")
    with pytest.raises(UsageError, match="not be encrypted"):
        FarSource("far://192.0.2.1:5555")
    with pytest.raises(UsageError, match="Did you mean 'jpeg'"):
        sink(codec="jpg")
    with pytest.raises(UsageError, match="belong together"):
        sink(key="a")
    with pytest.raises(UsageError, match="cannot be listened at"):
        sink(address=sink().address)
    with pytest.raises(UsageError, match="no address"):
        sink(address="ipc:///tmp/x")
    with pytest.raises(UsageError, match="no option 'kee'"):
        FarSource("far://127.0.0.1:1?kee=1")


def test_insecure_is_asked_for_and_warned_of(
    sink: Callable[..., FarSink], caplog: pytest.LogCaptureFixture
) -> None:
    sink(address="tcp://0.0.0.0:*", insecure=True)
    assert sum("open to everyone" in record.message for record in caplog.records) == 1
