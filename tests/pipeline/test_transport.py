"""One suite for every transport: an edge keeps its policy, its order, its pixels and its end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import zmq
from runtime_parts import frame
from waiting import until

from retain.pipeline.errors import WireError
from retain.pipeline.metrics import EdgeStats
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.transport.base import Stopped
from retain.pipeline.transport.inproc import Inbox, InprocSender
from retain.pipeline.transport.io import IoThread
from retain.pipeline.transport.ipc import IpcInbox, IpcSender, Releases, edge_address
from retain.pipeline.transport.store import Store
from retain.pipeline.wire import End, Fault

SLOTS = 16


class AnyEdge(Protocol):
    inbox: Inbox

    def send(self, packet: Packet) -> None: ...
    def end(self, fault: Fault | None = None) -> None: ...
    def stats(self) -> EdgeStats: ...
    def abort(self) -> None: ...


class InprocEdge:
    def __init__(self, policy: str, folder: Path) -> None:
        self.inbox = Inbox("b", {"a": Policy.parse(policy)})
        self._sender = InprocSender("a", self.inbox)
        self.send, self.end, self.stats = self._sender.send, self._sender.end, self._sender.stats
        self.abort = self.inbox.abort

    def close(self) -> None: ...


@dataclass
class IpcEdge:
    """Two ends as two processes would have them, each with its own sockets and memory."""

    policy: str
    folder: Path
    errors: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        policy, folder = Policy.parse(self.policy), str(self.folder)
        address = edge_address(folder, 0, 1)
        self.io = [IoThread(f"test-{end}", self.errors.append) for end in "ab"]
        self.stores = [Store(owner, SLOTS, io.wake) for owner, io in enumerate(self.io)]
        self.sender = IpcSender("a", "b", policy, address, self.io[0], self.stores[0])
        self.inbox = IpcInbox("b", {"a": policy}, {"a": address}, self.io[1], self.stores[1])
        for end in (0, 1):
            Releases(folder, self.io[end], self.stores[end], owns=end == 0)
            self.io[end].start()
        self.end, self.stats = self.sender.end, self.sender.stats

    def send(self, packet: Packet) -> None:
        self.sender.send(self.stores[0].place(packet, 1))

    def abort(self) -> None:
        self.stores[0].abort()
        self.sender.abort()
        self.inbox.abort()

    def close(self) -> None:
        for io in self.io:
            io.close()
        assert self.errors == []


MakeEdge = Callable[[str], AnyEdge]


@pytest.fixture(params=[InprocEdge, IpcEdge])
def make_edge(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeEdge]:
    edges = []

    def make(policy: str) -> AnyEdge:
        edges.append(request.param(policy, tmp_path_factory.mktemp("e")))
        return edges[-1]

    yield make
    for edge in edges:
        edge.close()


@pytest.fixture
def ipc(tmp_path: Path) -> Iterator[IpcEdge]:
    edge = IpcEdge("block", tmp_path)
    yield edge
    edge.close()


def packet(seq: int, **kw: int) -> Packet:
    return Packet(frame(seq, **kw))


def take_all(edge: AnyEdge) -> tuple[list[int], End]:
    """Everything until the end, each picture checked on the way."""
    seqs = []
    while not isinstance(item := edge.inbox.recv(20), End):
        assert item is not None, "nothing came for 20 s"
        assert (item.frame.image == item.frame.seq % 251).all()
        seqs.append(item.frame.seq)
    return seqs, item


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("latest", [9]),
        ("drop_oldest(3)", [7, 8, 9]),
        ("drop_newest(3)", [0, 1, 2]),
        ("rate(10)", [9]),
    ],
)
def test_an_edge_that_drops_never_waits_and_keeps_whom_it_says(
    make_edge: MakeEdge, policy: str, kept: list[int]
) -> None:
    edge = make_edge(policy)
    for seq in range(10):
        edge.send(packet(seq))
    edge.end()
    assert take_all(edge)[0] == kept
    stats = edge.stats()
    assert stats.captured == 10
    assert stats.delivered == len(kept)
    assert sum(stats.dropped.values()) == 10 - len(kept)


def test_block_loses_nothing_and_keeps_order(make_edge: MakeEdge) -> None:
    edge = make_edge("block")
    done = in_thread(lambda: ([edge.send(packet(seq)) for seq in range(100)], edge.end()))
    assert take_all(edge)[0] == list(range(100))
    done.join(20)
    assert edge.stats().captured == edge.stats().delivered == 100


def test_block_makes_the_producer_wait(make_edge: MakeEdge) -> None:
    edge = make_edge("block")
    sent: list[int] = []
    done = in_thread(lambda: [(edge.send(packet(seq)), sent.append(seq)) for seq in range(60)])
    for _ in range(50):
        assert isinstance(edge.inbox.recv(20), Packet)
    assert len(sent) <= 50 + 4 + 3 + 1
    while done.is_alive():
        edge.inbox.recv(0.1)


def test_packets_may_be_taken_while_they_are_sent(make_edge: MakeEdge) -> None:
    edge = make_edge("latest")
    done = in_thread(lambda: ([edge.send(packet(seq)) for seq in range(300)], edge.end()))
    seqs, _ = take_all(edge)
    done.join(20)
    stats = edge.stats()
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == 299, "the newest always arrives"
    assert stats.captured == 300 == stats.delivered + sum(stats.dropped.values()) + stats.waiting
    assert stats.delivered == len(seqs)


def test_the_end_comes_last_and_carries_the_fault(make_edge: MakeEdge) -> None:
    edge = make_edge("block")
    edge.send(packet(0))
    edge.end(Fault("a", "error", "because"))
    assert take_all(edge) == ([0], End(Fault("a", "error", "because")))


def test_nothing_there_is_none(make_edge: MakeEdge) -> None:
    assert make_edge("latest").inbox.recv(0.01) is None


def test_results_and_times_travel(make_edge: MakeEdge) -> None:
    edge = make_edge("block")
    sent = packet(7)
    edge.send(sent)
    got = edge.inbox.recv(20)
    assert isinstance(got, Packet)
    assert (got.frame.pts, got.frame.time_base) == (7, sent.frame.time_base)
    assert got.frame.t_arrival_ns == sent.frame.t_arrival_ns
    assert not got.frame.image.flags.writeable


def test_abort_wakes_both_ends(make_edge: MakeEdge) -> None:
    edge = make_edge("block")
    outcomes: list[str] = []

    def until_stopped(step: Callable[[], object]) -> None:
        try:
            while True:
                step()
        except Stopped:
            outcomes.append("stopped")

    producer = in_thread(lambda: until_stopped(lambda: edge.send(packet(0))))
    while edge.stats().captured < 4:
        pass
    edge.abort()
    producer.join(20)
    with pytest.raises(Stopped):
        edge.inbox.recv(20)
    assert outcomes == ["stopped"]
    stats = edge.stats()
    assert stats.captured == stats.delivered + sum(stats.dropped.values()) + stats.waiting


def test_pixels_stay_valid_while_anyone_looks(ipc: IpcEdge) -> None:
    held: list[np.ndarray] = []
    done = in_thread(lambda: ([ipc.send(packet(seq)) for seq in range(60)], ipc.end()))
    for seq in range(60):
        item = ipc.inbox.recv(20)
        assert isinstance(item, Packet)
        if seq < 5:
            held.append(item.frame.image[2:4, 3])  # a view of a view is enough
    done.join(20)
    del item
    assert [int(view[0, 0]) for view in held] == [0, 1, 2, 3, 4]
    assert all((view == seq).all() for seq, view in enumerate(held))


def test_every_slot_comes_home(ipc: IpcEdge) -> None:
    in_thread(lambda: ([ipc.send(packet(seq)) for seq in range(100)], ipc.end()))
    take_all(ipc)
    gc.collect()
    ring = ipc.stores[0]._ring
    assert ring is not None
    until(lambda: ring.idle)
    assert [store.held for store in ipc.stores] == [0, 0]


def test_no_pixel_goes_through_a_socket(ipc: IpcEdge) -> None:
    in_thread(lambda: ([ipc.send(packet(s, width=640, height=480)) for s in range(20)], ipc.end()))
    take_all(ipc)
    assert ipc.sender.sent_bytes < 20 * 300


def test_a_larger_picture_gets_a_larger_ring(ipc: IpcEdge) -> None:
    sizes = [16, 16, 640, 640, 16, 1280]
    in_thread(lambda: ([ipc.send(packet(n, width=w)) for n, w in enumerate(sizes)], ipc.end()))
    held = [ipc.inbox.recv(20) for _ in sizes]
    assert [item.frame.width for item in held if isinstance(item, Packet)] == sizes
    assert all((p.frame.image == n).all() for n, p in enumerate(held) if isinstance(p, Packet))
    assert len(ipc.stores[0]._retired) == 2
    held.clear()
    until(lambda: not ipc.stores[0]._retired)


def test_forwarding_copies_nothing(ipc: IpcEdge) -> None:
    ipc.send(packet(3))
    item = ipc.inbox.recv(20)
    assert isinstance(item, Packet)
    placed = ipc.stores[1].place(item, 2)
    assert placed is item
    refs = [ipc.stores[1].ticket(placed), ipc.stores[1].ticket(placed)]
    assert ipc.stores[1]._ring is None
    images = [ipc.stores[1].open(ref) for ref in refs]
    del item, placed
    assert all((image == 3).all() for image in images)
    assert not ipc.stores[0]._ring.idle  # type: ignore[union-attr]
    images.clear()
    until(lambda: ipc.stores[0]._ring.idle)  # type: ignore[union-attr]


def test_a_share_split_too_often_is_copied_instead(ipc: IpcEdge) -> None:
    ipc.send(packet(3))
    item = ipc.inbox.recv(20)
    assert isinstance(item, Packet)
    while (placed := ipc.stores[1].place(item, 1)) is item:
        ipc.stores[1].ticket(item)  # tickets that never come home
    assert (placed.frame.image == 3).all()


def test_a_changed_crop_is_copied(ipc: IpcEdge) -> None:
    ipc.send(packet(3))
    item = ipc.inbox.recv(20)
    assert isinstance(item, Packet)
    from dataclasses import replace

    crop = Packet(replace(item.frame, image=item.frame.image[2:]))
    assert ipc.stores[1].place(crop, 1).frame.image.shape == (6, 16, 3)
    assert ipc.stores[1]._ring is not None


def test_a_stale_or_foreign_ticket_is_refused(ipc: IpcEdge) -> None:
    import msgspec

    ref = ipc.stores[0].ticket(ipc.stores[0].place(packet(1), 1))
    change = msgspec.structs.replace
    reader = ipc.stores[1]
    with pytest.raises(WireError, match="after its picture had been replaced"):
        reader.open(change(ref, generation=ref.generation + 1))
    with pytest.raises(WireError, match="points outside"):
        reader.open(change(ref, slot=99))
    with pytest.raises(WireError, match="points outside"):
        reader.open(change(ref, height=32_768))
    with pytest.raises(WireError, match="no longer there"):
        reader.open(change(ref, ring=ref.ring + 2))
    with pytest.raises(WireError, match="gone with the process"):
        reader.open(change(ref, ring=ref.ring + 4, fd=99_999))


def test_shares_that_were_never_given_are_refused(ipc: IpcEdge) -> None:
    store = ipc.stores[0]
    placed = store.place(packet(1), 1)
    ref = store.ticket(placed)
    from retain.pipeline.transport.ring import Share

    with pytest.raises(WireError, match="not given out"):
        store.returned([Share(0, ref.ring, ref.slot, ref.generation + 1, 1)])
    with pytest.raises(WireError, match="not given out"):
        store.returned([Share(0, ref.ring, ref.slot, ref.generation, (1 << 62) + 1)])


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_socket_forgotten_by_another_s_handler_is_no_error() -> None:
    """A message that says "this line is dead" and one on that line may come at once."""
    errors: list[Exception] = []
    io = IoThread("test", errors.append)
    seen: list[str] = []
    pulls: dict[str, zmq.Socket[bytes]] = {}

    def handler(name: str, other: str) -> Callable[[list[bytes]], None]:
        def on_message(parts: list[bytes]) -> None:
            seen.append(name)
            if other in pulls:
                io.drain(pulls[other])
                io.forget(pulls.pop(other))

        return on_message

    for name, other in (("a", "b"), ("b", "")):
        pulls[name] = io.socket(zmq.PULL, bind=f"inproc://{name}", on_message=handler(name, other))
    both = [io._context.socket(zmq.PUSH) for _ in pulls]
    for push, name in zip(both, pulls, strict=True):
        push.connect(f"inproc://{name}")
        push.send(b"x")
    io.start()
    done = threading.Event()
    io.call(lambda: io.call(done.set))
    assert done.wait(10)
    for push in both:
        push.close(0)
    io.close()
    assert errors == []
    assert seen == ["a", "b"]
