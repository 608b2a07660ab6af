"""The hub: shares of one budget, one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from memory_parts import features, frames

from retain.memory.bank.memory import Bank, BankConfig
from retain.memory.bank.rows import BankWrite
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, load_entries
from retain.memory.hub import Hub
from retain.pipeline.errors import StateError, UsageError

DIM = 32


def frame_memory(**changes: object) -> FrameMemory:
    return FrameMemory(FrameMemoryConfig(dim=DIM, **changes))  # type: ignore[arg-type]


def hub_of_two(budget: int) -> Hub:
    hub = Hub(budget, "s")
    hub.add("far", frame_memory())
    hub.add("near", frame_memory(policy="recent", max_entries=8), weight=3.0)
    return hub


def run(hub: Hub, start: int, stop: int) -> None:
    rows = features(stop, DIM)
    for frame in frames(stop, 480, 270):
        if frame.seq >= start:
            for name in hub:
                hub[name].observe("s", frame, rows[frame.seq])  # type: ignore[attr-defined]
            assert hub.nbytes <= hub.budget_bytes


def test_shares_respect_minimum_weight_and_budget() -> None:
    hub = hub_of_two(1_000_000)
    shares = hub.shares()
    assert sum(shares.values()) <= 1_000_000
    spare = {name: share - hub[name].min_bytes for name, share in shares.items()}
    assert spare["near"] == pytest.approx(3 * spare["far"], abs=3)
    run(hub, 0, 60)
    assert set(hub.stats()) == {"far", "near"}


def test_a_budget_below_the_minimum_is_refused_with_both_numbers() -> None:
    least = frame_memory().min_bytes
    with pytest.raises(UsageError, match=f"at least {least} bytes .* budget is {least - 1}"):
        Hub(least - 1, "s").add("frames", frame_memory())


def test_names_are_unique_and_known() -> None:
    hub = hub_of_two(1_000_000)
    with pytest.raises(UsageError, match="'far' cannot be added"):
        hub.add("far", frame_memory())
    with pytest.raises(UsageError, match="Did you mean 'near'"):
        hub["neer"]


def test_a_hub_restored_from_its_file_goes_on_bit_for_bit(tmp_path: Path) -> None:
    one, two = hub_of_two(900_000), hub_of_two(900_000)
    run(one, 0, 40)
    one.snapshot(tmp_path / "hub.memory", seq=39)
    assert two.restore(tmp_path / "hub.memory") == 39
    run(one, 40, 70)
    run(two, 40, 70)
    one.snapshot(tmp_path / "a")
    two.snapshot(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_entries_are_read_from_a_file_without_its_configuration(tmp_path: Path) -> None:
    hub = Hub(4_000_000, "s")
    hub.add("frames", frame_memory())
    run(hub, 0, 40)
    hub.snapshot(tmp_path / "m", seq=39)
    entries = load_entries(str(tmp_path / "m"))
    live = hub["frames"].read("s", None)
    assert [e.seq for e in entries] == [e.seq for e in live]
    assert entries[3].jpeg == live[3].jpeg
    np.testing.assert_array_equal(entries[3].image(), live[3].image())


def test_a_file_of_other_memories_or_settings_changes_nothing(tmp_path: Path) -> None:
    hub = hub_of_two(900_000)
    run(hub, 0, 20)
    hub.snapshot(tmp_path / "own")
    other = Hub(900_000, "s")
    other.add("frames", frame_memory())
    other.snapshot(tmp_path / "other")
    strange = Hub(900_000, "s")
    strange.add("far", frame_memory(token_budget=77))
    strange.add("near", frame_memory(policy="recent", max_entries=8))
    with pytest.raises(StateError, match=r"holds the memories \['frames'\]"):
        hub.restore(tmp_path / "other")
    with pytest.raises(StateError, match=r"another configuration \(different: token_budget\)"):
        strange.restore(tmp_path / "own")
    hub.snapshot(tmp_path / "after")
    assert (tmp_path / "own").read_bytes() == (tmp_path / "after").read_bytes()


def test_a_hub_that_forgets_stays_within_its_budget() -> None:
    hub = Hub(40_000, "s")
    hub.add("bank", Bank(BankConfig(dim=16, capacity=20_000)))
    hub["bank"].write("s", BankWrite(torch.ones(70, 16), 0))
    hub.reset()
    assert hub.stats()["bank"]["rows"] == 0
    assert hub.nbytes <= hub.budget_bytes
