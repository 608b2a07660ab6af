"""How far a batch is, for a person: done, skipped, failed, to go, and when it may end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from retain.apps import console
from retain.apps.batch.engine import Engine, Outcome
from retain.apps.batch.manifest import BAD
from retain.pipeline.redact import redact

_ENOUGH = 3
"""Items that have to end before a guess is worth anything."""
_LINE_S = 30.0
"""Seconds between lines where nobody watches."""


class Progress:
    """``counts``: state -> (items, bytes) before anything ran. The guess goes by bytes where items
    have any, else by items; by what ended in this run, and never by what was skipped."""

    def __init__(self, counts: Mapping[str, tuple[int, int]], engine: Engine) -> None:
        self._engine = engine
        self.skipped = counts.get("done", (0, 0))[0]
        self.known_bad = sum(counts.get(state, (0, 0))[0] for state in BAD)
        self.to_do, self._bytes_to_do = counts.get("pending", (0, 0))
        self._bytes_ended = 0
        self.states: Counter[str] = Counter()
        """What ended in this run."""
        self.seconds = 0.0
        """Time of workers, together."""
        self.peak_bytes = 0
        self._began = time.monotonic()
        self._took: float | None = None
        self._told = self._began

    @property
    def took_s(self) -> float:
        return time.monotonic() - self._began if self._took is None else self._took

    @property
    def ended_count(self) -> int:
        return self.states.total()

    def ended(self, outcome: Outcome, size: int) -> None:
        """``size``: bytes of the item."""
        self.states[outcome.state] += 1
        self._bytes_ended += size
        self.seconds += outcome.seconds
        self.peak_bytes = max(self.peak_bytes, outcome.peak_bytes)
        now = time.monotonic()
        if now - self._told >= _LINE_S and not console.messages().is_terminal:
            self._told = now
            console.messages().print(self.line())

    def left_s(self) -> float | None:
        """Seconds until the end, were the rest like what ended so far; None: too early to say."""
        done = self.ended_count
        if not done or done < min(_ENOUGH, self.to_do):
            return None
        if self._bytes_ended:
            return self.took_s * max(self._bytes_to_do / self._bytes_ended - 1, 0)
        return self.took_s * (self.to_do / done - 1)

    def line(self) -> str:
        bad = sum(self.states[state] for state in BAD)
        words = [f"{self.states['done']} done"]
        if self.skipped:
            words.append(f"{self.skipped} skipped (done before)")
        words.append(f"{bad} failed" + (f" (+{self.known_bad} before)" if self.known_bad else ""))
        words.append(f"{self.to_do - self.ended_count} to go")
        words.append(f"{self._engine.workers} at work")
        left = self.left_s()
        words.append("no guess yet" if left is None else f"about {span(left)} left")
        return " · ".join(words)

    def summary(self, counts: Mapping[str, int]) -> str:
        """The end, in a sentence."""
        left = counts.get("pending", 0) + counts.get("running", 0)
        words = [f"{counts.get('done', 0)} done ({self.skipped} of them before)"]
        words += [f"{counts[state]} {state}" for state in BAD if state in counts]
        if left:
            words.append(f"{left} left for the next time")
        return f"{', '.join(words)}; took {span(self.took_s)}"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """One line on stderr that keeps itself up to date, where somebody would see it."""
        screen = console.messages()
        self._began = self._told = time.monotonic()
        try:
            if not screen.is_terminal:
                yield
                return
            from rich.live import Live

            with Live(
                get_renderable=self.line, console=screen, refresh_per_second=4, transient=True
            ):
                yield
        finally:
            self._took = time.monotonic() - self._began


def shown(text: str) -> str:
    """``text`` for a person: without credentials, and what is no letter (new lines, what would
    steer a terminal) written out.

    >>> shown("new\\nline.mp4")
    'new\\\\nline.mp4'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in redact(text))


def span(seconds: float) -> str:
    """
    >>> span(4.2), span(75), span(5400), span(400_000)
    ('4 s', '1 min 15 s', '1 h 30 min', '4 d 15 h')
    """
    total = round(seconds)
    for unit, length, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if total >= length:
            return f"{total // length} {unit} {total % length // part} {below}"
    return f"{total // 60} min {total % 60} s" if total >= 60 else f"{total} s"
