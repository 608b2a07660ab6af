"""Targets of ``fuzz.py``: messages between nodes and workers, and recordings of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from _mutations import Feed, Mutator, feature, frame, json_copy

from retain.pipeline import wire
from retain.pipeline.errors import SourceError, WireError
from retain.pipeline.frame import Frame
from retain.pipeline.metrics import EdgeStats, NodeStats, Spread
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import Record
from retain.pipeline.recording import HEAD_BYTES, Reader, record, segment_end, segment_start
from retain.pipeline.results import Beat, Embedding, Held, HeldFrame, Masks, Route, Vitals
from retain.pipeline.runners import control
from retain.pipeline.stage import SourceInfo


def edge_messages() -> Feed:
    """Messages between nodes, into ``wire.decode``."""
    return _messages(_edge_corpus(), wire.decode, _unpacked)


def control_messages() -> Feed:
    """Messages between a run and its workers."""
    corpus = [wire.pack(message) for message in _control_corpus()]

    def read(data: bytes) -> msgspec.Struct:
        try:
            return control.read_from_parent(data)  # type: ignore[no-any-return]
        except WireError:
            return control.read_from_worker(data)  # type: ignore[no-any-return]

    return _messages(corpus, read, lambda message: None)


def _messages(
    corpus: list[bytes], read: Callable[[bytes], Any], use: Callable[[Any], None]
) -> Feed:
    plain = [msgspec.msgpack.decode(data) for data in corpus]
    write = msgspec.msgpack.Encoder().encode

    def feed(mutator: Mutator) -> None:
        rng = mutator.rng
        if rng.random() < 0.5:
            data = mutator.damaged(rng.choice(corpus), corpus)
        else:
            value = mutator.twisted(json_copy(rng.choice(plain)))
            if rng.random() < 0.1:
                value = mutator.twisted(value)
            try:
                data = write(_with_arrays(value, mutator))
            except (OverflowError, RecursionError):  # not even a forger could write it
                data = b"\x91" * rng.randrange(1, 100_000)
        message = read(data)
        again = wire.pack(message)
        if wire.pack(read(again)) != again:
            raise AssertionError(f"{data!r} changes when it is passed on")
        use(message)

    return feed


def _with_arrays(value: Any, mutator: Mutator) -> Any:
    """Sometimes the extension bodies in ``value`` lie about themselves, or hold one another."""
    if isinstance(value, msgspec.msgpack.Ext) and mutator.rng.random() < 0.5:
        body = mutator.damaged(bytes(value.data), [bytes(value.data)])
        if mutator.rng.random() < 0.1:
            body = msgspec.msgpack.encode(value)
        code = mutator.rng.choice((1, 1, 1, 1, 0, 2, -1, 127, -128))
        return msgspec.msgpack.Ext(code, body)
    if isinstance(value, dict):
        return {key: _with_arrays(part, mutator) for key, part in value.items()}
    if isinstance(value, list) and len(value) < 100 and not _is_deep(value):
        return [_with_arrays(part, mutator) for part in value]
    return value


def _is_deep(value: Any) -> bool:
    for _ in range(40):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return True


def _unpacked(message: wire.Message) -> None:
    """What a receiver does with a ticket it believes."""
    if isinstance(message, wire.Ticket):
        frame = message.packet(np.zeros((2, 2, 3), np.uint8)).frame
        assert frame.nbytes == 12


def _edge_corpus() -> list[bytes]:
    pixels = wire.PixelRef(0, 1, 5, 77, 2, 9, 1 << 62, 8, 16)
    frame = Frame(
        "s", 3, 9, Fraction(1, 30), np.zeros((2, 2, 3), np.uint8), meta={"place": "a", "n": 1}
    )
    grid = np.full((2, 4, 4), 9, np.uint8)
    results: dict[str, Any] = {
        "e": Embedding(np.linspace(-1, 1, 6, dtype=np.float32), "mean"),
        "r": Route("clear", "score", 0.5, float("nan"), 0.7, 0.1, 0.2, 3.0, 0.2, 0.4, cut=True),
        "h": Held((HeldFrame(3, 0.1, "clear", "score", 0.5, 4, 100, 16, 8),), 4, 8, 100, 200, 4),
        "m": Masks(grid, ("a", "b"), np.eye(2, 3, dtype=np.float32), ("small",)),
        "v": Vitals(1.0, 2.0, 3.0, "px", "disks", (Beat(1, 2, 0.1, 0.2, 9.0, 4.0, 8.0, 3.0, 60),)),
        "b": Embedding(np.array([True, False]), "bool"),
    }
    messages = [
        wire.End(), wire.End(wire.Fault("n", "error", "why")), wire.Credit(3), wire.Barrier(7),
        wire.Released([(1, 2, 3, 4), (5, 6, 7, 8)]),
    ]  # fmt: skip
    packets = [Packet(frame).plus(**{name: result}) for name, result in results.items()]
    whole = Packet(frame).plus(**results)
    return [
        *(wire.encode(packet, pixels) for packet in (whole, *packets)),
        *(wire.pack(message) for message in messages),
    ]


def _control_corpus() -> list[msgspec.Struct]:
    spread = Spread(1.0, 2.0, 3.0, 4.0)
    node = NodeStats(
        "a", "stage", "running", 5, 4, 1, {"oldest": 2}, 1, 99, spread, spread,
        extra={"x": 1, "y": "z", "w": 0.5},
    )  # fmt: skip
    edge = EdgeStats("a", "b", "block", 9, 8, {"rate": 1}, 0, 0)
    return [
        control.Opened(SourceInfo("finite", "clip", 16, 8, 30.0, 10, 1.0)),
        control.Failed(wire.Fault("a", "error", "why")),
        control.Report(node, [edge], 0.5, last=True, gone=[1]),
        control.Passed(1, True, 9, node, [edge], "why"),
        control.Rewired("a", 5),
        control.Rewire({"a": "ipc://a"}, {"b": ("ipc://b", 3)}, 1),
        control.Snap(2),
        control.Stop(True),
        control.Exit(),
    ]


def recordings(folder: Path) -> Feed:
    """Recordings into their reader. Damage costs packets, so only a file that is no recording at
    all is refused; forged records have a right checksum."""
    tap = Record(str(folder / "good.retain"), max_mb=1)
    for seq in range(4):
        tap.process(Packet(frame(seq)).plus(e=Embedding(feature(seq), "x")))
    tap.close()
    raw = [(folder / "good.retain").read_bytes()]
    with (folder / "good.retain").open("rb") as file:
        reader = Reader(file, "good")
        note, place = next(reader.notes())
        pixels = os.pread(file.fileno(), place.length, place.offset)
    plain = msgspec.msgpack.decode(wire.pack(note))
    start = raw[0][:HEAD_BYTES] + segment_start(1)
    path = folder / "bad.retain"

    def feed(mutator: Mutator) -> None:
        rng = mutator.rng
        if rng.random() < 0.3:
            data = mutator.damaged(raw[0], raw)
        else:
            try:
                body = msgspec.msgpack.encode(mutator.twisted(json_copy(plain)))
            except (OverflowError, RecursionError):
                body = b""
            picture = pixels if rng.random() < 0.5 else mutator.damaged(pixels, [pixels])
            data = start + record(1, body, picture) + segment_end(1)
        path.write_bytes(data)
        with path.open("rb") as file:
            try:
                packets = list(Reader(file, "bad").packets())
            except SourceError as error:
                raise WireError(str(error)) from error
        if not packets:
            raise WireError("not one whole packet")
        for packet in packets:
            assert packet.frame.nbytes <= 1 << 20

    return feed
