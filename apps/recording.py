"""A finished run, read back from ``results.jsonl``: bounded numbers, whatever its length."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from retain.apps.plots import History, Point
from retain.pipeline.errors import RetainError
from retain.pipeline.results import Reason, State, Tier


class _Route(msgspec.Struct):
    state: State
    reason: Reason
    score: float | None = None
    low: float | None = None
    high: float | None = None


class _Entry(msgspec.Struct):
    seq: int
    tier: Tier
    reason: Reason


class _Held(msgspec.Struct):
    entries: list[_Entry]
    tokens: int
    token_budget: int
    nbytes: int
    byte_budget: int
    seen: int


class _Results(msgspec.Struct):
    route: _Route | None = None
    held: _Held | None = None


class _Line(msgspec.Struct):
    seq: int
    seconds: float
    results: _Results


@dataclass
class Recording:
    """What the lines of a run add up to."""

    frames: int = 0
    first_s: float = math.nan
    last_s: float = math.nan
    lost: int = 0
    """Frames missing between those recorded."""
    history: History = field(default_factory=History)
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    """Frames that entered the memory."""
    carried: int = 0
    """Entries the memory already held before the first frame: the run continued another."""
    forgotten: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Entries that left the memory, by (reason they were kept, tier when they left)."""
    demoted: int = 0
    """Times a Clear entry became Blurred to make room."""
    held: _Held | None = None
    """The memory after the last frame."""
    torn: bool = False
    """The last line was cut off while it was being written."""
    _seq: int = -1

    @property
    def duration_s(self) -> float:
        """Stream time covered, one frame's time included; 0 without frames."""
        if self.frames < 2:
            return 0.0
        span = self.last_s - self.first_s
        return span * self.frames / (self.frames - 1)

    def add(self, line: _Line) -> None:
        route, held = line.results.route, line.results.held
        lost = max(line.seq - self._seq - 1, 0) if self._seq >= 0 else 0
        if not self.frames:
            self.first_s = line.seconds
        self.frames += 1
        self.lost += lost
        self.last_s, self._seq = line.seconds, line.seq
        if route is not None:
            self.states[route.state] += 1
            self.reasons[route.reason] += 1
            score, low, high = (
                math.nan if value is None else value
                for value in (route.score, route.low, route.high)
            )
            self.history.add(Point(line.seconds, line.seq, score, low, high, route.state, lost))
        if held is not None:
            self._compare(held, line.seq)
            self.held = held

    def _compare(self, held: _Held, seq: int) -> None:
        now = {e.seq: e for e in held.entries}
        if self.held is None:
            self.kept = int(seq in now)
            self.carried = len(now) - self.kept
            return
        before = {e.seq: e for e in self.held.entries}
        self.kept += len(now.keys() - before.keys())
        for number, old in before.items():
            if number not in now:
                self.forgotten[old.reason, old.tier] += 1
            elif now[number].tier != old.tier:
                self.demoted += 1


def read(path: Path) -> Recording:
    """The run in ``path``; an absent file is a run without frames. A last line that was cut off
    is noted (``torn``). Raises RetainError when another line cannot be read."""
    recording = Recording()
    if not path.is_file():
        return recording
    decoder = msgspec.json.Decoder(_Line)
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                line = decoder.decode(raw)
            except msgspec.MsgspecError as error:
                if not raw.endswith(b"\n"):  # only the last line can lack its end
                    recording.torn = True
                    break
                raise RetainError(
                    f"Line {number} of {path.name} is not a result ({error}).",
                    hint="The file was altered, or written by another version.",
                ) from error
            recording.add(line)
    return recording
