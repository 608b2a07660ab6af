"""Which frames the detect stage writes to its bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import detect_app_parts as parts
import numpy as np
import pytest

from retain.memory.base import State as Saved
from retain.memory.gate import WriteRule
from retain.models.mamba import stage as module
from retain.models.mamba.reading import GatedBank
from retain.models.mamba.stage import Detect
from retain.pipeline.errors import UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Route, State

Make = Callable[..., Detect]
STATES: tuple[State, ...] = ("clear", "discard", "blurred", "discard", "discard")
RULES = ("every:3", "routed", "clear", "scaled", "random:0.4")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A stage with a host that sees colours, and a read-out that changes what it says."""
    monkeypatch.setattr(module, "open_parts", parts.opened)
    return Detect


def route(seq: int, cut: bool = False) -> Route:
    score = 0.2 + 0.1 * (seq % 5)
    return Route(STATES[seq % 5], "score", 0, 0, score, 0.2, 0.4, 0, 0.25, 0.5, cut=cut)


def packets(count: int, first: int = 0) -> list[Packet]:
    return [Packet(parts.frame(seq), {"route": route(seq)}) for seq in range(first, count)]


def feed(stage: Detect, given: Sequence[Packet]) -> list[Packet]:
    return [out for packet in given if (out := stage.process(packet)) is not None]


def told(given: Sequence[Packet]) -> list[bytes]:
    found = [packet.get("boxes", Boxes) for packet in given]
    return [np.concatenate([b.boxes.ravel(), b.scores, b.memory]).tobytes() for b in found]


def bank(stage: Detect) -> Saved:
    assert stage._memory is not None
    return stage._memory.hub["bank"].snapshot("main")


def test_every_frame_is_what_it_was_without_a_rule(make: Make) -> None:
    plain = told(feed(make(), packets(12)))
    assert told(feed(make(write="every"), packets(12))) == plain
    assert told(feed(make(write="every:5"), packets(12))) != plain


@pytest.mark.parametrize("rule", RULES)
def test_a_frame_kept_out_is_answered_and_leaves_the_bank_as_it_is(make: Make, rule: str) -> None:
    stage, wanted = make(write=rule), WriteRule.parse(rule)
    feed(stage, packets(4))
    for packet in packets(12, 4):
        before = bank(stage)
        (out,) = feed(stage, [packet])
        assert len(out.get("boxes", Boxes).scores)
        after = bank(stage)
        same = after.header == before.header and all(
            np.array_equal(after.tensors[name], array) for name, array in before.tensors.items()
        )
        gate = wanted.gate(packet.frame.seq, route(packet.frame.seq))
        assert same == (gate == 0)


def test_rows_of_a_frame_kept_out_are_not_made(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    real = GatedBank.write

    def write(self: GatedBank, *given: object) -> int:
        written.append(given[-3])
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(GatedBank, "write", write)
    feed(make(write="every:4"), packets(10, 1))
    assert written == [1, 4, 8]  # the first one: the bank is empty


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_state_goes_on_bit_for_bit(make: Make, rule: str, tmp_path: Path) -> None:
    whole = told(feed(make(write=rule), packets(14)))
    first = make(write=rule)
    feed(first, packets(8))
    first.save(str(tmp_path / "state"))
    second = make(write=rule, resume=str(tmp_path / "state"))
    assert told(feed(second, packets(14))) == whole[8:]


def test_after_a_new_beginning_the_first_frame_is_taken(make: Make) -> None:
    stage = make(write="clear")
    feed(stage, packets(7))
    (out,) = feed(stage, [Packet(parts.frame(8, broken=True), {"route": route(8)})])
    assert STATES[8 % 5] == "discard"
    recall = out.get("recall", Recall)
    assert recall.reset
    assert recall.rows > 0


def test_a_rule_by_the_router_needs_one(make: Make) -> None:
    with pytest.raises(UsageError, match="did not see frame 0"):
        feed(make(write="routed"), [Packet(parts.frame(0))])
    with pytest.raises(UsageError, match="no write rule 'rooted'"):
        make(write="rooted")
