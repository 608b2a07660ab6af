"""A detector with a memory: identity, causality, resets, snapshots, streams together."""

from __future__ import annotations

from pathlib import Path

import mamba_parts as parts
import numpy as np
import pytest
import torch
from mamba_parts import HOST, dulled, gated, paper, picture

from retain.models.mamba.memory import Memory, MemoryOptions, Seen
from retain.models.mamba.reading import Readout
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Boxes

RATE = 24.0


def options(readout: Readout | None, **changes: object) -> MemoryOptions:
    mode = "none" if readout is None else readout.config.as_json()["kind"]
    return MemoryOptions(mode=mode, **changes)  # type: ignore[arg-type]


def stream(count: int = 14, hit: tuple[int, ...] = (6, 7, 8, 11)) -> list[np.ndarray]:
    images = [picture(8 + 3 * k) for k in range(count)]
    return [dulled(image) if k in hit else image for k, image in enumerate(images)]


def watch(memory: Memory, images: list[np.ndarray], first: int = 0) -> list[Seen]:
    return [memory.look(image, k, k / RATE) for k, image in enumerate(images, start=first)]


def same(a: Boxes, b: Boxes) -> bool:
    names = ("boxes", "scores", "labels", "memory")
    return a.supports == b.supports and all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in names
    )


@pytest.mark.parametrize("make", [gated, paper])
def test_untrained_it_changes_no_bit(make: type) -> None:
    readout = make(opened=False)
    seen = watch(Memory(HOST, readout, options(readout, supports=0)), stream())
    for one in seen:
        assert np.array_equal(one.boxes.boxes, one.plain.boxes)
        assert np.array_equal(one.boxes.scores, one.plain.scores)
    assert any(len(one.plain.scores) for one in seen)


@pytest.mark.parametrize("make", [gated, paper])
def test_plain_is_the_host_alone_whatever_is_remembered(make: type) -> None:
    readout = make()
    memory = Memory(HOST, readout, options(readout, carry=True))
    changed = False
    for image, one in zip(stream(), watch(memory, stream()), strict=True):
        cells = HOST.describe([image])[0]
        found, _ = HOST.found(HOST.predict(cells.rows, cells), cells)
        assert np.array_equal(one.plain.boxes, found.boxes)
        assert np.array_equal(one.plain.scores, found.scores)
        changed |= not np.array_equal(one.boxes.scores, one.plain.scores)
    assert changed


def test_a_spoilt_frame_is_read_from_memory_and_says_from_which_frames() -> None:
    seen = watch(Memory(HOST, gated(), MemoryOptions()), stream())
    assert seen[5].plain.scores.max() > 0.5
    assert seen[6].plain.scores.max(initial=0) < 0.05
    assert seen[6].boxes.scores.max() > 0.1
    best = seen[6].boxes.supports[0]
    assert len(best) == 3
    assert all(s.seq < 6 for s in best)
    assert best[0].share >= best[1].share >= best[2].share
    assert sum(s.share for s in best) <= 1 + 1e-6
    assert 0 < seen[6].boxes.memory[0] <= 1


@pytest.mark.parametrize("make", [gated, paper])
def test_the_past_alone_decides(make: type) -> None:
    readout = make()
    one = watch(Memory(HOST, readout, options(readout)), stream())
    other = watch(Memory(HOST, readout, options(readout)), [*stream()[:8], *[picture(90)] * 6])
    assert all(same(a.boxes, b.boxes) for a, b in zip(one[:8], other[:8], strict=True))


@pytest.mark.parametrize("make", [gated, paper])
def test_a_snapshot_goes_on_bit_for_bit(make: type, tmp_path: Path) -> None:
    readout = make()
    one = Memory(HOST, readout, options(readout, carry=True), "a")
    watch(one, stream()[:7])
    one.hub.snapshot(tmp_path / "state", 6)
    other = Memory(HOST, readout, options(readout, carry=True), "b")
    assert other.hub.restore(tmp_path / "state") == 6
    rest = stream()[7:]
    for a, b in zip(watch(one, rest, 7), watch(other, rest, 7), strict=True):
        assert same(a.boxes, b.boxes)
        assert a.reset == b.reset


def test_a_snapshot_of_another_host_is_refused(tmp_path: Path) -> None:
    class Other(parts.Colours):
        digest = "others"

    readout = gated()
    Memory(HOST, readout, options(readout)).hub.snapshot(tmp_path / "state", 0)
    with pytest.raises(StateError):
        Memory(Other(), readout, options(readout)).hub.restore(tmp_path / "state")


