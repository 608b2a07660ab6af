"""A run of both stages that is stopped half-way and goes on from its snapshot."""

from __future__ import annotations

import threading
from pathlib import Path

import detect_app_parts as parts
import msgspec
import pytest

from retain.models.mamba import stage
from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes
from retain.pipeline.run import start

FRAMES = 40


class Kept:
    """A sink that keeps packets."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def process(self, packet: Packet) -> None:
        self.packets.append(packet)

    def close(self) -> None: ...


def graph(delay_s: float = 0.0) -> Graph:
    made = Graph()
    made.source("source", "detect_app_parts:Pictures", frames=FRAMES, delay_s=delay_s)
    made.stage("detect", "retain.models.mamba.stage:Detect", compare=True)
    made.stage("track", "retain.models.mamba.track:Track")
    made.sink("out")
    made.connect("source", "detect", "track", "out")
    return made


def told(packet: Packet) -> list[bytes]:
    found = [packet.get(name, Boxes) for name in ("boxes", "plain")]
    arrays = ("boxes", "scores", "labels", "tracks", "memory")
    return [getattr(one, name).tobytes() for one in found for name in arrays] + [
        msgspec.json.encode(found[0].supports)
    ]


def test_what_follows_is_the_same_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "open_parts", parts.opened)
    whole, first, rest = Kept(), Kept(), Kept()
    assert start(graph(), runner="inline", sinks={"out": whole}).wait(60).ok
    with start(graph(0.01), runner="inline", sinks={"out": first}) as run:
        while len(first.packets) < 9:
            threading.Event().wait(0.005)
        run.snapshot(tmp_path / "state")
    again = start(graph(), runner="inline", sinks={"out": rest}, resume=tmp_path / "state")
    assert again.wait(60).ok
    begins = rest.packets[0].frame.seq
    assert 8 < begins < FRAMES - 1
    assert [told(one) for one in rest.packets] == [told(one) for one in whole.packets[begins:]]
    assert {int(track) for one in whole.packets for track in one.get("boxes", Boxes).tracks} > {1}
