"""Encode and Remember as stages: what they add, and that memories go on as if never interrupted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.hub import Hub
from retain.memory.router import RouterConfig
from retain.memory.snapshot import load
from retain.models.curvestream import Encode, Remember
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import SYNTHETIC, Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Held, Route


def stream(count: int, name: str = "s", first: int = 0) -> list[Packet]:
    """Frames that stay, drift and jump, with an embedding of 112 numbers."""
    encode = Encode(encoder="pixels")
    rng = np.random.default_rng(7)
    scenes = rng.integers(0, 255, (count // 8 + 1, 6, 8, 3), dtype=np.uint8)
    packets = []
    for seq in range(count):
        coarse = np.roll(scenes[seq // 8], seq % 3, axis=1)
        image = np.ascontiguousarray(coarse.repeat(8, 0).repeat(8, 1))
        frame = Frame(name, first + seq, 500 * seq, Fraction(1, 1000), image)
        packets.append(encode.process(Packet(frame)))
    return packets


def decisions(packets: list[Packet | None]) -> list[bytes]:
    return [
        msgspec.msgpack.encode((p.get("route", Route), p.get("held", Held)))
        for p in packets
        if p is not None
    ]


def test_encode_adds_an_embedding_and_leaves_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    encode = Encode()
    image = np.full((60, 80, 3), 90, np.uint8)
    packet = encode.process(Packet(Frame("s", 0, 0, Fraction(1, 25), image)))
    embedding = packet.get("embedding", Embedding)
    assert embedding.vector.shape == (1280,)
    assert embedding.encoder == "mobilenetv2"
    assert torch.get_num_threads() == before
    assert encode.stats()["encoded"] == 1


def test_remember_adds_route_and_held_within_budgets() -> None:
    remember = Remember(max_entries=6)
    out = [remember.process(packet) for packet in stream(64)]
    assert all(p is not None and len(p.get("held", Held).entries) <= 6 for p in out)
    stats = remember.stats()
    assert stats["entries"] == 6
    assert 0 < int(stats["memory_bytes"]) <= int(stats["budget_bytes"])


def test_paper_mode_is_a_queue_of_twenty() -> None:
    remember = Remember(mode="paper")
    out = [p for p in map(remember.process, stream(120)) if p is not None]
    held = [p.get("held", Held) for p in out]
    assert max(len(h.entries) for h in held) == 20
    seqs = [entry.seq for entry in held[-1].entries]
    assert seqs == sorted(seqs)


@pytest.mark.parametrize("how", ["load", "option"])
def test_a_restored_memory_goes_on_bit_for_bit(tmp_path: Path, how: str) -> None:
    packets = stream(60)
    whole = Remember(max_entries=8)
    expected = decisions([whole.process(packet) for packet in packets])
    first = Remember(max_entries=8)
    for packet in packets[:25]:
        first.process(packet)
    path = str(tmp_path / "memory.safetensors")
    first.save(path)
    resume = {"resume": path, "replayed": True} if how == "option" else {}
    second = Remember(max_entries=8, **resume)  # type: ignore[arg-type]
    if how == "load":
        second.load(path)
    got = [second.process(packet) for packet in packets]
    assert got[:25] == [None] * 25, "frames the memory has seen are passed over"
    assert decisions(got) == expected[25:]


def test_new_footage_continues_numbers_and_times(tmp_path: Path) -> None:
    packets = stream(20)
    first = Remember()
    for packet in packets:
        first.process(packet)
    path = str(tmp_path / "memory.safetensors")
    first.save(path)
    second = Remember(resume=path)
    frames = [p.frame for packet in packets if (p := second.process(packet))]
    assert [frame.seq for frame in frames] == list(range(20, 40))
    newest = first.process(stream(1, first=20)[0])
    assert newest is not None
    assert frames[0].seconds > max(e.seconds for e in newest.get("held", Held).entries[:-1])
    assert np.all(np.diff([frame.pts for frame in frames]) == 500)
    assert [frame.discontinuity for frame in frames] == [True] + [False] * 19


def test_a_memory_of_another_encoder_is_refused(tmp_path: Path) -> None:
    first = Remember()
    (packet,) = stream(1)
    first.process(packet)
    path = str(tmp_path / "memory.safetensors")
    first.save(path)
    other = Embedding(packet.get("embedding", Embedding).vector, "something else")
    with pytest.raises(StateError, match="frames by pixels"):
        Remember(resume=path).process(Packet(packet.frame, {"embedding": other}))
    with pytest.raises(StateError, match="another configuration"):
        Remember(resume=path, max_entries=3).process(packet)


def test_wrong_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode of remember"):
        Remember(mode="best")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Did you mean"):
        Remember(policy="robost")
    with pytest.raises(StateError, match="no memory to save"):
        Remember().save(str(tmp_path / "m"))
    with pytest.raises(StateError, match="cannot be read"):
        Remember(resume=str(tmp_path / "absent"))
    with pytest.raises(UsageError, match="threads"):
        Encode(encoder="pixels", threads=0)
    remember = Remember()
    remember.process(stream(1)[0])
    with pytest.raises(UsageError, match="a remember stage of its own"):
        remember.process(stream(1, name="other")[0])
    with pytest.raises(KeyError, match="no result 'embedding'"):
        Remember().process(Packet(stream(1)[0].frame))


def test_generated_frames_are_not_remembered() -> None:
    remember = Remember()
    one, two = stream(2)
    remember.process(one)
    made = Packet(replace(two.frame, meta={SYNTHETIC: True}), two.results)
    with pytest.raises(UsageError, match="made by a model"):
        remember.process(made)
    assert remember.stats()["seen"] == 1


def test_a_memory_of_other_router_numbers_goes_on_with_them(tmp_path: Path) -> None:
    """Their defaults change from version to version, and no option sets them."""
    packets = stream(40)
    config = FrameMemoryConfig(dim=112, router=RouterConfig(clip_sigmas=4.0, k2=1.5))
    older, hub = FrameMemory(config), Hub(config.byte_budget, "s")
    hub.add("frames by pixels", older)
    for packet in packets[:20]:
        older.observe("s", packet.frame, packet.get("embedding", Embedding).vector)
    path = str(tmp_path / "memory.safetensors")
    hub.snapshot(path, 19)
    newer = Remember(resume=path, replayed=True)
    for packet in packets:
        if (now := newer.process(packet)) is not None:
            vector = packet.get("embedding", Embedding).vector
            route, _ = older.observe("s", packet.frame, vector)
            assert repr(now.get("route", Route)) == repr(route)
    newer.save(path)
    ((saved, _),) = load(path).memories.values()
    assert saved["router"] == older.config["router"]
    with pytest.raises(StateError, match="another configuration"):
        Remember(mode="paper", resume=path).process(packets[0])
