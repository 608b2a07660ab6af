"""Quality against bytes, for each memory.

Budgets go from the least that a memory works with to where more helps no more; ``--picture FILE``
draws the curves, one panel a memory. A memory of fixed size is one point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _subjects import Outcome, Subject, found

from retain.apps.bench import Row, script
from retain.memory.gate import WriteRule

AREA = "memory"
Curve = list[list[Outcome]]
"""By budget, then by stream."""


def measure(quick: bool = False, picture: Path | None = None) -> list[Row]:
    curves = [(subject, curve(subject, quick)) for subject in found()]
    if picture:
        from _bytes_picture import draw

        draw(curves, picture)
    return [row for subject, one in curves for row in told(subject, one)]


def curve(subject: Subject, quick: bool) -> Curve:
    streams, budgets = subject.streams(quick), subject.budgets(quick)
    given = budgets if len(budgets) > 1 else [None]
    return [[subject.run(one, WriteRule(), budget) for one in streams] for budget in given]


def told(subject: Subject, curve: Curve) -> list[Row]:
    most, rows = quality(curve[-1]), list[Row]()
    for outcomes in curve:
        name = f"{subject.name}, {held(outcomes) / 1e3:,.0f} kB held"
        rows.append(
            Row(
                name=name,
                value=quality(outcomes),
                unit=subject.unit,
                peer="with the most bytes" if len(curve) > 1 else "",
                peer_value=most if len(curve) > 1 else None,
                ratio=quality(outcomes) / most if len(curve) > 1 and most else None,
            )
        )
        for key in outcomes[0].more:
            mean = float(np.mean([one.more[key] for one in outcomes]))
            rows.append(Row(name=f"{name}: {key}", value=mean, unit=""))
    return rows


def quality(outcomes: list[Outcome]) -> float:
    return float(np.mean([one.quality for one in outcomes]))


def held(outcomes: list[Outcome]) -> float:
    return float(np.mean([one.nbytes for one in outcomes]))


if __name__ == "__main__":
    script(measure, "bytes")
