"""Many streams, a memory each: as if each were alone; let go when silent, back when they return."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from retain.models.curvestream import Encode, Remember
from retain.models.curvestream_many import EncodeMany, RememberMany
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding, Held, Route

SECOND = 10**9


def packets(stream: str, count: int, start: int = 0, late_s: float = 0.0) -> list[Packet]:
    """A second apart; a new picture every third."""
    encode = Encode("pixels")
    made = []
    for seq in range(start, start + count):
        rng = np.random.default_rng((len(stream), ord(stream[0]), seq // 3))
        image = np.repeat(rng.integers(0, 255, (6, 8, 3), np.uint8), 8, 0).repeat(8, 1)
        arrival = round((seq + late_s) * SECOND)
        frame = Frame(stream, seq, seq, Fraction(1), np.ascontiguousarray(image), arrival)
        made.append(encode.process(Packet(frame)))
    return made


def told(packet: Packet | None) -> tuple[Route, Held]:
    assert packet is not None
    return packet.get("route", Route), packet.get("held", Held)


def alone(*parts: list[Packet]) -> list[tuple[Route, Held]]:
    memory = Remember()
    return [told(memory.process(packet)) for part in parts for packet in part]


def test_each_stream_is_remembered_as_if_alone(tmp_path: Path) -> None:
    many = RememberMany(str(tmp_path))
    a, b = packets("a", 12), packets("bb", 12)
    mixed = [told(many.process(p)) for pair in zip(a, b, strict=True) for p in pair]
    assert msgspec.json.encode(mixed[::2]) == msgspec.json.encode(alone(a))
    assert msgspec.json.encode(mixed[1::2]) == msgspec.json.encode(alone(b))
    assert many.stats()["streams"] == 2
    assert many.stats()["memory_bytes"] == sum(
        int(many.stats()[f"{name}.memory_bytes"]) for name in ("a", "bb")
    )


def test_a_silent_stream_is_let_go_and_goes_on_where_it_was(tmp_path: Path) -> None:
    many = RememberMany(str(tmp_path), evict_after_s=30)
    before = packets("a", 10)
    for packet in before:
        many.process(packet)
    for packet in packets("bb", 25, start=20):
        many.process(packet)
    assert many.stats()["streams"] == 1
    assert many.stats()["evicted"] == 1
    assert (tmp_path / "a.safetensors").exists()
    after = packets("a", 5, start=50)
    back = [told(many.process(packet)) for packet in after]
    assert msgspec.json.encode(back) == msgspec.json.encode(alone(before, after)[10:])
    assert many.stats()["restored"] == 1


def test_all_in_one_file_and_back(tmp_path: Path) -> None:
    first, second = RememberMany(str(tmp_path / "1")), RememberMany(str(tmp_path / "2"))
    parts = {name: (packets(name, 8), packets(name, 8, start=8)) for name in ("a", "bb")}
    for early, _ in parts.values():
        for packet in early:
            first.process(packet)
    first.save(str(tmp_path / "state"))
    second.load(str(tmp_path / "state"))
    for name, (_, late) in parts.items():
        back = [told(second.process(packet)) for packet in late]
        assert msgspec.json.encode(back) == msgspec.json.encode(alone(*parts[name])[8:])


def test_the_end_leaves_memories_for_the_next_run(tmp_path: Path) -> None:
    many = RememberMany(str(tmp_path))
    for packet in packets("a", 8):
        many.process(packet)
    assert list(many.flush()) == []
    again = RememberMany(str(tmp_path))
    made = again.process(packets("a", 1)[0])  # another run begins to count at 0
    _, held = told(made)
    assert made is not None
    assert made.frame.seq == 8
    assert made.frame.discontinuity
    assert held.seen == 9


def test_a_memory_that_does_not_fit_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = RememberMany(str(tmp_path))
    for packet in packets("a", 4):
        many.process(packet)
    many.flush()
    other = RememberMany(str(tmp_path), max_entries=8)
    _, held = told(other.process(packets("a", 1, start=9)[0]))
    assert held.seen == 1
    assert "begins anew" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["a.refused"]


def test_a_file_of_a_later_version_says_what_it_needs(tmp_path: Path) -> None:
    later = {"schema": "retain-memories/4", "streams": {}}
    (tmp_path / "state").write_bytes(msgspec.msgpack.encode(later))
    with pytest.raises(StateError, match=r"of version 4; retain \S+ reads up to 1"):
        RememberMany(str(tmp_path / "m")).load(str(tmp_path / "state"))


@pytest.mark.parametrize("damage", ["cut", "noise", "inner"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    many = RememberMany(str(tmp_path / "m"))
    for packet in packets("a", 4):
        many.process(packet)
    path = tmp_path / "state"
    many.save(str(path))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-10]
    elif damage == "noise":
        data[:20] = b"\xc1" * 20
    else:
        data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(StateError):
        many.load(str(path))


def test_a_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    many = RememberMany(str(tmp_path))
    with pytest.raises(UsageError, match="cannot have a file"):
        many.process(packets("../a", 1)[0])


def rounds(*sizes: int) -> list[Packet]:
    """Packets of so many streams at a time."""
    made = []
    for number, size in enumerate(sizes):
        for place in range(size):
            rng = np.random.default_rng((number, place))
            image = rng.integers(0, 255, (24, 32, 3), np.uint8)
            meta = {"more": size - place - 1}
            made.append(Packet(Frame(f"s{place}", number, number, Fraction(1), image, meta=meta)))
    return made


def test_a_batch_gives_what_one_at_a_time_gives() -> None:
    """To float32's last bits: the descriptor's sums do not depend on its neighbours."""
    single, batched = Encode("pixels"), EncodeMany("pixels", batch=4)
    coming = rounds(3, 1, 4, 6, 2)
    given = [out for packet in coming for out in batched.process(packet)]
    assert [(p.frame.stream, p.frame.seq) for p in given] == [
        (p.frame.stream, p.frame.seq) for p in coming
    ]
    assert batched.stats()["calls"] == 6
    for packet, out in zip(coming, given, strict=True):
        want = single.process(packet).get("embedding", Embedding).vector
        np.testing.assert_allclose(out.get("embedding", Embedding).vector, want, atol=1e-6)


def test_one_at_a_time_is_the_same_bit_for_bit() -> None:
    single, many = Encode("pixels"), EncodeMany("pixels")
    for packet in rounds(3, 2):
        (out,) = many.process(packet)
        want = single.process(packet).get("embedding", Embedding).vector
        assert np.array_equal(out.get("embedding", Embedding).vector, want)


def test_a_round_cut_short_comes_with_the_end() -> None:
    many = EncodeMany("pixels", batch=4)
    assert list(many.process(rounds(3)[0])) == []
    assert len(list(many.flush())) == 1
