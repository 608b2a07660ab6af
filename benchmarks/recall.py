"""Planted transients: share of events still held after ten minutes, by eviction policy.

Every policy has the same entries and tokens. The peer is the paper: its router, first in first out.
"""

from __future__ import annotations

from statistics import mean

from retain.apps.bench import Row, script
from retain.datasets.planted import PlantedConfig, PlantedStream, held_recall, planted_features
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, Item

POLICIES = ("robust", "score", "score-decay", "adjacent-merge", "reservoir", "stride", "recent")
ENTRIES, TOKENS = 20, 12_800


def _recall(config: FrameMemoryConfig, stream: PlantedStream) -> float:
    from fractions import Fraction

    memory = FrameMemory(config)
    step = stream.times_s[1] - stream.times_s[0]
    for seq, (feature, seconds) in enumerate(zip(stream.features, stream.times_s, strict=True)):
        route = memory.route("main", feature, float(seconds))
        base = Fraction(float(step)).limit_denominator(1000)
        memory.write("main", Item(None, seq, seq, base, float(seconds), feature, route))
    return held_recall(stream.events, [entry.seconds for entry in memory.held("main").entries])


def measure(quick: bool = False) -> list[Row]:
    rows = []
    for fps in (1.0, 2.0, 5.0):
        streams = [
            planted_features(PlantedConfig(fps=fps, seed=1000 + seed))
            for seed in range(2 if quick else 8)
        ]
        dim = streams[0].features.shape[1]
        paper = FrameMemoryConfig.paper(dim, payload="none", token_budget=TOKENS)
        peer = mean(_recall(paper, stream) for stream in streams)
        rows.append(
            Row(
                name=f"paper: router + first in first out, {fps:g} fps",
                value=peer,
                unit="of events held",
                bar="<= 0.15",
                met=peer <= 0.15,
            )
        )
        for policy in POLICIES:
            config = FrameMemoryConfig(
                dim=dim,
                policy=policy,
                max_entries=ENTRIES,
                token_budget=TOKENS,
                payload="none",
            )
            value = mean(_recall(config, stream) for stream in streams)
            ours = policy == "robust"
            rows.append(
                Row(
                    name=f"{policy}, {fps:g} fps",
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
