"""Malformed messages and files, 10^5 and more: each is refused by name or taken whole.

Cases are drawn from a seed: damaged bytes (flips, cuts, splices, false lengths), well-formed
messages that say the wrong thing, and memory files altered *before* their checksum was computed,
which is how a forger would do it. What is taken in must then work: a message is written again, a
memory is read, written to and saved. Anything but WireError and StateError is a crash.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import resource
import struct
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from _mutations import Mutator, doubled, json_copy

from retain.apps.bench import Row, show
from retain.kernels.gated_delta.reference import Gates
from retain.memory.carry import Carry
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig, FrameQuery, load_entries
from retain.memory.delta_scan import DeltaScan, DeltaScanConfig, ScanWrite
from retain.memory.gated_delta import DeltaWrite, GatedDelta, GatedDeltaConfig
from retain.memory.hub import Hub
from retain.memory.snapshot import config_hash
from retain.pipeline import wire
from retain.pipeline.errors import SourceError, StateError, WireError
from retain.pipeline.frame import Frame
from retain.pipeline.metrics import EdgeStats, NodeStats, Spread
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import Record
from retain.pipeline.recording import HEAD_BYTES, Reader, record, segment_end, segment_start
from retain.pipeline.results import Beat, Embedding, Held, HeldFrame, Masks, Route, Vitals
from retain.pipeline.runners import control
from retain.pipeline.stage import SourceInfo

AREA = "runtime"
SEED = 1
ROOM = 1 << 30
"""Bytes of address space a run may ask for beyond what it started with."""
_BLANK = "0" * 64


@dataclass
class Outcome:
    """What became of the cases of one target."""

    name: str
    seed: int
    cases: int = 0
    refused: int = 0
    taken: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    first: str = ""
    """Traceback of the first crash, and the case it was."""
    seconds: float = 0.0

    def __str__(self) -> str:
        crashed = ", ".join(f"{n} x {kind}" for kind, n in self.crashes.most_common()) or "0"
        return (
            f"{self.name}: {self.cases:,} cases (seed {self.seed}) in {self.seconds:.1f} s: "
            f"{self.refused:,} refused, {self.taken:,} taken whole, crashed: {crashed}"
        )


Feed = Callable[[Mutator], None]
"""Makes a case and feeds it. Returns when it was taken in; raises what its reader raised."""


def fuzz(name: str, feed: Feed, cases: int, seed: int = SEED, first: int = 0) -> Outcome:
    """Run the cases ``first`` .. ``first + cases`` of a target."""
    outcome = Outcome(name, seed, cases)
    began = time.perf_counter()
    for number in range(first, first + cases):
        try:
            feed(Mutator(f"{seed}/{name}/{number}"))
            outcome.taken += 1
        except (WireError, StateError):
            outcome.refused += 1
        except Exception as error:
            outcome.crashes[type(error).__name__] += 1
            outcome.first = outcome.first or f"case {number}:\n{traceback.format_exc()}"
    outcome.seconds = time.perf_counter() - began
    return outcome


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


def memory_files(folder: Path) -> Feed:
    """Memory files into ``snapshot.load``, the hub's ``restore`` and ``load_entries``."""
    hubs = [_frames_hub(), _tensors_hub()]
    files: list[_File] = []
    for number, hub in enumerate(hubs):
        path = folder / f"good-{number}"
        hub.snapshot(path, 41)
        files.append(_File.read(path))
    raw = [file.sealed() for file in files]
    path = folder / "bad"

    def feed(mutator: Mutator) -> None:
        which = mutator.rng.randrange(len(files))
        path.write_bytes(_forged(files[which], mutator, raw))
        fresh = _frames_hub(0) if which == 0 else _tensors_hub(0)
        fresh.restore(path)
        _used(fresh)
        if which == 0:
            for entry in load_entries(str(path)):
                entry.image()

    return feed


