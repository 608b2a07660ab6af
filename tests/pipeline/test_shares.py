"""How bytes are divided and moved: whatever is asked for, never more than there is."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.pipeline.shares import STEP, Use, apportion, moved, needed

NAMES = st.sampled_from("abcdefgh")
BYTES = st.integers(0, 10**9)
LEAST = st.dictionaries(NAMES, BYTES, min_size=1, max_size=6)
WEIGHTS = st.dictionaries(NAMES, st.floats(0, 1e9))
Limits = Mapping[str, int]


def of(names: Mapping[str, int], given: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in given.items() if name in names}


@settings(max_examples=100, deadline=None)
@given(LEAST, WEIGHTS, st.dictionaries(NAMES, BYTES), BYTES)
def test_nobody_gets_more_than_is_of_use(
    least: dict[str, int], weights: dict[str, float], most: dict[str, int], spare: int
) -> None:
    weights, most = of(least, weights), {n: m for n, m in most.items() if n in least}
    budget = sum(least.values()) + spare
    shares = apportion(budget, least, weights, most)
    assert sum(shares.values()) <= budget
    assert all(
        least[n] <= share <= max(least[n], most.get(n, share)) for n, share in shares.items()
    )
    hungry = [n for n in least if weights.get(n, 1.0) and shares[n] < most.get(n, 2**62)]
    if hungry:  # what nobody else can use is theirs
        assert budget - sum(shares.values()) < len(least)
    plain = apportion(budget, least, weights)
    assert all(shares[n] >= plain[n] for n in hungry)


@settings(max_examples=100, deadline=None)
@given(LEAST, WEIGHTS, st.dictionaries(NAMES, BYTES), st.dictionaries(NAMES, BYTES))
def test_what_is_needed_is_enough(
    least: dict[str, int], weights: dict[str, float], most: dict[str, int], needs: dict[str, int]
) -> None:
    weights, most = of(least, weights), {n: m for n, m in most.items() if n in least}
    needs = {name: need for name, need in needs.items() if name in least}
    budget = needed(needs, least, weights, most)
    shares = apportion(budget, least, weights, most)
    for name, need in needs.items():
        if weights.get(name, 1.0):
            assert shares[name] >= min(need, most.get(name, need))
    if budget > sum(least.values()) + len(least):  # and hardly less would be
        fewer = apportion(budget - len(least) - 1, least, weights, most)
        assert any(fewer[n] < min(need, most.get(n, need)) for n, need in needs.items())


class Stage:
    """Takes ``item`` bytes at a time until it has ``most``, from round ``begin`` on; what it holds
    never exceeds its limit."""

    def __init__(self, limit: int, rng: random.Random, budget: int) -> None:
        self.limit, self.item = limit, rng.randint(1, 500)
        self.most, self.begin = rng.randint(0, 2 * budget), rng.randint(0, 60)
        self.held = 0

    def grow(self, turn: int, items: int) -> None:
        if turn >= self.begin:
            self.held = min(self.held + items * self.item, self.most)
            self.fit()

    def fit(self) -> bool:
        """Whether something had to go."""
        before, self.held = self.held, min(self.held, self.limit)
        return self.held < before

    @property
    def use(self) -> Use:
        return Use(self.limit, max(1, min(self.held + self.item, self.most)))


@pytest.mark.parametrize("part", range(8))
def test_whatever_stages_want_the_sum_stays_below_and_comes_to_rest(part: int) -> None:
    moves = sum(_play(random.Random(40 * part + seed)) for seed in range(40))
    assert moves > 40


def _play(rng: random.Random) -> int:
    """Rounds of stages at random; returns how many limits changed."""
    names = "abcdef"[: rng.randint(2, 6)]
    least = {name: rng.randint(0, 5_000) for name in names}
    weights = {name: rng.choice((0.0, 0.5, 1.0, 7.0)) for name in names if rng.random() < 0.5}
    budget = sum(least.values()) + rng.randint(0, 100_000)
    shares = apportion(budget, least, weights)
    stages = {name: Stage(shares[name], rng, budget) for name in names}
    peaks: dict[str, int] = {}
    orders: dict[str, int] = {}
    still = moves = 0
    for turn in range(2000):
        # Stages at different frames see a round at different times: any order of them will do.
        for name in rng.sample(sorted(orders), len(orders)):
            stage, lends = stages[name], stages[name].limit <= shares[name]
            stage.limit, known = orders[name], stage.held <= peaks[name]
            lost = stage.fit()
            assert sum(one.limit for one in stages.values()) <= budget
            assert stage.limit >= least[name]
            assert not (lost and lends and known), "who lends loses nothing"
        still, moves = 0 if orders else still + 1, moves + len(orders)
        if still > 60 and turn > 100:
            break
        for stage in stages.values():
            stage.grow(turn, rng.randint(0, 4))
        uses = {name: stage.use for name, stage in stages.items()}
        peaks = {name: max(use.need, peaks.get(name, 0)) for name, use in uses.items()}
        orders = moved(budget, shares, least, weights, uses, peaks)
        up = [limit > stages[name].limit for name, limit in orders.items()]
        assert all(up) or not any(up), "shrinking comes before growing"
        assert not orders or any(use.need > use.limit for use in uses.values())
    assert still > 60, "it never came to rest"
    step = max(1, budget // STEP)
    idle = budget - sum(stage.limit for stage in stages.values())
    over = sum(max(0, stage.limit - shares[name]) for name, stage in stages.items())
    full = [n for n, s in stages.items() if s.use.need > s.limit and weights.get(n, 1.0)]
    owed = sum(max(0, shares[name] - stages[name].limit) for name in full)
    assert not full or (idle < step and idle + min(owed, over) < step), "somebody is owed"
    return moves
