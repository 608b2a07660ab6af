"""A hub whose memories come and go never holds more than its budget, whatever they are."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.memory.base import Elastic, State
from retain.memory.hub import Hub
from retain.memory.snapshot import MemoryFile, save
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.shares import Use, apportion


def _cases() -> Any:
    """How to make each memory of the catalogue and what to write into it, as the laws do."""
    path = Path(__file__).parent / "test_laws.py"
    spec = importlib.util.spec_from_file_location("laws_of_memories", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: module.trial_of(name) for name in module.MEMORIES}


CASES = _cases()
NAMES = st.sampled_from("abcdefgh")
STEPS = 60


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(NAMES, st.integers(0, 2**62), max_size=6),
    st.dictionaries(NAMES, st.floats(0, 1e300)),
    st.integers(0, 2**63),
)
def test_shares_hold_the_least_and_the_budget(
    least: dict[str, int], weights: dict[str, float], budget: int
) -> None:
    weights = {name: weight for name, weight in weights.items() if name in least}
    if sum(least.values()) > budget:
        with pytest.raises(UsageError, match=f"at least {sum(least.values())} bytes .* {budget}"):
            apportion(budget, least, weights)
        return
    shares = apportion(budget, least, weights)
    assert set(shares) == set(least)
    assert sum(shares.values()) <= budget
    assert all(shares[name] >= need for name, need in least.items())
    heaviest = max(least, key=lambda name: weights.get(name, 1.0), default=None)
    if heaviest and weights.get(heaviest, 1.0):  # nothing is left over but what rounding takes
        assert budget - sum(shares.values()) < len(least)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number(weight: float) -> None:
    with pytest.raises(UsageError, match="number >= 0"):
        apportion(10, {"a": 1}, {"a": weight})
    with pytest.raises(UsageError, match=">= 0"):
        Hub(10**9, "s").add("notes", CASES["notes"].make(), weight)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("seed", range(4))
def test_memories_that_come_and_go_stay_within_the_budget(seed: int, part: int) -> None:
    """At every moment: after each write, each arrival and each departure. The three parts of a
    seed are the whole catalogue."""
    rng = random.Random(seed)
    kinds = rng.sample(sorted(CASES), len(CASES))[part::3]
    made = {kind: CASES[kind].make() for kind in kinds}
    least = sum(memory.min_bytes for memory in made.values())
    most = sum(CASES[kind].budget for kind in kinds)
    hub_most = max(most, least + 1)
    hub = Hub(least + int(rng.random() ** 2 * (hub_most - least)), "s")
    items = {kind: CASES[kind].items(3 * STEPS, seed) for kind in kinds}
    away = list(kinds)
    for _ in range(STEPS):
        if away and (not len(hub) or rng.random() < 0.3):
            kind = away.pop(rng.randrange(len(away)))
            hub.add(kind, made[kind], rng.choice((0.0, 0.3, 1.0, 5.0)))
        elif len(hub) > 1 and rng.random() < 0.1:
            away.append(kind := rng.choice(list(hub)))
            assert hub.remove(kind) is made[kind]
            made[kind].reset("s")
        elif len(hub) and rng.random() < 0.2:
            hub.shrink_to(least + int(rng.random() * (hub_most - least)))
        else:
            kind = rng.choice(list(hub))
            for _ in range(rng.randint(1, 3)):
                made[kind].write("s", next(items[kind]))
        shares = hub.shares()
        assert sum(shares.values()) <= hub.budget_bytes
        for name, share in shares.items():
            assert hub[name].nbytes("s") <= share, (name, seed)
        assert hub.nbytes <= hub.budget_bytes


def test_what_is_left_grows_into_the_share_of_what_goes() -> None:
    hub, one = Hub(30_000, "s"), CASES["keyframes"].make()
    for name, memory in (("one", one), ("two", CASES["keyframes"].make())):
        hub.add(name, memory)
    assert hub.shares() == {"one": 15_000, "two": 15_000}
    hub.remove("two")
    assert isinstance(one, Elastic)
    assert hub.shares() == {"one": one.max_bytes}, "more would be of no use to it"
    with pytest.raises(UsageError, match="No memory is called 'two'"):
        hub.remove("two")


@pytest.mark.parametrize(
    "kind", [name for name in CASES if isinstance(CASES[name].make(), Elastic)]
)
def test_what_a_memory_needs_is_enough(kind: str) -> None:
    """In what it says it needs it keeps all, and needs no more."""
    memory, notes = CASES[kind].make(), CASES["notes"].make()
    hub = Hub(CASES[kind].budget + memory.min_bytes + notes.min_bytes, "s")
    hub.add("notes", notes, 0.0)
    hub.add("it", memory)
    assert isinstance(memory, Elastic)
    for count, item in enumerate(CASES[kind].items(40, 1)):
        memory.write("s", item)
        if count % 4 == 3:
            need = hub.use().need
            before = _kept(memory)
            hub.shrink_to(need)
            assert _kept(memory) == before, "nothing went"
            assert hub.use() == Use(need, need), "nor does it need anything else now"
            hub.shrink_to(need + 10_000)
            assert _kept(memory) == before, "nor by getting more"
            other = CASES[kind].make()
            other.restore("s", memory.snapshot("s"))
            assert isinstance(other, Elastic)
            assert other.need("s") == memory.need("s"), "and a state needs what it needed"


def test_what_cannot_be_restored_leaves_memories_their_room(tmp_path: Path) -> None:
    """Also where that is more than the configuration of a memory says."""
    memory = CASES["gaussians"].make()
    hub = Hub(2 * CASES["gaussians"].budget, "s")
    hub.add("map", memory)
    for item in CASES["gaussians"].items(4, 0):
        memory.write("s", item)
    before, room = _kept(memory), memory.stats("s")["room"]
    held = memory.snapshot("s")
    damaged = State({n: a for n, a in held.tensors.items() if n != "rows.means"}, held.header)
    save(tmp_path / "state", MemoryFile("s", 4, {"map": (memory.config, damaged)}))
    with pytest.raises(StateError, match=r"no array 'rows\.means'"):
        hub.restore(tmp_path / "state")
    assert memory.stats("s")["room"] == room
    assert _kept(memory) == before


def _kept(memory: Any) -> dict[str, bytes]:
    """Of its state what is held, whatever the place."""
    state = memory.snapshot("s")
    return {name: array.tobytes() for name, array in state.tensors.items()}
