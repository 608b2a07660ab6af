"""Each policy keeps what it says it keeps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from memory_parts import bare, features, feed

from retain.datasets.planted import PlantedConfig, PlantedStream, held_recall, planted_features
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, Item
from retain.memory.eviction import (
    COLUMNS,
    AdjacentMerge,
    Arrival,
    Reservoir,
    Robust,
    ScoreDecay,
    StrideDoubling,
    policy,
)
from retain.memory.store import RowStore
from retain.pipeline.errors import UsageError


def held(units: np.ndarray, seconds: list[float], **columns: list[float]) -> RowStore:
    rows = RowStore(len(units), units.shape[1], COLUMNS, similarity=True)
    for i, unit in enumerate(units):
        values = dict.fromkeys(COLUMNS, 0.0) | {k: v[i] for k, v in columns.items()}
        rows.append(unit.astype(np.float32), **(values | {"seconds": seconds[i]}))
    return rows


def test_fifo_and_recent_keep_the_newest() -> None:
    rows = features(200)
    recent = feed(bare(policy="recent", token_budget=10**6), rows)
    assert [entry.seq for entry in recent.entries] == list(range(180, 200))
    fifo = bare(policy="fifo", token_budget=10**6)
    kept = [i for i, row in enumerate(rows) if fifo.route("p", row, i / 2).state != "discard"]
    assert [entry.seq for entry in feed(fifo, rows).entries] == kept[-20:]


def test_the_score_heap_keeps_the_best_scores() -> None:
    memory = bare(policy="score", token_budget=10**6)
    rows = features(300)
    scores = [memory.route("probe", row, i / 2).score for i, row in enumerate(rows)]
    entries = feed(memory, rows).entries
    assert sorted(e.score for e in entries) == sorted(scores)[-20:]


def test_decay_halves_an_old_score() -> None:
    rows = held(np.eye(3), [0.0, 300.0, 600.0], key=[8.0, 3.0, 1.0])
    assert ScoreDecay(300.0).rank(rows).tolist() == [2.0, 1.5, 1.0]


def test_the_reservoir_samples_evenly_and_repeatably() -> None:
    def sample(seed: int) -> list[int]:
        memory = bare(policy="reservoir", seed=seed, token_budget=10**6)
        return [e.seq for e in feed(memory, features(400)).entries]

    assert sample(3) == sample(3)
    assert sample(3) != sample(4)
    drawn = [Reservoir(9).key(Arrival(n, 0, 0)) for n in range(4000)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.02)
    assert 0 <= min(drawn) <= max(drawn) < 1
    assert np.mean([np.mean(sample(seed)) for seed in range(12)]) == pytest.approx(200, abs=30)


@pytest.mark.parametrize("count", [20, 61, 160])
def test_stride_doubling_keeps_an_even_grid(count: int) -> None:
    memory = bare(policy="stride", token_budget=10**6)
    kept = [e.seq for e in feed(memory, features(count)).entries]
    stride = 1
    while (count - 1) // stride + 1 > 20:
        stride *= 2
    assert set(range(0, count, stride)) <= set(kept)
    assert StrideDoubling().key(Arrival(12, 0, 0)) == 2


def test_adjacent_merge_drops_from_the_most_alike_pair_and_counts() -> None:
    units = np.eye(4)[[0, 1, 1, 2]].astype(float)
    rows = held(units, [0.0, 1.0, 2.0, 3.0])
    merge = AdjacentMerge()
    victim = int(np.argmin(merge.rank(rows)))
    assert victim == 1
    merge.leaving(rows, victim)
    assert rows["key"].tolist() == [0, 0, 1, 0]


def test_robust_keeps_the_newest_then_events_and_what_stands_for_much() -> None:
    units = np.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7]].astype(float)
    worth = [0.9, 0.01, 0.02, 0.8, 0.03, 0.04, 0.05, 0.06]
    mass = [1.0, 300.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0]
    rows = held(units, list(range(8)), key=worth, novelty=[1.0] * 8, mass=mass)
    rank = Robust(recent=2, events=1, share=0.5).rank(rows)
    assert np.argsort(rank)[-2:].tolist() == [6, 7]
    assert np.argsort(rank)[-5:-2].tolist() == [3, 1, 0]


def test_of_rows_that_are_alike_the_worthier_is_the_event() -> None:
    units = np.eye(4)[[0, 0, 1, 2]].astype(float)
    rows = held(units, [0.0, 1.0, 2.0, 3.0], key=[0.8, 0.9, 0.1, 0.1], novelty=[1.0] * 4)
    assert Robust().detail(rows).tolist() == [0.0, 0.9, 0.1, 0.1]


def test_a_row_stands_for_the_frames_nearest_to_it_and_leaves_them_to_its_neighbour() -> None:
    units = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    rows = held(units, [0.0, 1.0, 2.0], mass=[1.0, 1.0, 1.0])
    policy = Robust()
    policy.passed(rows, np.array([0.1, 0.2, 0.9], np.float32), 5.0)
    assert rows["mass"].tolist() == [1.0, 1.0, 6.0]
    policy.leaving(rows, 2)
    assert rows["mass"][1] == 7.0


def test_no_second_of_the_stream_is_lost_or_counted_twice() -> None:
    memory = bare(policy="robust")
    feed(memory, features(300), fps=2.0)
    assert memory.snapshot("s").tensors["rows.mass"].sum() == pytest.approx(299 / 2)


def test_an_absence_of_the_stream_weighs_no_more_than_ten_seconds() -> None:
    memory = bare(dim=2, policy="robust")
    for seq, (unit, seconds) in enumerate([((1, 0), 0.0), ((0, 1), 1.0), ((0, 1), 5000.0)]):
        feature = np.array(unit, np.float32)
        route = memory.route("s", feature, seconds)
        memory.write("s", Item(None, seq, seq, Fraction(1), seconds, feature, route))
    assert memory.snapshot("s").tensors["rows.mass"].tolist() == [0.0, 11.0]


def test_a_flash_is_worth_little_once_it_is_over() -> None:
    rows = held(np.eye(2), [0.0, 1.0], key=[1.0, 1.0], mass=[1.0, 1.0])
    Robust().flashed(rows, 1.2)
    assert rows["key"].tolist() == [1.0, pytest.approx(0.02)]
    assert rows["mass"].tolist() == [1.0, 0.0]
    Robust().flashed(rows, 5.0)
    assert rows["key"].tolist() == [1.0, pytest.approx(0.02)]


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'fifo'"):
        policy("fif")


def recall(name: str, stream: PlantedStream) -> float:
    dim = stream.features.shape[1]
    if name == "paper":
        memory = FrameMemory(FrameMemoryConfig.paper(dim, payload="none", token_budget=12_800))
    else:
        memory = bare(dim, policy=name)
    fps = 1.0 / (stream.times_s[1] - stream.times_s[0])
    entries = feed(memory, stream.features, fps=float(fps)).entries
    return held_recall(stream.events, [entry.seconds for entry in entries])


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_planted_transients_survive_ten_minutes_only_by_worth(fps: float) -> None:
    """At the same token budget and entry cap: the published queue forgets, worth does not."""
    streams = [planted_features(PlantedConfig(fps=fps, seed=seed)) for seed in range(12)]
    assert np.mean([recall("paper", s) for s in streams]) <= 0.15
    streams = streams[:4]
    assert np.mean([recall("robust", s) for s in streams]) >= 0.95
    assert np.mean([recall("reservoir", s) for s in streams]) <= 0.3
    assert np.mean([recall("recent", s) for s in streams]) <= 0.15


@pytest.mark.parametrize(
    "change",
    [
        {"strength": (0.2, 0.8), "pan": 0.05},
        {"noise": 0.2},
        {"ramp_s": 0.7, "event_s": (2.0, 3.0), "fps": 5.0},
        {"cut_s": 20.0, "scenes": 3},
        {"flashes": 10, "fps": 5.0},
        {"positive": True, "exposure": 0.2, "event_s": (0.5, 2.0)},
        {"duration_s": 1800.0, "fps": 1.0},
    ],
    ids=["weak", "noisy", "gradual", "cuts", "flashes", "rectified", "half an hour"],
)
def test_planted_transients_survive_whatever_surrounds_them(change: dict[str, object]) -> None:
    values: dict[str, object] = {"fps": 2.0} | change
    streams = [planted_features(PlantedConfig(**values, seed=50 + s)) for s in range(2)]  # type: ignore[arg-type]
    assert np.mean([recall("robust", s) for s in streams]) >= 0.95
