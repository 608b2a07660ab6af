"""What a process takes over from the one that did its node's work before."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from retain.pipeline.course import Course, Last
from retain.pipeline.ledger import Hand
from retain.pipeline.packet import Packet


class Past(msgspec.Struct, frozen=True):
    """What a node takes over from the process that did its work before."""

    load: str | None = None
    """File of its state."""
    sent: int = 0
    """Frames a finite source has sent already; it reads over them."""
    last: Last | None = None
    """Of a live source: its last frame, of whatever stream."""
    poison: list[Hand] = []
    """Frames not to try again."""
    gap: bool = False
    """Frames were lost: the first one of each stream says so."""
    void: int = 0
    """Barriers up to this one are given up."""
    ended: list[str] = []
    """Producers that have ended and whose process cannot say so again."""
    owed: int = 0
    """Frames in all that a source gives before it heeds a stop: they were given before."""
    stopped: bool = False
    """It has been asked to end."""
    limit: int = 0
    """Bytes that a stage may remember in; 0: as its options say."""
    round_at: int = 0
    """Frames in all after which a source sends the next round; 0: there are none."""


def continued(packets: Iterator[Packet], past: Past) -> Iterator[Packet]:
    """Packets of a source that takes over: a finite one reads over what was sent, a live one counts
    on, and its times go on from the last."""
    for _ in range(past.sent):
        if next(packets, None) is None:
            return
    courses: dict[str, Course] = {}
    for packet in packets:
        if past.last is None:
            yield packet
            continue
        course = courses.setdefault(packet.frame.stream, Course(past.last))
        yield Packet(course.follow(packet.frame), packet.results)
