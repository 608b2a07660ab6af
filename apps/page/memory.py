"""What the page of `retain watch` knows: the router's decisions and what the memory holds."""

from __future__ import annotations

from collections import OrderedDict

from retain.apps.drawing import REASONS, jpeg, shrink
from retain.apps.page.section import Json, Recent, Section
from retain.apps.plots import History, Point
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Held, Route

KEPT_WIDTH = 480


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {
        "doing": "Watching. Frames that matter are kept; every decision is below.",
        "reasons": REASONS,
    }


def describe(packet: Packet, preview: Image) -> Json:
    """What stands under the newest picture."""
    route = packet.results.get("route")
    if not isinstance(route, Route):
        return {}
    return {name: getattr(route, name) for name in ("state", "reason", "score", "low", "high")}


class _Decisions:
    """Points of the packets as they come, with the losses between them."""

    def __init__(self) -> None:
        self._seq = -1

    def point(self, packet: Packet) -> Point | None:
        route, frame = packet.results.get("route"), packet.frame
        before, self._seq = self._seq, frame.seq
        if not isinstance(route, Route):
            return None
        return Point.of(frame, route, max(frame.seq - before - 1, 0) if before >= 0 else 0)


class Points(Recent):
    """The last decisions."""

    name = "points"

    def __init__(self, room: int = 600) -> None:
        super().__init__(room)
        self._decisions = _Decisions()

    def observe(self, packet: Packet) -> None:
        if point := self._decisions.point(packet):
            self.add(point)


class Whole(Section):
    """The whole stream's decisions in a bounded number of points."""

    name = "history"
    every_s = 2.0

    def __init__(self) -> None:
        super().__init__()
        self._history = History()
        self._decisions = _Decisions()

    def observe(self, packet: Packet) -> None:
        if point := self._decisions.point(packet):
            self._history.add(point)
            self.version += 1

    def view(self, since: int) -> Json:
        return {"stride": self._history.stride, "points": self._history.points}


class Kept(Section):
    """What the memory holds, and a small picture of each entry that came while the page lived."""

    name = "held"

    def __init__(self, spare: int = 32) -> None:
        super().__init__()
        self._spare = spare
        self._held: Held | None = None
        self._pictures: dict[int, bytes] = {}
        self._left: OrderedDict[int, bytes] = OrderedDict()
        """Pictures of entries that have just left, for clients still showing them."""

    def observe(self, packet: Packet) -> None:
        held = packet.results.get("held")
        if not isinstance(held, Held):
            return
        before, self._held = self._held, held
        if before is not None and before.entries == held.entries:
            return
        self.version += 1
        frame = packet.frame
        if held.entries and held.entries[-1].seq == frame.seq:
            self._pictures[frame.seq] = jpeg(shrink(frame.image, KEPT_WIDTH))
        for seq in self._pictures.keys() - {entry.seq for entry in held.entries}:
            self._left[seq] = self._pictures.pop(seq)
        while len(self._left) > self._spare:
            self._left.popitem(last=False)

    def view(self, since: int) -> Json:
        held = self._held
        if held is None:
            return {"entries": []}
        entries = [
            {
                "seq": e.seq,
                "seconds": e.seconds,
                "tier": e.tier,
                "reason": e.reason,
                "score": e.score,
                "tokens": e.tokens,
                "nbytes": e.nbytes,
                "width": e.width,
                "height": e.height,
                "picture": e.seq in self._pictures,
            }
            for e in held.entries
        ]
        return {
            "entries": entries,
            "tokens": held.tokens,
            "token_budget": held.token_budget,
            "nbytes": held.nbytes,
            "byte_budget": held.byte_budget,
        }

    def picture(self, seq: int) -> bytes | None:
        return self._pictures.get(seq) or self._left.get(seq)
