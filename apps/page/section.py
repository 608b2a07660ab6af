"""The parts a page's state is made of: what every kind of section has in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from retain.pipeline.packet import Packet

Json = dict[str, Any]
Clock = Callable[[], float]


class Section:
    """One part of the page's state. ``view(since)`` is what a client at version ``since`` (-1 at
    first) is sent, at most every ``every_s``."""

    name = ""
    every_s = 0.0

    def __init__(self) -> None:
        self.version = 0

    def observe(self, packet: Packet) -> None:
        """Take note of a packet; called for each, so it must be cheap."""

    def view(self, since: int) -> Json:
        raise NotImplementedError

    def picture(self, seq: int) -> bytes | None:
        """A JPEG of frame ``seq``, where the section keeps one."""
        return None


class Recent(Section):
    """The last ``room`` points; a client gets those it has not seen."""

    def __init__(self, room: int = 600) -> None:
        super().__init__()
        self._recent: deque[Any] = deque(maxlen=room)

    def add(self, point: Any) -> None:
        self._recent.append(point)
        self.version += 1

    def view(self, since: int) -> Json:
        missing = min(self.version - max(since, 0), len(self._recent))
        fresh = since < 0 or self.version - since > missing
        newest = list(self._recent)[len(self._recent) - missing :]
        return {"fresh": fresh, "points": newest, "total": self.version}
