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
    rows, known = _told(subject, "every", every), {"every": every}
    for text in RULES[:1] if quick else RULES:
        ours = over(lambda stream, text=text: WriteRule.parse(text))  # type: ignore[misc]
        shares = {s.name: o.writes for s, o in zip(streams, ours, strict=True)}
        drawn = over(lambda stream, shares=shares: at_equal_writes(stream, shares[stream.name]))  # type: ignore[misc]
        kth = each(float(np.mean(list(shares.values()))))
        if str(kth) not in known:
            known[str(kth)] = over(lambda stream, kth=kth: kth)  # type: ignore[misc]
            rows += _told(subject, str(kth), known[str(kth)], "every", every)
        rows += _told(subject, f"random, as many as {text}", drawn, "every", every)
        rows += _told(subject, text, ours, "random", drawn)
        others = {"random": drawn, str(kth): known[str(kth)], "every": every}
        for name, other in others.items():
            rows += _difference(subject, f"{text} - {name}", ours, other)
    return rows


def _told(
    subject: Subject, rule: str, ours: Outcomes, peer: str = "", theirs: Outcomes = ()
) -> list[Row]:
    """Quality beside the peer's, what it took, and the subject's further measures."""
    name, value = f"{subject.name}, {rule}", _mean(ours, "quality")
    other = _mean(theirs, "quality") if theirs else None
    further = {key: float(np.mean([one.more[key] for one in ours])) for key in ours[0].more}
    return [
        Row(
            name=name,
            value=value,
            unit=subject.unit,
            peer=peer,
            peer_value=other,
            ratio=value / other if other else None,
        ),
        Row(name=f"{name}: written", value=100 * _mean(ours, "writes"), unit="%"),
        Row(name=f"{name}: CPU time of a frame", value=_mean(ours, "ms"), unit="ms"),
        *(Row(name=f"{name}: {key}", value=mean, unit="") for key, mean in further.items()),
    ]


def _difference(subject: Subject, what: str, ours: Outcomes, theirs: Outcomes) -> list[Row]:
    """With its 95 % interval, streams being resampled."""
    found, name = paired(ours, theirs), f"{subject.name}, {what}"
    return [
        Row(name=f"{name}{end}", value=value, unit=subject.unit)
        for end, value in (("", found.value), (", from", found.low), (", to", found.high))
    ]


def paired(ours: Outcomes, theirs: Outcomes) -> Interval:
    """The mean difference of quality, streams being resampled."""
    columns = (np.array([o.quality for o in group]) for group in (ours, theirs))
    return interval(lambda a, b: float((a - b).mean()), *columns)


def _mean(outcomes: Outcomes, name: str) -> float:
    return float(np.mean([getattr(one, name) for one in outcomes]))


if __name__ == "__main__":
    script(measure, "write rules")
