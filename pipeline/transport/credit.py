"""Who may send when: the pure logic of an edge between processes.

The consumer grants credit, the producer spends it; what has no credit waits in the producer's
mailbox, under the edge's policy. An edge that may drop grants one credit, and only when the
consumer has nothing to do: so it gets the newest packet there is, never one that grew old in a
buffer on the way. A ``block`` edge grants a few in advance, to hide the hand-over.
"""

from __future__ import annotations

from retain.pipeline.mailbox import Lost, Mailbox
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy

BLOCK_WINDOW = 4


class Outlet:
    """The producer's side."""

    def __init__(self, policy: Policy) -> None:
        self.box = Mailbox(policy)
        self._credit = 0
        self.met = False
        """Whether the consumer has ever shown itself."""

    @property
    def ready(self) -> bool:
        """There is credit: ``take`` will give what waits."""
        return self._credit > 0

    def put(self, packet: Packet) -> Lost:
        return self.box.put(packet)

    def grant(self, packets: int) -> None:
        self._credit += packets
        self.met = True

    def reset(self) -> None:
        """The consumer is another now, and has granted nothing yet."""
        self._credit, self.met = 0, False

    def take(self) -> Packet | None:
        """The packet to send now, if there is one and credit for it."""
        if not self._credit:
            return None
        packet = self.box.get()
        self._credit -= packet is not None
        return packet


class Window:
    """The consumer's side: how much credit to grant."""

    def __init__(self, policy: Policy) -> None:
        self._eager = policy.kind == "block"
        self.size = BLOCK_WINDOW if self._eager else 1
        self._outstanding = 0

    def ask(self, waiting: int, idle: bool) -> int:
        """Credit to grant now, when ``waiting`` packets have arrived but are not taken yet."""
        if not self._eager and not idle:
            return 0
        grant = self.size - self._outstanding - waiting
        if not idle and grant < self.size // 2:
            return 0  # half a window at a time: half the messages
        self._outstanding += grant
        return grant

    def arrived(self) -> None:
        self._outstanding -= 1