def test_streams_looked_at_together_are_as_alone() -> None:
    readout = gated()
    alone = [Memory(HOST, readout, options(readout), name) for name in "ab"]
    both = [Memory(HOST, readout, options(readout), name) for name in "ab"]
    first, second = stream(), [picture(100 - 5 * k, seed=7) for k in range(14)]
    for k in range(14):
        apart = [m.look(i[k], k, k / RATE) for m, i in zip(alone, (first, second), strict=True)]
        together = Memory.look_many(both, [first[k], second[k]], [k, k], [k / RATE, k / RATE])
        assert all(same(a.boxes, b.boxes) for a, b in zip(apart, together, strict=True))


def test_bytes_stay_within_the_budget() -> None:
    memory = Memory(HOST, gated(), MemoryOptions(budget_bytes=60_000))
    for k in range(60):
        memory.look(picture(8 + k), k, k / RATE)
        assert memory.hub.nbytes <= 60_000
    assert memory.hub.stats()["bank"]["rows"]


@pytest.mark.parametrize("mode", ["gated", "none"])
def test_it_begins_anew_where_the_source_does_or_the_size_changes(mode: str) -> None:
    readout = gated() if mode == "gated" else None
    memory = Memory(HOST, readout, options(readout, carry=True))
    watch(memory, stream()[:5])
    fresh = memory.look(dulled(picture(20)), 5, 5 / RATE, fresh=True)
    assert fresh.reset == "source"
    assert fresh.boxes.scores.max(initial=0) < 0.05
    watch(memory, stream()[:5], 6)
    other = memory.look(dulled(picture(20, size=(128, 96))), 11, 11 / RATE)
    assert other.reset == "size"
    assert other.boxes.scores.max(initial=0) < 0.05


def test_a_cut_is_believed_of_good_frames_only() -> None:
    memory = Memory(HOST, gated(), MemoryOptions())
    watch(memory, stream(10, ()))
    bad = [memory.look(dulled(picture(38 + k)), 10 + k, (10 + k) / RATE).reset for k in range(5)]
    assert bad == [""] * 5
    watch(memory, [picture(50)] * 3, 15)
    new = [memory.look(picture(100, seed=9), 18 + k, (18 + k) / RATE).reset for k in range(6)]
    assert new.count("cut") == 1


def test_an_announced_cut_is_believed_sooner_and_a_denied_one_never() -> None:
    def resets(cut: bool | None) -> list[str]:
        memory = Memory(HOST, gated(), MemoryOptions())
        watch(memory, stream(10, ()))
        return [
            memory.look(picture(100, seed=9), 10 + k, (10 + k) / RATE, cut=cut and not k).reset
            for k in range(6)
        ]

    assert resets(True).index("cut") < resets(None).index("cut")
    assert "cut" not in resets(False)


def test_an_announced_cut_on_a_bad_frame_of_the_same_scene_forgets_nothing() -> None:
    memory = Memory(HOST, gated(), MemoryOptions())
    watch(memory, stream(10, ()))
    seen = [memory.look(dulled(picture(38)), 10, 10 / RATE, cut=True)]
    seen += watch(memory, [picture(40 + k) for k in range(4)], 11)
    assert [one.reset for one in seen] == [""] * 5
    assert memory.hub.stats()["bank"]["rows"]


def test_a_flash_forgets_nothing() -> None:
    memory = Memory(HOST, gated(), MemoryOptions())
    watch(memory, stream(10, ()))
    flash = memory.look(picture(100, seed=9), 10, 10 / RATE)
    back = watch(memory, [picture(40 + k) for k in range(4)], 11)
    assert {one.reset for one in (flash, *back)} == {""}


@pytest.mark.parametrize("resets", [True, False])
def test_a_frame_that_shows_another_scene_is_not_told_what_it_shows(resets: bool) -> None:
    """A dull one, in which nothing is seen, is told."""
    for image, told in ((picture(100, seed=9), False), (dulled(picture(38)), True)):
        memory = Memory(HOST, gated(), MemoryOptions(resets=resets))
        watch(memory, stream(10, ()))
        seen = memory.look(image, 10, 10 / RATE)
        assert seen.reset == ""
        assert bool(seen.boxes.memory.any()) == told
        assert any(seen.boxes.supports) == told
        assert same(seen.boxes, seen.plain) != told


def test_kinds_that_do_not_fit_and_options_that_cannot_work_are_told() -> None:
    with pytest.raises(UsageError, match="paper"):
        Memory(HOST, paper(), MemoryOptions())
    with pytest.raises(UsageError):
        MemoryOptions(mode="other")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        MemoryOptions(capacity=0)


def test_the_control_writes_nothing() -> None:
    memory = Memory(HOST, gated(), MemoryOptions(own_rows=True))
    watch(memory, stream())
    assert memory.hub.stats()["bank"]["rows"] == 0


def test_no_gradients_are_kept_by_looking() -> None:
    readout = gated().requires_grad_(True)
    memory = Memory(HOST, readout, MemoryOptions())
    watch(memory, stream(3, ()))
    assert isinstance(memory.read_out, object)
    assert torch.is_grad_enabled()
