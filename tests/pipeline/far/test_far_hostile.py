"""What an edge between hosts refuses: malformed requests, pictures that lie or nobody asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import zmq
from far_parts import in_thread, packet, raw_peer
from waiting import until

from retain.pipeline import wire
from retain.pipeline.errors import WireError
from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink
from retain.pipeline.far.wire import Beat, Picture, Want


@pytest.mark.parametrize(
    "bad",
    [
        [b""],
        [b"\xc1"],
        [b"x" * 100],
        [wire.pack(Beat(1, 1))],
        [wire.pack(Want(7, 1000, 0, 1, (0, 0)))],
        [wire.pack(Want(7, 0, 5, 1, (0, 0))), b"more"],
        [msgspec.msgpack.encode(["far-want/1", 7, 1, 0, 1])],
        [msgspec.msgpack.encode(["far-want/2", 7, 1, 0, 1, [0, 0], 1])],
        [msgspec.msgpack.encode(["far-want/2", 7, -1, 0, 1, [0, 0]])],
    ],
)
def test_a_malformed_request_is_refused_counted_and_the_line_kept(
    sink: Callable[..., FarSink], made: list[Any], bad: list[bytes]
) -> None:
    out = sink("block")
    peer = raw_peer(out, made)
    peer.send_multipart(bad)
    peer.send(wire.pack(Want(7, 1, 0, 5, (0, 0))))
    assert peer.poll(10_000)
    assert wire.unpacker(Beat)(peer.recv()).asked_ns == 5
    assert out.stats()["refused"] == 1
    out.process(packet(3))
    assert peer.poll(10_000)
    assert len(peer.recv_multipart()) == 2


class Liar:
    """A sender that answers properly, and sends what it is told."""

    def __init__(self, made: list[Any]) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"far://127.0.0.1:{port}"
        self.send: list[list[bytes]] = []
        self._stop = False
        self._thread = in_thread(self._run)
        made.append(self)

    def _run(self) -> None:
        want = wire.unpacker(Want)
        while not self._stop:
            if not self.socket.poll(20):
                continue
            route, data = self.socket.recv_multipart()
            with suppress(WireError):
                asked = want(data).asked_ns
                if asked:
                    self.socket.send_multipart([route, wire.pack(Beat(asked, 1))])
            while self.send:
                self.socket.send_multipart([route, *self.send.pop(0)])

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        self.context.destroy(0)


def picture(seq: int, data: bytes, **changes: Any) -> list[bytes]:
    good = Picture.of(packet(seq), 9, "raw", *packet(seq).frame.image.shape[:2], len(data))
    return [wire.pack(msgspec.structs.replace(good, **changes)), data]


RAW = bytes(8 * 16 * 3)


@pytest.mark.parametrize(
    "bad",
    [
        [b"\xc1"],
        [b"\xc1", b"pixels"],
        picture(1, RAW)[:1],
        [*picture(1, RAW), b"more"],
        picture(1, RAW, nbytes=5),
        picture(1, RAW, height=9),
        picture(1, RAW, codec="png"),
        picture(1, RAW, codec="jpeg"),
        picture(1, RAW, height=30_000, width=30_000),
    ],
)
def test_a_malformed_picture_is_refused_counted_and_the_line_kept(
    made: list[Any], bad: list[bytes]
) -> None:
    liar = Liar(made)
    liar.send += [bad, picture(5, RAW)]
    into = FarSource(liar.address, timeout=10.0)
    made.append(into)
    into.open()
    got = next(into.packets())
    assert got.frame.seq == 5
    stats = into.stats()
    assert (stats["refused"], stats["connections"]) == (1, 1)


def test_pictures_nobody_asked_for_are_refused(made: list[Any]) -> None:
    liar = Liar(made)
    liar.send += [picture(seq, RAW) for seq in range(50)]
    into = FarSource(liar.address, timeout=10.0, credit=2)
    made.append(into)
    into.open()
    until(lambda: into.stats()["refused"] == 48)
    assert into.stats()["waiting"] == 2
