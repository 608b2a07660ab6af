"""States of a source that comes back, and how long it waits between tries. No IO, no threads."""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from retain.pipeline.errors import RetainError, SourceError, SourceFault

LASTED_S = 10.0
"""Seconds: a run this long was a good one; the next failure is the first of a new series."""
CERTAIN = 3
"""Tries after which an answer that is no video is taken to be what the address is."""

_SLOW = frozenset((SourceFault.AUTH,))
_ODD = frozenset(
    (SourceFault.NOT_VIDEO, SourceFault.CODEC, SourceFault.TOO_LARGE, SourceFault.EMPTY)
)


class State(StrEnum):
    CONNECTING = "connecting"
    RUNNING = "running"
    STALLED = "stalled"
    BACKOFF = "backoff"
    FAILED = "failed"


class Backoff:
    """Waits that double from ``first_s`` to ``most_s``, with full jitter: each is drawn uniformly
    from 0 to the doubled time, so that many clients of one server do not come back together."""

    def __init__(self, rng: random.Random, first_s: float = 0.5, most_s: float = 30.0) -> None:
        self._rng = rng
        self._first_s, self._most_s = first_s, most_s
        self._ceiling_s = first_s

    def reset(self) -> None:
        self._ceiling_s = self._first_s

    def next(self, slow: bool = False) -> float:
        """Seconds to wait now; ``slow``: from half of the longest wait to the longest."""
        if slow:
            return self._rng.uniform(self._most_s / 2, self._most_s)
        ceiling, self._ceiling_s = self._ceiling_s, min(2 * self._ceiling_s, self._most_s)
        return self._rng.uniform(0, min(ceiling, self._most_s))


class Lifecycle:
    """What becomes of a source after each event, and the counts.

    attempts   failures in a row after which it gives up; 0: never
    patient    whether the first connection may fail and be tried again
    fatal      faults that nothing heals as long as there has been no connection
    clock      seconds that only rise

    A run of ``LASTED_S`` or more ends a series of failures. Events come from one thread.
    """

    def __init__(
        self,
        backoff: Backoff,
        clock: Callable[[], float],
        attempts: int = 0,
        patient: bool = True,
        fatal: frozenset[SourceFault] = frozenset(),
    ) -> None:
        self._backoff, self._clock = backoff, clock
        self._attempts, self._patient, self._fatal = attempts, patient, fatal
        self.state = State.CONNECTING
        self.connects = self.stalls = self.frozen = self.failures = self.in_a_row = 0
        self.last_cause = ""
        self._odd = 0
        self._ran_at: float | None = None
        self._seen_at = clock()
        self._down_since: float | None = self._seen_at
        self._down_s = 0.0

    def connecting(self) -> None:
        """A try begins."""
        self.state = State.CONNECTING

    def picture(self) -> float | None:
        """A picture has come. When it is the first of a connection: the seconds without one."""
        self.state = State.RUNNING
        waited = None
        self._seen_at = self._clock()
        if self._ran_at is None:
            self._ran_at = self._seen_at
            self.connects += 1
            self._odd = 0
            waited, self._down_since = self.down_now_s, None
            self._down_s += waited
        return waited

    def quiet(self) -> None:
        """Pictures have not come for a while; the connection still stands."""
        if self.state is State.RUNNING:
            self.state = State.STALLED

    def lost(self, error: RetainError, frozen: bool = False) -> float | None:
        """The connection failed or ended. Seconds to wait before the next try; None: given up."""
        now = self._clock()
        self.failures += 1
        self.last_cause = str(error)
        self.frozen += frozen
        fault = error.fault if isinstance(error, SourceError) else None
        self.stalls += fault is SourceFault.STALLED and not frozen
        if self._ran_at is not None and now - self._ran_at >= LASTED_S:
            self._backoff.reset()
            self.in_a_row = 0
        self.in_a_row += 1
        self._ran_at = None
        if self._down_since is None:
            self._down_since = self._seen_at
        self._odd += fault in _ODD
        if self._hopeless(fault):
            self.state = State.FAILED
            return None
        self.state = State.BACKOFF
        return self._backoff.next(slow=fault in _SLOW)

    def _hopeless(self, fault: SourceFault | None) -> bool:
        if fault is None:  # a request that is wrong in itself
            return True
        if self._attempts and self.in_a_row >= self._attempts:
            return True
        if self.connects:  # it was once what was asked for, and may be again
            return False
        return not self._patient or fault in self._fatal or self._odd >= CERTAIN

    @property
    def down_now_s(self) -> float:
        """Seconds that the present wait for pictures has lasted; 0 while they come."""
        return 0.0 if self._down_since is None else self._clock() - self._down_since

    @property
    def down_s(self) -> float:
        """Seconds without pictures since the beginning, the present wait included."""
        return self._down_s + self.down_now_s
