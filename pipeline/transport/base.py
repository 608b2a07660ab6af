"""What every transport offers. Two ends per edge; the policy is applied by the sending one."""

from __future__ import annotations

from typing import Protocol

from retain.pipeline.metrics import EdgeStats
from retain.pipeline.packet import Packet
from retain.pipeline.wire import Barrier, End, Fault


class Stopped(Exception):
    """The run was cut short while this thread waited on an edge. Not a fault."""


class Sender(Protocol):
    """The producer's end of one edge."""

    def send(self, packet: Packet) -> None:
        """Hand a packet to the edge's policy; waits only on ``block``. Raises Stopped."""
        ...

    def mark(self, barrier: Barrier) -> None:
        """A barrier: reaches the consumer between the packets before and after it."""
        ...

    def end(self, fault: Fault | None = None) -> None:
        """No more packets. Reaches the consumer after everything that still waits."""
        ...

    def stats(self) -> EdgeStats: ...


class Receiver(Protocol):
    """All edges that lead into one node, merged; each edge keeps its order."""

    def recv(self, timeout: float | None = None) -> Packet | Barrier | End | None:
        """The next packet; a barrier when it has come on every edge; End once every edge has
        ended; None when ``timeout`` seconds passed.

        Raises Stopped when the run was cut short.
        """
        ...

    def abort(self) -> None:
        """Cut short: whoever waits here, now or later, gets Stopped."""
        ...
