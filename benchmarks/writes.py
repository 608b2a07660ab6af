"""What a write rule is worth to each memory: quality and cost, against random at equal writes.

Every memory in ``_subjects`` whose stage takes the option `write`. For each rule by the router
there are two controls with as many writes: frames drawn at random, and every K-th as near as K
comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from _subjects import Outcome, Stream, Subject, at_equal_writes, each, found

from retain.apps.bench import Row, script
from retain.datasets.bootstrap import Interval, interval
from retain.memory.gate import WriteRule

AREA = "memory"
RULES = ("routed", "clear", "scaled")
Outcomes = Sequence[Outcome]


def measure(quick: bool = False) -> list[Row]:
    return [row for subject in found() if subject.gated for row in table(subject, quick)]


def table(subject: Subject, quick: bool) -> list[Row]:
    streams = subject.streams(quick)

    def over(rule: Callable[[Stream], WriteRule]) -> Outcomes:
        return [subject.run(stream, rule(stream)) for stream in streams]

    every = over(lambda stream: WriteRule())
    rows = [_row(subject, "every", every)]
    known = {"every": every}
    for text in RULES[:1] if quick else RULES:
        ours = over(lambda stream, text=text: WriteRule.parse(text))  # type: ignore[misc]
        shares = {s.name: o.writes for s, o in zip(streams, ours, strict=True)}
        drawn = over(lambda stream, shares=shares: at_equal_writes(stream, shares[stream.name]))  # type: ignore[misc]
        kth = each(float(np.mean(list(shares.values()))))
        if str(kth) not in known:
            known[str(kth)] = over(lambda stream, kth=kth: kth)  # type: ignore[misc]
            rows.append(_row(subject, str(kth), known[str(kth)], "every", every))
        rows.append(_row(subject, f"random, as many as {text}", drawn, "every", every))
        rows.append(_row(subject, text, ours, "random", drawn))
        rows += [
            _difference(subject, text, name, ours, other)
            for name, other in (("random", drawn), (str(kth), known[str(kth)]), ("every", every))
        ]
    return rows


def _row(subject: Subject, rule: str, ours: Outcomes, peer: str = "", theirs: Outcomes = ()) -> Row:
    told = [f"{100 * _mean(ours, 'writes'):.0f} % written", f"{_mean(ours, 'ms'):.2f} ms"]
    for name in ours[0].more:
        told.append(f"{name}: {np.mean([o.more[name] for o in ours]):.3f}")
    value = _mean(ours, "quality")
    other = _mean(theirs, "quality") if theirs else None
    return Row(
        name=f"{subject.name}, {rule} ({', '.join(told)})",
        value=value,
        unit=subject.unit,
        peer=peer,
        peer_value=other,
        ratio=value / other if other else None,
    )


def _difference(subject: Subject, rule: str, name: str, ours: Outcomes, theirs: Outcomes) -> Row:
    found = paired(ours, theirs)
    told = f"… {subject.name}, {rule} - {name}, 95 % of {len(ours)} streams"
    return Row(
        name=f"{told}: {found.low:+.3f} to {found.high:+.3f}", value=found.value, unit=subject.unit
    )


def paired(ours: Outcomes, theirs: Outcomes) -> Interval:
    """The mean difference of quality, streams being resampled."""
    columns = (np.array([o.quality for o in group]) for group in (ours, theirs))
    return interval(lambda a, b: float((a - b).mean()), *columns)


def _mean(outcomes: Outcomes, name: str) -> float:
    return float(np.mean([getattr(one, name) for one in outcomes]))


if __name__ == "__main__":
    script(measure, "write rules")
