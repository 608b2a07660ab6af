"""Which frames the segment stage writes: the rules, what a kept-out frame costs, going on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import torch
from torch import Tensor

from retain.memory.gate import WriteRule
from retain.models.gdkvm import weights
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.models.gdkvm.stage import Segment
from retain.pipeline.errors import UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks, Route, State
from retain.pipeline.sources.dicom import DicomSource

STATES: tuple[State, ...] = ("clear", "discard", "blurred", "discard", "discard")
RULES = ("every:3", "routed", "clear", "scaled", "random:0.4")


@pytest.fixture(scope="module", params=["gated_delta", "frame_delta"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of a network with two objects."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    config = GdkvmConfig(grid=64, objects=("cavity", "atrium"), layer=request.param)
    weights.save(path, Gdkvm(config).eval(), {})
    return str(path)


@pytest.fixture(scope="module")
def echo() -> list[Packet]:
    """Sixteen frames of a real apical view, routed in turn as ``STATES`` say."""
    path = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
    frames = list(DicomSource(str(path)).frames())[:16]
    return [Packet(frame, {"route": route(frame.seq)}) for frame in frames]


def route(seq: int) -> Route:
    score = 0.2 + 0.1 * (seq % 5)
    return Route(STATES[seq % 5], "score", 0.0, 0.0, score, 0.2, 0.4, 0.0, 0.25, 0.5)


def feed(stage: Segment, packets: Sequence[Packet]) -> list[Packet]:
    return [out for packet in packets for out in stage.process(packet)]


def planes(packets: Sequence[Packet]) -> list[bytes]:
    return [p.get("masks", Masks).probability.tobytes() for p in packets]


def held(stage: Segment) -> list[Tensor]:
    assert stage._mind is not None
    state = stage._mind.delta.state("main")
    return list(state.values()) if isinstance(state, dict) else [state]


def test_every_frame_is_what_it_was_without_a_rule(small: str, echo: list[Packet]) -> None:
    plain = planes(feed(Segment(weights=small), echo))
    assert planes(feed(Segment(weights=small, write="every"), echo)) == plain
    assert planes(feed(Segment(weights=small, write="every:4"), echo)) != plain


@pytest.mark.parametrize("rule", RULES)
def test_a_frame_kept_out_is_answered_and_leaves_the_memory_as_it_is(
    small: str, echo: list[Packet], rule: str
) -> None:
    stage, wanted = Segment(weights=small, write=rule), WriteRule.parse(rule)
    feed(stage, echo[:8])
    kept_out = 0
    for packet in echo[8:]:
        before = held(stage)
        (out,) = stage.process(packet)
        assert out.get("masks", Masks).probability.any()
        same = all(torch.equal(a, b) for a, b in zip(before, held(stage), strict=True))
        gate = wanted.gate(packet.frame.seq, route(packet.frame.seq))
        assert same == (gate == 0)
        kept_out += same
    assert 0 < kept_out < 8


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_state_goes_on_bit_for_bit(
    small: str, echo: list[Packet], rule: str, tmp_path: Path
) -> None:
    whole = planes(feed(Segment(weights=small, write=rule), echo))
    first = Segment(weights=small, write=rule)
    feed(first, echo[:12])  # the last two are kept out by most
    first.save(str(tmp_path / "state"))
    second = Segment(weights=small, write=rule, resume=str(tmp_path / "state"))
    assert planes(feed(second, echo[12:])) == whole[12:]


def test_frames_since_the_last_write_are_told_to_the_memory(
    small: str, echo: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    from retain.models.gdkvm.stage import _Mind

    gaps = []
    real = _Mind._write

    def write(self: _Mind, key: Tensor, value: Tensor, gap: int, gate: float) -> None:
        gaps.append(gap)
        real(self, key, value, gap, gate)

    monkeypatch.setattr(_Mind, "_write", write)
    feed(Segment(weights=small, write="every:3"), [*echo[:10], *echo[12:]])
    assert gaps == [1, 3, 3, 3, 3, 3]


def test_a_rule_by_the_router_needs_one(small: str, echo: list[Packet]) -> None:
    alone = [Packet(packet.frame) for packet in echo]
    with pytest.raises(UsageError, match="did not see frame 0"):
        feed(Segment(weights=small, write="routed"), alone)
    with pytest.raises(UsageError, match="no write rule 'rooted'"):
        Segment(weights=small, write="rooted")
    assert len(planes(feed(Segment(weights=small, write="every:2"), alone))) == 16
    assert np.isfinite(feed(Segment(weights=small), alone)[0].get("masks", Masks).to_frame).all()