def entries_of_files(folder: Path) -> Feed:
    """Memory files into ``load_entries``, which takes them whatever their configuration."""
    _frames_hub().snapshot(folder / "good", 41)
    file = _File.read(folder / "good")
    raw, path = [file.sealed()], folder / "entries"

    def feed(mutator: Mutator) -> None:
        path.write_bytes(_forged(file, mutator, raw))
        for entry in load_entries(str(path)):
            entry.image()

    return feed


def recordings(folder: Path) -> Feed:
    """Recordings into their reader. Damage costs packets, so only a file that is no recording at
    all is refused; forged records have a right checksum."""
    tap = Record(str(folder / "good.retain"), max_mb=1)
    for seq in range(4):
        tap.process(Packet(_frame(seq)).plus(e=Embedding(_feature(seq), "x")))
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


@dataclass
class _File:
    """A memory file in parts that can be changed and put together again."""

    outer: dict[str, Any]
    inner: dict[str, Any]
    data: bytes

    @staticmethod
    def read(path: Path) -> _File:
        raw = path.read_bytes()
        end = 8 + struct.unpack_from("<Q", raw)[0]
        outer = json.loads(raw[8:end])
        inner = json.loads(outer.pop("__metadata__")["retain"])
        return _File(outer, inner | {"sha256": _BLANK}, raw[end:])

    def copy(self) -> _File:
        return _File(json_copy(self.outer), json_copy(self.inner), self.data)

    def sealed(self, inner: str = "", outer: str = "") -> bytes:
        """The file, with a right checksum where there is a place for one; or these texts as JSON
        of its two headers."""
        inner = inner or json.dumps(self.inner, separators=(",", ":"))
        if not outer:
            outer = json.dumps({"__metadata__": {"retain": inner}, **self.outer})
        whole = struct.pack("<Q", len(outer.encode())) + outer.encode() + self.data
        return whole.replace(_BLANK.encode(), sha256(whole).hexdigest().encode(), 1)


def _forged(good: _File, mutator: Mutator, raw: list[bytes]) -> bytes:
    """A file that is not as a memory would write it."""
    rng = mutator.rng
    if rng.random() < 0.2:
        return mutator.damaged(rng.choice(raw), raw)
    file = good.copy()
    for _ in range(rng.choice((1, 1, 1, 2))):
        kind = rng.choice(_FORGERIES)
        # After one change the next may find nothing to work on.
        with suppress(TypeError, ValueError, KeyError, IndexError, DeprecationWarning):
            kind(file, mutator)
    try:
        inner = json.dumps(file.inner, separators=(",", ":"))
        if rng.random() < 0.05:
            inner = doubled(inner, rng)
        outer = json.dumps({"__metadata__": {"retain": inner}, **file.outer})
        if rng.random() < 0.05:
            outer = doubled(outer, rng)
        return file.sealed(inner, outer)
    except (RecursionError, AttributeError, TypeError):
        return file.data


def _twist_inner(file: _File, mutator: Mutator) -> None:
    file.inner = mutator.twisted(file.inner)


def _twist_state(file: _File, mutator: Mutator) -> None:
    """What a memory's own header says, under a right configuration."""
    memory = _one_memory(file, mutator)
    memory["header"] = mutator.twisted(memory["header"])


def _twist_config(file: _File, mutator: Mutator) -> None:
    """Another configuration, its checksum right."""
    memory = _one_memory(file, mutator)
    memory["config"] = mutator.twisted(memory["config"])
    try:
        memory["config_sha256"] = config_hash(memory["config"])
    except (ValueError, RecursionError):
        memory["config_sha256"] = _BLANK


def _one_memory(file: _File, mutator: Mutator) -> dict[str, Any]:
    """One of the file's, where earlier changes left one."""
    memories = file.inner.get("memories") if isinstance(file.inner, dict) else None
    found = memories.values() if isinstance(memories, dict) else ()
    whole = [one for one in found if isinstance(one, dict) and {"header", "config"} <= set(one)]
    return mutator.rng.choice(whole) if whole else {"header": {}, "config": {}}


