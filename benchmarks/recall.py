"""Planted transients: share of events still held after ten minutes, by policy, at 20 entries.

A narrow view of `retain eval moments`: every policy of that harness, at the paper's own number of
entries and the same tokens. The peer is the paper: its router, first in first out.
"""

from __future__ import annotations

from statistics import mean

from retain.apps.bench import Row, script
from retain.apps.evaluate_moments.policies import CONTENDERS, Budget
from retain.apps.evaluate_moments.streams import RATES, planted
from retain.datasets.planted import held_recall

AREA = "memory"
BUDGET = Budget(entries=20, tokens=12_800)


def measure(quick: bool = False) -> list[Row]:
    rows = []
    for fps in RATES:
        drawn = [planted("still and pan", 1000 + seed, fps) for seed in range(2 if quick else 8)]
        values: dict[str, float] = {}
        for contender in CONTENDERS:
            if contender.can(drawn[0]):
                held = [contender.run(s, BUDGET, [len(s.times_s) - 1], 0)[0] for s in drawn]
                pairs = zip(drawn, held, strict=True)
                values[contender.name] = mean(
                    held_recall(s.events, s.times_s[kept.frames].tolist()) for s, kept in pairs
                )
        peer = values.pop("paper")
        rows.append(
            Row(
                name=f"paper: router + first in first out, {fps:g} fps",
                value=peer,
                unit="of events held",
                bar="<= 0.15",
                met=peer <= 0.15,
            )
        )
        for name, value in values.items():
            ours = name == "robust"
            rows.append(
                Row(
                    name=f"{name}, {fps:g} fps",
                    value=value,
                    unit="of events held",
                    peer="paper",
                    peer_value=peer,
                    ratio=value / peer if peer else None,
                    bar=">= 0.95" if ours else "",
                    met=value >= 0.95 if ours else None,
                )
            )
    return rows


if __name__ == "__main__":
    script(measure, "recall of planted events")
