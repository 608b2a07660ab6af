"""What the scores of a table say: pooled over streams, the best of each column, who wins where."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retain.apps.evaluate_moments.policies import CONTENDERS
from retain.apps.evaluate_moments.results import Score, Table
from retain.datasets import bootstrap

OFFLINE = frozenset(c.name for c in CONTENDERS if c.offline)
"""Rows that saw the whole stream: marks to measure by, no competitors."""
OURS = ("robust", "boundaries")
"""How the row is called that the others are compared with; the first that a table has."""
AHEAD = "look-ahead, frames"
"""The column that says for how many later frames a row waits."""
OTHERS = {"boundaries": ("no other row", "Another row")}
BASELINES = ("no baseline", "A baseline")
"""What the rows beside ours are called, by table and elsewhere."""
CHANGES = "ablations"
"""The table whose other rows are ours with something changed."""
NAMED = 4
"""Streams that a sentence names; the others are counted."""
ENOUGH = 3
"""Seeds below which no difference is called clear."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval. ``streams`` weigh the same, however many seeds they have."""

    mean: float
    low: float
    high: float
    streams: int
    values: int


@dataclass(frozen=True, slots=True)
class Group:
    """Streams of a table on which the same rows ran, so that their means can be compared."""

    rows: list[str]
    columns: list[str]
    streams: list[str]

    @property
    def label(self) -> str:
        """What the streams are, in a few words."""
        kinds = dict.fromkeys(stream.partition(",")[0] for stream in self.streams)
        if len(self.streams) == 1:
            return self.streams[0]
        if len(kinds) <= NAMED:
            return f"{len(self.streams)} kinds of streams ({', '.join(kinds)})"
        return f"{len(self.streams)} kinds of streams"


def estimate(scores: Sequence[Score]) -> Estimate:
    """Mean over streams of their means over seeds; the seeds of each stream are resampled. NaN
    thrice without a value."""
    cells = [score.values for score in scores if score.values]
    return Estimate(*bootstrap.of_mean(*cells), len(cells), sum(map(len, cells)))


def groups(table: Table) -> list[Group]:
    """The table's streams by the rows that they have, in the table's order."""
    rows: dict[str, dict[str, None]] = {}
    for score in table.scores:
        rows.setdefault(score.stream, {})[score.row] = None
    found: dict[frozenset[str], list[str]] = {}
    for stream, names in rows.items():
        found.setdefault(frozenset(names), []).append(stream)
    out = []
    for streams in found.values():
        columns = dict.fromkeys(s.column for s in table.scores if s.stream in streams)
        out.append(Group(list(rows[streams[0]]), list(columns), streams))
    return out


def cell(table: Table, row: str, column: str, streams: Collection[str]) -> list[Score]:
    """The scores behind one cell of a pooled table."""
    return [s for s in table.scores if s.row == row and s.column == column and s.stream in streams]


def higher_is_better(table: Table, column: str) -> bool:
    return next(s.higher_is_better for s in table.scores if s.column == column)


def best(means: Mapping[str, float], higher: bool, leave: Collection[str] = OFFLINE) -> set[str]:
    """The rows with the best mean, without those to ``leave`` out; several when they are level."""
    known = {row: m for row, m in means.items() if row not in leave and math.isfinite(m)}
    if not known:
        return set()
    top = max(known.values()) if higher else min(known.values())
    return {row for row, mean in known.items() if math.isclose(mean, top, abs_tol=1e-12)}


def ours(rows: Iterable[str]) -> str:
    """The row that is ours among ``rows``; empty when there is none."""
    rows = list(rows)
    return next((name for name in OURS if name in rows), "")


@dataclass(frozen=True, slots=True)
class Lead:
    """A causal baseline with a better mean than ours on one stream."""

    row: str
    stream: str
    mean: float
    our_mean: float
    clear: bool
    """The 95 % interval of the difference excludes 0."""


def leads(table: Table, column: str) -> tuple[list[Lead], int]:
    """Where the best causal baseline is ahead of ours, the clearest first; and how many streams
    were compared."""
    by_stream: dict[str, dict[str, Score]] = {}
    for score in table.scores:
        if score.column == column and score.row not in OFFLINE:
            by_stream.setdefault(score.stream, {})[score.row] = score
    out, compared = [], 0
    for stream, scores in by_stream.items():
        mine = scores.pop(ours(scores), None)
        if mine is None or not scores or not mine.values:
            continue
        compared += 1
        means = {row: score.mean for row, score in scores.items()}
        for row in sorted(best(means, mine.higher_is_better))[:1]:
            gain = means[row] - mine.mean
            if (gain if mine.higher_is_better else -gain) > 1e-12:
                out.append(Lead(row, stream, means[row], mine.mean, differ(scores[row], mine)))
    return sorted(out, key=lambda lead: (not lead.clear, -abs(lead.mean - lead.our_mean))), compared


def differ(a: Score, b: Score) -> bool:
    """Whether a difference is clear: paired by seed where both have every seed, else by intervals
    that do not touch."""
    if min(len(a.values), len(b.values)) < ENOUGH:
        return False
    if len(a.values) == len(b.values):
        _, low, high = bootstrap.of_mean(np.subtract(a.values, b.values))
        return low > 0 or high < 0
    (_, low_a, high_a), (_, low_b, high_b) = map(bootstrap.of_mean, (a.values, b.values))
    return low_a > high_b or low_b > high_a


def waits(table: Table, row: str) -> float:
    """For how many later frames a row waits before it answers; 0 where the table does not say."""
    return max(
        (s.mean for s in table.scores if s.row == row and s.column == AHEAD and s.values),
        default=0.0,
    )


