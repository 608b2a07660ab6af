"""Snapshots of Gaussian maps: through a file, under a hub, and forged ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gaussian_parts import CONFIG, SMALL, keyframe, pose

from retain.memory.base import State
from retain.memory.gaussian.memory import GaussianMemory
from retain.memory.hub import Hub
from retain.pipeline.errors import StateError

Arrays = dict[str, np.ndarray]


def used(count: int = 6) -> GaussianMemory:
    memory = GaussianMemory(CONFIG)
    for i in range(count):
        memory.write("s", keyframe(i, pose(i), SMALL, noise=0.01))
    return memory


def test_through_a_file_into_another_hub(tmp_path: Path) -> None:
    budget = 120_000
    memories = [GaussianMemory(CONFIG) for _ in range(2)]
    one, two = Hub(budget, "one"), Hub(budget, "two")
    one.add("map", memories[0])
    two.add("map", memories[1])
    for i in range(6):
        memories[0].write("one", keyframe(i, pose(i), SMALL, noise=0.01))
    one.snapshot(tmp_path / "m", 6)
    assert two.restore(tmp_path / "m") == 6
    for i in range(6, 9):
        for memory, stream in zip(memories, ("one", "two"), strict=True):
            memory.write(stream, keyframe(i, pose(i), SMALL, noise=0.01))
    a, b = memories[0].snapshot("one"), memories[1].snapshot("two")
    assert a.header == b.header
    assert {n: x.tobytes() for n, x in a.tensors.items()} == {
        n: x.tobytes() for n, x in b.tensors.items()
    }
    assert one.nbytes <= budget


def test_a_limit_outlives_a_reset() -> None:
    memory = used()
    memory.shrink_to("s", 40_000)
    memory.reset("s")
    for i in range(8):
        memory.write("s", keyframe(i, pose(i)))
        assert memory.nbytes("s") <= 40_000


def set_to(name: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    def forge(arrays: Arrays) -> None:
        arrays[name][index] = value

    return forge


FORGED: dict[str, Callable[[Arrays], None]] = {
    "an id twice": set_to("rows.ids", 0, 1),
    "an id out of range": set_to("rows.ids", 0, 10**6),
    "a negative id": set_to("rows.ids", 0, -1),
    "no such keyframe": set_to("rows.anchor", 0, 7),
    "an anchor out of range": set_to("rows.anchor", 0, 8),
    "a voxel twice": set_to("rows.keys", slice(0, 2), 5),
    "a negative key": set_to("rows.keys", 0, -1),
    "not a number": set_to("rows.means", (0, 0), np.nan),
    "no rotation": set_to("rows.quats", 0, 0.0),
    "no extent": set_to("rows.scales", (0, 1), 0.0),
    "a negative weight": set_to("rows.weights", 0, -1.0),
    "a keyframe twice": set_to("poses.ids", 1, 0),
    "a negative keyframe": set_to("poses.ids", 1, -7),
    "a window of nothing": set_to("poses.window", 0, 7),
    "a window out of range": set_to("poses.window", 0, 99),
    "a window of one twice": set_to("poses.window", slice(None), 1),
    "no rigid pose": set_to("poses.c2w", 1, 0.0),
    "one array more": lambda arrays: arrays.update(more=np.zeros(3)),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_map_is_refused(what: str) -> None:
    memory = used()
    saved = memory.snapshot("s")
    arrays = {name: array.copy() for name, array in saved.tensors.items()}
    FORGED[what](arrays)
    with pytest.raises(StateError):
        memory.restore("s", State(arrays, saved.header))
    memory.restore("s", saved)


def test_room_that_a_map_had_elsewhere_is_not_given_by_its_file() -> None:
    memory = used()
    saved, room = memory.snapshot("s"), GaussianMemory(CONFIG).stats("s")["room"]
    memory.restore("s", State(saved.tensors, {**saved.header, "rows": 10**9}))
    assert memory.stats("s")["room"] == room
    memory.shrink_to("s", 2 * CONFIG.byte_budget)
    assert memory.stats("s")["room"] > room, "but by whoever has the bytes"


@pytest.mark.parametrize(
    ("name", "value"),
    [("rows", 1), ("peak", 3), ("peak", 10**6), ("stable", 10**5), ("epoch", -1),
     ("epoch", 2**40), ("merged", True), ("seq", "1"), ("written", 1.5), ("more", 1)],
)  # fmt: skip
def test_a_forged_header_is_refused(name: str, value: object) -> None:
    memory = used()
    saved = memory.snapshot("s")
    with pytest.raises(StateError):
        memory.restore("s", State(saved.tensors, {**saved.header, name: value}))  # type: ignore[dict-item]
