"""The boundaries stage: results in packets, gaps, saving and loading."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from retain.models.boundaries.stage import Boundaries
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Result, Verdict

BASE = Fraction(1, 25)


def picture(k: int) -> np.ndarray:
    """A new scene every 12 frames."""
    rng = np.random.default_rng(k // 12)
    return np.repeat(np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8), 8, 0), 8, 1)


def packet(k: int, stream: str = "door", gap: bool = False, described: bool = True) -> Packet:
    frame = Frame(stream, k, k, BASE, picture(k), discontinuity=gap)
    if not described:
        return Packet(frame)
    vector = np.random.default_rng(k // 12 + 50).normal(size=8).astype(np.float32)
    return Packet(frame).plus(embedding=Embedding(vector / np.linalg.norm(vector), "fake"))


def verdicts(stage: Boundaries, packets: list[Packet]) -> list[Verdict]:
    made = [stage.process(one) for one in packets]
    return [one.get("boundary", Verdict) for one in made if one is not None]


@pytest.mark.parametrize("described", [True, False])
def test_a_boundary_is_in_the_packet_that_begins_the_shot(described: bool) -> None:
    stage = Boundaries()
    made = verdicts(stage, [packet(k, described=described) for k in range(30)])
    assert [k for k, verdict in enumerate(made) if verdict.boundary] == [12, 24]
    assert {"cut": 2, "gradual": 0, "flash": 0}.items() <= stage.stats().items()


def test_a_gap_in_the_stream_is_no_boundary() -> None:
    made = verdicts(Boundaries(), [packet(k, gap=k == 12) for k in range(20)])
    assert not any(verdict.boundary for verdict in made)


def test_a_replay_after_loading_goes_on_as_if_never_interrupted(tmp_path: Path) -> None:
    packets = [packet(k) for k in range(40)]
    whole = verdicts(Boundaries(), packets)
    first, second = Boundaries(), Boundaries()
    verdicts(first, packets[:14])
    first.save(str(tmp_path / "state"))
    second.load(str(tmp_path / "state"))
    assert repr(verdicts(second, packets)) == repr(whole[14:])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    with pytest.raises(StateError, match="not one frame"):
        Boundaries().save(path)
    stage = Boundaries()
    stage.process(packet(0))
    stage.save(path)
    with pytest.raises(StateError, match="lags"):
        Boundaries(gradual=False).load(path)
    with pytest.raises(UsageError, match="of its own"):
        stage.process(packet(1, "gate"))
    with pytest.raises(UsageError, match="option flash_s"):
        Boundaries(flash_s=-1.0)


def test_a_verdict_travels_on_the_wire() -> None:
    verdict = Verdict(True, "cut", 2.5, 0.4, 30.0, 0.5, 1.25)
    data = msgspec.msgpack.encode(verdict)
    assert msgspec.msgpack.decode(data, type=Verdict) == verdict
    assert Verdict in Result.__args__
