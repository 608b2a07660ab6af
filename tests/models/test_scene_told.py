"""What is told of a map goes on where its state goes on; whoever was not there gets the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from scene_parts import packets, room

from retain.models.scene.stage import Reconstruct
from retain.models.scene.told import known
from retain.pipeline.errors import StateError
from retain.pipeline.packet import Packet
from retain.pipeline.results import SplatDelta

SHOTS, CUT = room(20), 8


def stage(**options: object) -> Reconstruct:
    return Reconstruct(**({"refine": 0} | options))  # type: ignore[arg-type]


def deltas(mapping: Reconstruct, given: Iterable[Packet]) -> list[tuple[int, SplatDelta]]:
    """Those that came, by frame."""
    made = (mapping.process(packet) for packet in given)
    return [
        (out.frame.seq, out.get("splats", SplatDelta))
        for out in made
        if out is not None and "splats" in out.results
    ]


def bits(told: list[tuple[int, SplatDelta]]) -> list[tuple[object, ...]]:
    return [
        (seq, d.epoch, d.whole, d.removed.tobytes(), d.ids.tobytes(), d.records.tobytes())
        for seq, d in told
    ]


def rest() -> Iterable[Packet]:
    return packets(SHOTS[CUT:])


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    first, path = stage(), str(tmp_path_factory.mktemp("told") / "map")
    assert deltas(first, packets(SHOTS[:CUT]))
    first.save(path)
    return path


@pytest.mark.parametrize("whole_s", [0.0, 0.3])
def test_a_state_goes_on_with_the_next_delta_bit_for_bit(whole_s: float, tmp_path: Path) -> None:
    whole = bits(deltas(stage(whole_s=whole_s), packets(SHOTS)))
    first, second = stage(whole_s=whole_s), stage(whole_s=whole_s)
    before = bits(deltas(first, packets(SHOTS[:CUT])))
    first.save(str(tmp_path / "map"))
    second.load(str(tmp_path / "map"))
    after = bits(deltas(second, rest()))
    assert len(before) > 1
    assert len(after) > 1
    assert before + after == whole
    assert after[0][2] == (whole_s > 0), "it is not told anew unless that is due"


def test_after_a_gap_and_to_those_who_are_new_the_whole_is_told(state: str) -> None:
    """A live stage that is started again may have lost deltas; a memory given as an option goes on
    with whoever is there now."""
    gap = stage()
    gap.load(state)
    first, *others = rest()
    marked = Packet(replace(first.frame, discontinuity=True), first.results)
    for mapping, given in ((gap, [marked, *others]), (stage(resume=state), [first, *others])):
        (_, told), *_ = deltas(mapping, given)
        assert told.whole
        assert told.epoch > 1, "it counts on"
        assert mapping.mapper is not None


def test_who_begins_in_the_middle_gets_the_map_from_the_state(state: str) -> None:
    begun = known(state)
    assert begun is not None
    assert begun.whole
    held = dict(zip(begun.ids.tolist(), begun.records, strict=True))
    second = stage()
    second.load(state)
    told = deltas(second, rest())
    assert told[0][1].epoch == begun.epoch + 1
    for _, delta in told:
        for gone in delta.removed.tolist():
            held.pop(gone, None)
        held.update(zip(delta.ids.tolist(), delta.records, strict=True))
    assert second.mapper is not None
    last = second.mapper.delta()
    for gone in last.removed.tolist() if last else ():
        held.pop(gone, None)
    if last:
        held.update(zip(last.ids.tolist(), last.records, strict=True))
    end = second.mapper.delta(whole=True)
    assert end is not None
    assert set(held) == set(end.ids.tolist())
    assert all(
        np.array_equal(held[i], r) for i, r in zip(end.ids.tolist(), end.records, strict=True)
    )


def test_of_an_earlier_version_nothing_is_known_and_the_whole_is_told_next(tmp_path: Path) -> None:
    with ZipFile(Path(__file__).parents[1] / "data" / "states" / "everything-1.zip") as packed:
        path = packed.extract("6", tmp_path)
    assert known(path) is None
    Path(path).write_bytes(b"nothing")
    with pytest.raises(StateError):
        known(path)
