"""When a source lets a round go (pipeline/runners/rounds.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from retain.pipeline.wire import Round


class Turns:
    """After ``at`` frames of the source, and then after every ``every`` more. With ``waits`` no
    frame passes that moment before the round is there; otherwise the round goes when it comes."""

    def __init__(self, at: int, every: int, waits: bool) -> None:
        self._at, self._every, self._waits = at, every, waits
        self._changed = threading.Condition()
        self._round: Round | None = None
        self._ended = False

    def give(self, round_: Round) -> None:
        """The next round; in place of one that has not gone. Any thread."""
        with self._changed:
            self._round = round_
            self._changed.notify()

    def end(self) -> None:
        """There are no more rounds. Any thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def wake(self) -> None:
        """Whoever waits looks again whether the source is over. Any thread."""
        with self._changed:
            self._changed.notify()

    def take(self, given: int, over: Callable[[], bool]) -> Round | None:
        """The round that goes now that the source gave ``given`` frames, if one does."""
        if given < self._at:
            return None
        with self._changed:
            while self._waits and not self._round and not self._ended and not over():
                self._changed.wait()
            found, self._round = self._round, None
        if found:
            self._at += self._every
        return found