def sentences(table: Table) -> list[str]:
    """Per column, in plain words: where ours is best, and where a baseline wins. A table without
    a row of ours is told by its best rows."""
    columns = [c for c in dict.fromkeys(score.column for score in table.scores) if c != AHEAD]
    if table.name == CHANGES:
        return [text for text in (_changes(table, column) for column in columns) if text]
    told = [_against_ours(table, column) for column in columns]
    told = [text for text in told if text] or [_winner(table, column) for column in columns]
    return [text for text in told if text]


def summary(table: Table) -> str:
    """One sentence: in how many columns of each group ours has the best mean of the causal rows,
    and which row has it in the others. Empty where ours has no rival."""
    if table.name == CHANGES:
        return next(iter(sentences(table)), "")
    won, lost, total, several = 0, list[str](), 0, len(groups(table)) > 1
    for group in groups(table):
        ahead = []
        for column in group.columns:
            means = {r: estimate(cell(table, r, column, group.streams)).mean for r in group.rows}
            leave = {row for row in means if row in OFFLINE or waits(table, row)}
            top, mine = best(means, higher_is_better(table, column), leave), ours(means)
            known = [row for row in means if row not in leave and math.isfinite(means[row])]
            if column == AHEAD or mine not in known or len(top) == len(known):
                continue
            total, won = total + 1, won + (mine in top)
            if mine not in top:
                row = next(row for row in group.rows if row in top)
                ahead.append(
                    f"{column}: {row} ({figure(means[row])} against {figure(means[mine])})"
                )
        if ahead:
            lost.append((f"on {group.label} " if several else "") + ", ".join(ahead))
    if not total:
        return ""
    name = ours(score.row for score in table.scores)
    told = f"{name} has the best mean in {won} of {total} comparisons"
    return f"{told}; elsewhere {'; '.join(lost)}." if lost else f"{told}."


def _changes(table: Table, column: str) -> str:
    """How many changes make ours worse, which the most, and which make it better."""
    mine, higher = ours(s.row for s in table.scores), higher_is_better(table, column)
    streams = {s.stream for s in table.scores}
    merged = {
        row: Score(
            row, column, "", [v for s in cell(table, row, column, streams) for v in s.values]
        )
        for row in dict.fromkeys(s.row for s in table.scores)
    }
    base = merged.pop(mine, None)
    means = {row: estimate(cell(table, row, column, streams)).mean for row in (mine, *merged)}
    if base is None or not base.values:
        return ""
    gains = {row: (means[row] - means[mine]) * (1 if higher else -1) for row in merged}
    order = sorted((row for row in gains if math.isfinite(gains[row])), key=lambda row: gains[row])

    def told(row: str) -> str:
        clear = ", clearly" if differ(merged[row], base) else ""
        return f"{row} ({figure(means[row])}{clear})"

    worse = [row for row in order if gains[row] < -1e-12]
    better = [row for row in reversed(order) if gains[row] > 1e-12]
    text = f"{column}, {mine} {figure(means[mine])}: {len(worse)} of {len(order)} changes are worse"
    text += f", the most {'; '.join(map(told, worse[:2]))}" if worse else ""
    text += f". Better: {'; '.join(map(told, better[:NAMED]))}" if better else ""
    return text + (f"; and {len(better) - NAMED} more." if len(better) > NAMED else ".")


def _against_ours(table: Table, column: str) -> str:
    ahead, compared = leads(table, column)
    if not compared:
        return ""
    name, (no_other, other) = ours(s.row for s in table.scores), OTHERS.get(table.name, BASELINES)
    if not ahead:
        where = "on the one stream" if compared == 1 else f"on all {compared} streams"
        return f"{column}: {no_other} is ahead of {name} {where}."
    level = compared - len(ahead)
    mine = f"{name} is best or level on {level} of {compared} streams. "
    shown = "; ".join(_lead(table, lead) for lead in ahead[:NAMED])
    more = len(ahead) - NAMED
    clear = sum(lead.clear for lead in ahead[NAMED:])
    rest = f"; and on {more} more" + (f", {clear} of them clearly" if clear else "")
    return f"{column}: {mine}{other} is ahead on {len(ahead)}: {shown}{rest if more > 0 else ''}."


def _lead(table: Table, lead: Lead) -> str:
    wait = waits(table, lead.row)
    notes = f", waiting {wait:.0f} frames" if wait else ""
    notes += ", clearly" if lead.clear else ""
    return (
        f"{lead.row} on {lead.stream} ({figure(lead.mean)} against {figure(lead.our_mean)}{notes})"
    )


def _winner(table: Table, column: str) -> str:
    parts = []
    for group in groups(table):
        if column not in group.columns or len(group.rows) < 2:
            continue
        means = {row: estimate(cell(table, row, column, group.streams)).mean for row in group.rows}
        top = [row for row in group.rows if row in best(means, higher_is_better(table, column))]
        if top and len(top) < len(means):
            parts.append(f"{', '.join(top)} ({figure(means[top[0]])})")
    return f"{column}: best is {'; '.join(parts)}." if parts else ""


def figure(value: float, column: float = math.nan) -> str:
    """A number with about three digits that matter; shares get the digits of the largest in their
    ``column``, where that is given.

    >>> figure(0.9612), figure(1.0), figure(0.00312), figure(364.2), figure(0.0083, 0.912)
    ('0.961', '1.000', '0.00312', '364', '0.008')
    """
    if not math.isfinite(value):
        return "–"
    size = column if 0 < column < 2 else abs(value)
    digits = 3 if size == 0 or 0.1 <= size < 2 else 2 - math.floor(math.log10(size))
    return f"{value:,.{min(max(digits, 0), 6)}f}"
