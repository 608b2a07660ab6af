"""When to start a dead process again, and when to give up. Pure: no process and no clock."""

from __future__ import annotations

import signal
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random

from retain.pipeline.ledger import Hand


@dataclass(frozen=True, slots=True)
class Supervision:
    """How processes are looked after.

    restarts    deaths of one node within ``window_s`` that are made good; 0: none is
    backoff_s   bound of the wait before the second restart within ``window_s``; the first is at
                once, each further bound twice the one before, up to ``BACKOFF_MOST_S``
    hang_s      longest time a node may work on one packet
    silent_s    longest time a process may show no sign of life (stopped, or deadlocked)
    start_s     longest time until the first one; also the longest silence before the first packet
                is done, while libraries are loaded, which on a busy machine holds everything up
    snapshot_s  how often the state of a live graph is saved, for whoever has to be started again;
                0: never
    """

    restarts: int = 5
    window_s: float = 60.0
    backoff_s: float = 0.5
    hang_s: float = 60.0
    silent_s: float = 10.0
    start_s: float = 60.0
    snapshot_s: float = 30.0


BACKOFF_MOST_S = 30.0
_PERHAPS = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)
"""Exit codes that somebody's decision explains as well as the frame in hand does."""
CONVICTED = 6
"""Two deaths over one frame convict it; three where they may have been somebody's decision."""


@dataclass
class Record:
    """Deaths of one node."""

    deaths: deque[float] = field(default_factory=deque)
    over: Counter[Hand] = field(default_factory=Counter)
    """What speaks against a frame: deaths while it was in hand."""
    poison: list[Hand] = field(default_factory=list)
    """Frames not to try again."""

    def died(
        self, now: float, code: int, hand: Hand | None, supervision: Supervision, rng: Random
    ) -> float | None:
        """Seconds after which to start it again after this death (exit ``code``, ``hand`` being
        worked on), drawn evenly from zero to the bound; None: not at all."""
        self.deaths.append(now)
        while self.deaths[0] < now - supervision.window_s:
            self.deaths.popleft()
        if hand is not None:
            self.over[hand] += CONVICTED // (3 if code in _PERHAPS else 2)
            if self.over[hand] >= CONVICTED and hand not in self.poison:
                self.poison.append(hand)
        number = len(self.deaths)
        if number > supervision.restarts:
            return None
        most = min(supervision.backoff_s * 2 ** (number - 2), BACKOFF_MOST_S)
        return rng.uniform(0, most) if number > 1 else 0.0


def complaint(
    supervision: Supervision,
    now_s: float,
    started_s: float,
    beat_s: float,
    busy_s: float,
    worked: bool = True,
) -> str:
    """Why this process must be ended: a sentence's end, or nothing. ``beat_s`` and ``busy_s`` are
    times of the last sign of life and of taking the packet in hand; 0: none. ``worked``: a packet
    was done."""
    if not beat_s:
        late = now_s - started_s > supervision.start_s
        return f"did not start within {supervision.start_s:g} s" if late else ""
    patience = supervision.silent_s if worked else max(supervision.silent_s, supervision.start_s)
    if now_s - beat_s > patience:
        return f"gave no sign of life for {patience:g} s"
    if busy_s and now_s - busy_s > supervision.hang_s:
        return f"worked on one frame for more than {supervision.hang_s:g} s"
    return ""
