"""What tests of edges between hosts share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import zmq
from runtime_parts import frame

from retain.pipeline.far.sender import FarSink
from retain.pipeline.packet import Packet

HERE = "tcp://127.0.0.1:*"


def far(sink: FarSink) -> str:
    return sink.address.replace("tcp://", "far://")


def packet(seq: int, **kw: Any) -> Packet:
    return Packet(frame(seq, **kw))


def in_thread(job: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    return thread


def balanced(sink: FarSink) -> bool:
    stats = dict(sink.stats())
    dropped = sum(int(n) for name, n in stats.items() if name.startswith("dropped_"))
    return stats["captured"] == int(stats["delivered"]) + dropped + int(stats["waiting"])


def raw_peer(out: FarSink, made: list[Any]) -> zmq.Socket[bytes]:
    context = zmq.Context()
    peer = context.socket(zmq.DEALER)
    peer.connect(out.address)
    made.append(SimpleNamespace(close=lambda: (peer.close(0), context.term())))
    return peer
