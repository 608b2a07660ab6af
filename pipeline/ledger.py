"""What a process has done so far, where its parent can read it after it was killed.

A small memory-mapped file of 64-bit words, written by the node as it works: counts that must add
up although nobody could say goodbye, the packet in hand, and the last sign of life.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from time import monotonic_ns
from zlib import crc32

from retain.pipeline.course import Last
from retain.pipeline.frame import Frame
from retain.pipeline.mailbox import CAUSES, Mailbox
from retain.pipeline.metrics import EdgeStats

_WORDS = (
    "beat", "busy", "stream", "seq", "pts", "ticks", "per", "at", "finished", "sent", "quarantined",
)  # fmt: skip
_PLACE = {name: place for place, name in enumerate(_WORDS)}
_CAUSE = {cause: place for place, cause in enumerate(CAUSES)}
_ROW = 2 + len(CAUSES)
"""Of an output: captured, delivered, then what was dropped by cause."""

Hand = tuple[int, int]
"""A frame: checksum of its stream's name, and its number."""


def hand_of(frame: Frame) -> Hand:
    return crc32(frame.stream.encode()), frame.seq


class Ledger:
    """``path``: a file that ``prepare`` made; None keeps the words in this process alone."""

    def __init__(self, inputs: int, outputs: int, path: str | None = None) -> None:
        self._inputs = inputs
        size = 8 * (len(_WORDS) + inputs + outputs * _ROW)
        if path is None:
            self._words = memoryview(bytearray(size)).cast("q")
            return
        with open(path, "r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), size)).cast("q")

    @staticmethod
    def prepare(path: str, inputs: int, outputs: int) -> None:
        Path(path).write_bytes(bytes(8 * (len(_WORDS) + inputs + outputs * _ROW)))

    def __getitem__(self, name: str) -> int:
        return self._words[_PLACE[name]]

    def beat(self) -> None:
        self._words[0] = monotonic_ns()

    def count(self, what: str, packets: int = 1) -> None:
        self._words[_PLACE[what]] += packets

    def put(self, what: str, packets: int) -> None:
        self._words[_PLACE[what]] = packets

    def take(self, frame: Frame) -> None:
        """This frame is worked on from now on."""
        self._words[2], self._words[3] = hand_of(frame)
        self._words[1] = monotonic_ns()

    def let_go(self) -> None:
        """The node is not at work: done, or waiting for its neighbours."""
        self._words[1] = 0

    @property
    def hand(self) -> Hand | None:
        """The frame that is worked on."""
        return (self._words[2], self._words[3]) if self._words[1] else None

    def gave(self, frame: Frame) -> None:
        """A source has given this frame: its successor goes on from there. Of several streams, the
        largest number and the latest time count for all."""
        words = self._words
        words[3] = max(words[3], frame.seq)
        base = frame.time_base
        if not words[6] or frame.pts * base.numerator * words[6] > words[4] * words[5] * (
            base.denominator
        ):
            words[4], words[5], words[6] = frame.pts, base.numerator, base.denominator
            words[7] = frame.t_arrival_ns

    def last(self) -> Last | None:
        """Of a source: the last frame it gave."""
        words = self._words
        return Last(*words[3:8].tolist()) if words[6] else None

    def taken(self, place: int) -> int:
        """Packets taken from input ``place``."""
        return self._words[len(_WORDS) + place]

    def took(self, place: int) -> None:
        self._words[len(_WORDS) + place] += 1

    def note(self, place: int, box: Mailbox) -> None:
        """What became of the packets of output ``place`` so far."""
        row = len(_WORDS) + self._inputs + place * _ROW
        self._words[row], self._words[row + 1] = box.captured, box.delivered
        for cause, count in box.dropped.items():
            self._words[row + 2 + _CAUSE[cause]] = count

    def edge(self, place: int, src: str, dst: str, policy: str) -> EdgeStats:
        """The same, of a node that is dead: what waited died with it."""
        row = len(_WORDS) + self._inputs + place * _ROW
        captured, delivered, *drops = self._words[row : row + _ROW].tolist()
        dropped = {str(c): n for c, n in zip(CAUSES, drops, strict=True) if n}
        if lost := captured - delivered - sum(drops):
            dropped["crashed"] = dropped.get("crashed", 0) + lost
        return EdgeStats(src, dst, policy, captured, delivered, dropped)