def _twist_layout(file: _File, mutator: Mutator) -> None:
    """Places, shapes and types of arrays."""
    file.outer = mutator.twisted(file.outer)
    if not isinstance(file.outer, dict):
        file.outer = {}


def _overlap(file: _File, mutator: Mutator) -> None:
    """One array lies upon another, of the same length or not."""
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    if len(infos) > 1:
        one, two = mutator.rng.sample(infos, 2)
        one["data_offsets"] = json_copy(two.get("data_offsets"))
        if mutator.rng.random() < 0.5:
            one["shape"], one["dtype"] = json_copy(two.get("shape")), two.get("dtype")


def _reshape(file: _File, mutator: Mutator) -> None:
    """Another shape for the same number of values; sizes no machine has, times zero."""
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    if not infos or not isinstance(shape := (info := mutator.rng.choice(infos)).get("shape"), list):
        return
    empty = [key for key in infos if key.get("shape") and 0 in key["shape"]]
    if empty and mutator.rng.random() < 0.5:
        mutator.rng.choice(empty)["shape"] = mutator.rng.choice(
            ([0, 1 << 62, 1 << 62], [1 << 40, 0], [0] * 70, [0, -1])
        )
        return
    info["shape"] = mutator.rng.choice(
        (shape[::-1], [*shape, 1], [1] * 70 + shape, [1, *shape], [1 << 40, 1 << 40], [-1, -1])
    )


