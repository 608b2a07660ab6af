"""The stage that detects: what it tells, when it begins anew, how it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import detect_app_parts as parts
import numpy as np
import pytest

from retain.models.mamba import stage as module
from retain.models.mamba.memory import Memory, Seen
from retain.models.mamba.stage import Detect
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Route

Make = Callable[..., Detect]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A stage with a host that sees colours, and a read-out that changes what it says."""
    monkeypatch.setattr(module, "open_parts", parts.opened)
    return Detect


def feed(stage: Detect, frames: Sequence[Frame]) -> list[Packet]:
    return [out for frame in frames if (out := stage.process(Packet(frame))) is not None]


def same(one: Boxes, other: Boxes) -> bool:
    names = ("boxes", "scores", "labels", "memory", "tracks")
    return one.supports == other.supports and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def test_every_frame_says_what_is_there_and_what_is_remembered(make: Make) -> None:
    out = feed(make(compare=True), [parts.frame(seq) for seq in range(4)])
    found, plain = (out[-1].get(name, Boxes) for name in ("boxes", "plain"))
    assert found.names == ("red", "green")
    assert {0, 1} <= set(found.labels[found.scores > 0.5].tolist())
    assert (plain.memory == 0).all()
    rows = [packet.get("recall", Recall).rows for packet in out]
    assert rows == sorted(rows)
    assert 0 < rows[0] < rows[-1] <= out[-1].get("recall", Recall).room == 40
    assert set(out[-1].get("recall", Recall).parts_ms) == {"detector", "memory"}
    assert "plain" not in feed(make(), [parts.frame(0)])[0].results


def test_without_a_memory_nothing_is_changed(make: Make) -> None:
    stage = make(bank="none", carry=False, compare=True)
    for packet in feed(stage, [parts.frame(seq) for seq in range(5)]):
        assert same(packet.get("boxes", Boxes), packet.get("plain", Boxes))
        assert packet.get("recall", Recall).room == 0


def test_weak_boxes_and_other_classes_are_not_told(make: Make) -> None:
    frames = [parts.frame(seq) for seq in range(3)]
    (*_, all_of_them) = feed(make(min_score=0.0), frames)
    (*_, some) = feed(make(min_score=0.5, classes="green"), frames)
    whole, kept = (packet.get("boxes", Boxes) for packet in (all_of_them, some))
    wanted = (whole.scores >= 0.5) & (whole.labels == 1)
    assert 0 < len(kept.scores) == wanted.sum() < len(whole.scores)
    np.testing.assert_array_equal(kept.boxes, whole.boxes[wanted])
    with pytest.raises(UsageError, match="no class 'gren'.*'green'"):
        make(classes="red, gren")


@pytest.mark.parametrize("how", ["gap", "size"])
def test_the_memory_begins_anew_and_says_why(make: Make, how: str) -> None:
    stage = make()
    feed(stage, [parts.frame(seq) for seq in range(8)])
    size = (120, 96) if how == "size" else parts.SIZE
    (out,) = feed(stage, [parts.frame(8, size, broken=how == "gap")])
    recall = out.get("recall", Recall)
    assert recall.reset == {"gap": "a gap in the stream", "size": "frames of another size"}[how]
    assert stage.stats()["resets"] == 1


@pytest.mark.parametrize("cut", [True, False, None])
def test_a_router_is_believed_and_a_cut_said(
    make: Make, monkeypatch: pytest.MonkeyPatch, cut: bool | None
) -> None:
    heard = []

    def look(self: Memory, *frame: object, cut: bool | None, **rest: object) -> Seen:
        heard.append(cut)
        nothing = parts.boxes_of([], [], [])
        return Seen(nothing, nothing, "cut" if cut else "")

    monkeypatch.setattr(Memory, "look", look)
    route = Route("clear", "hard-trigger", 1, 1, 1, 1, 1, 1, 1, 1, cut=bool(cut))
    out = make().process(Packet(parts.frame(0), {} if cut is None else {"route": route}))
    assert out is not None
    assert heard == [cut]
    assert out.get("recall", Recall).reset == ("another scene" if cut else "")


def test_a_resumed_stage_goes_on_bit_for_bit(make: Make, tmp_path: Path) -> None:
    frames = [parts.frame(seq) for seq in range(14)]
    whole = [packet.get("boxes", Boxes) for packet in feed(make(), frames)]
    first = make()
    feed(first, frames[:8])
    first.save(str(tmp_path / "state"))
    told_later = make()
    told_later.load(str(tmp_path / "state"))
    for second in (make(resume=str(tmp_path / "state")), told_later):
        out = feed(second, frames)
        assert [packet.frame.seq for packet in out] == list(range(8, 14))
        assert all(map(same, [packet.get("boxes", Boxes) for packet in out], whole[8:]))


def test_what_cannot_work_is_refused(make: Make, tmp_path: Path) -> None:
    stage = make()
    with pytest.raises(StateError, match="no memory to save"):
        stage.save(str(tmp_path / "state"))
    feed(stage, [parts.frame(0)])
    with pytest.raises(UsageError, match="'main' and of 'other'"):
        stage.process(Packet(parts.frame(1, stream="other")))
    with pytest.raises(UsageError, match="gated or paper"):
        make(mode="papr")
    with pytest.raises(UsageError, match="min_score"):
        make(min_score=1.0)
    (tmp_path / "torn").write_bytes(b"no")
    with pytest.raises(StateError, match="not a memory file"):
        make(resume=str(tmp_path / "torn"))


def test_pictures_with_nothing_in_them(make: Make) -> None:
    black = np.zeros((120, 160, 3), np.uint8)
    frames = [Frame("main", k, k, parts.frame(0).time_base, black.copy()) for k in range(3)]
    for packet in feed(make(compare=True), frames):
        assert len(packet.get("boxes", Boxes).scores) == len(packet.get("plain", Boxes).scores) == 0