def _numbers(file: _File, mutator: Mutator) -> None:
    """Values in the arrays: not a number, endless, negative, enormous."""
    data, rng = bytearray(file.data), mutator.rng
    infos = [info for info in file.outer.values() if isinstance(info, dict)]
    try:
        start, end = rng.choice(infos)["data_offsets"]
        form = rng.choice(("<d", "<f", "<q", "<i", "<b"))
        size = struct.calcsize(form)
        at = start + size * rng.randrange(max(1, (end - start) // size))
        if form in ("<d", "<f"):
            value: Any = rng.choice((np.nan, np.inf, -np.inf, -1.0, 1e30, 0.0, 3.0))
        else:
            value = rng.choice((-1, 0, 1, 127, -(1 << 8 * size - 1), (1 << 8 * size - 1) - 1))
        struct.pack_into(form, data, at, value)
    except (KeyError, TypeError, ValueError, IndexError, struct.error):
        return
    file.data = bytes(data)


def _length(file: _File, mutator: Mutator) -> None:
    change = mutator.rng.choice((1, 8, 64))
    file.data = file.data + bytes(change) if mutator.rng.random() < 0.5 else file.data[:-change]


_FORGERIES = (
    _twist_inner, _twist_state, _twist_state, _twist_config, _twist_layout, _twist_layout,
    _overlap, _reshape, _numbers, _numbers, _numbers, _length,
)  # fmt: skip


def _frames_hub(frames: int = 24) -> Hub:
    config = FrameMemoryConfig(dim=8, max_entries=6, byte_budget=120_000)
    hub, memory = Hub(config.byte_budget, "cam"), FrameMemory(config)
    hub.add("frames", memory)
    for seq in range(frames):
        memory.observe("cam", _frame(seq), _feature(seq))
    return hub


def _frame(seq: int) -> Frame:
    image = np.full((48, 64, 3), 40 * seq % 256, np.uint8)
    return Frame("cam", seq, 500 * seq, Fraction(1, 1000), image)


def _feature(seq: int) -> np.ndarray:
    return np.random.default_rng(seq // 3).standard_normal(8).astype(np.float32)


def _tensors_hub(writes: int = 2) -> Hub:
    rng = torch.Generator().manual_seed(0)
    gates = Gates(*(0.1 * torch.randn(shape, generator=rng) for shape in ((2, 4), (2, 4), 2, 2)))
    memories: dict[str, tuple[Any, Any]] = {
        "delta": (
            GatedDelta(GatedDeltaConfig(objects=1, key_dim=3, value_dim=4, heads=2), gates),
            DeltaWrite(torch.full((3, 2), 1 / 3), torch.ones(1, 4, 2)),
        ),
        "scan": (
            DeltaScan(DeltaScanConfig(heads=1, key_dim=2, value_dim=2)),
            ScanWrite(
                torch.ones(1, 1, 2), torch.ones(1, 1, 2), -torch.ones(1, 1), torch.ones(1, 1)
            ),
        ),
        "carry": (Carry({"map": (2, 2), "numbers": (3,)}), {"numbers": torch.ones(3)}),
    }
    hub = Hub(100_000, "cam")
    for name, (memory, item) in memories.items():
        hub.add(name, memory)
        for _ in range(writes):
            memory.write("cam", item)
    return hub


def _used(hub: Hub) -> None:
    """Live on with what was restored, as a run would: a fault must not wait for the next frame."""
    for name in hub:
        memory = hub[name]
        if isinstance(memory, FrameMemory):
            for entry in memory.read("cam", FrameQuery(embedding=_feature(0))):
                assert entry.time_base > 0
            for seq in (100, 101, 102):
                held = memory.observe("cam", _frame(seq), _feature(seq))[1]
                wire.pack(held)
            memory.shrink_to("cam", memory.min_bytes)
            assert held.tokens <= held.token_budget
            assert len(held.entries) <= 6
        memory.stats("cam")
        memory.snapshot("cam")
        assert memory.nbytes("cam") <= hub.budget_bytes


@contextmanager
def bounded(room: int = ROOM) -> Iterator[None]:
    """Within this block an allocation of more than ``room`` bytes fails instead of happening."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what libjpeg says of damaged pictures, which it writes past Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def measure(quick: bool = False, seed: int = SEED) -> list[Row]:
    share = 50 if quick else 1
    logging.getLogger("retain").setLevel(logging.ERROR)  # small memories say that they are small
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        targets: list[tuple[str, Feed, int]] = [
            ("messages of edges", edge_messages(), 150_000),
            ("messages of control", control_messages(), 50_000),
            ("memory files", memory_files(where), 60_000),
            ("memory files, entries only", entries_of_files(where), 20_000),
            ("recordings", recordings(where), 10_000),
        ]
        fuzz("warm-up", targets[2][1], 200)
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = []
        with bounded(), quiet():
            for name, feed, cases in targets:
                outcomes.append(fuzz(name, feed, cases // share, seed))
                print(outcomes[-1], outcomes[-1].first, flush=True)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return _rows(outcomes, grown, 100_000 // share)


def _rows(outcomes: list[Outcome], grown: float, bar: int) -> list[Row]:
    refused = sum(outcome.refused for outcome in outcomes)
    crashes = sum(outcome.crashes.total() for outcome in outcomes)
    rows = [
        Row(name=f"{o.name}: refused of {o.cases:,}", value=o.refused, unit="cases")
        for o in outcomes
    ]
    return [
        *rows,
        Row(
            name="malformed messages and files refused",
            value=refused,
            unit="cases",
            bar=f">= {bar:,}",
            met=refused >= bar,
        ),
        Row(name="crashes", value=crashes, unit="cases", bar="0", met=crashes == 0),
        Row(
            name="growth of resident memory at its peak",
            value=grown,
            unit="MiB",
            bar="< 256 MiB",
            met=grown < 256,
        ),
        Row(name="all of it", value=sum(o.seconds for o in outcomes), unit="s"),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    rows = measure(given.quick, given.seed)
    show("fuzz", rows)
    raise SystemExit(1 if any(row.met is False for row in rows) else 0)
