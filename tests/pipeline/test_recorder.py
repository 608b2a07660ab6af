"""Recordings: a replay gives what the run gave; a file that was cut, altered or full says so."""

from __future__ import annotations

import logging
import os
import signal
import struct
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_parts import Recorder, frame

from retain.pipeline import recording, wire
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.graph import Graph
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import Record, ReplaySource
from retain.pipeline.recording import Reader
from retain.pipeline.results import Embedding, Route
from retain.pipeline.run import Runner, start
from retain.pipeline.sources.any import AnySource, describe

ROUTE = Route("clear", "score", 0.5, float("nan"), 0.7, 0.1, 0.2, 3.0, 0.2, 0.4)
WATCHED = "synthetic://scenes?frames=40&size=64x48&seed=3&jitter=0.3&cut=0.4"


def packet(seq: int, width: int = 16, height: int = 8) -> Packet:
    noise = np.random.default_rng(seq).integers(0, 256, (height, width, 3), np.uint8)
    one = Frame(
        "cam", seq, 3 * seq - 7, Fraction(1, 30), noise, discontinuity=seq == 2, meta={"n": seq}
    )
    return Packet(one).plus(e=Embedding(noise[0, 0].astype(np.float32), "mean"), r=ROUTE)


def recorded(path: Path, packets: list[Packet], **options: object) -> Path:
    tap = Record(str(path), **options)  # type: ignore[arg-type]
    try:
        for one in packets:
            assert tap.process(one) is one
    finally:
        tap.close()
    return path


def read(path: Path) -> list[Packet]:
    with path.open("rb") as file:
        return list(Reader(file, "x").packets())


def same(one: Packet, two: Packet, arrival: bool = True) -> None:
    a, b = (
        one.frame,
        two.frame if arrival else replace(two.frame, t_arrival_ns=one.frame.t_arrival_ns),
    )
    pixels = wire.PixelRef(0, 1, 5, 77, 2, 9, 1 << 62, a.height, a.width)
    assert wire.encode(Packet(a, one.results), pixels) == wire.encode(
        Packet(b, two.results), pixels
    )
    np.testing.assert_array_equal(a.image, b.image)


@pytest.mark.parametrize("pixels", ["png", "raw"])
def test_packets_come_back_with_everything(tmp_path: Path, pixels: str) -> None:
    sent = [packet(seq, width=5 + seq) for seq in range(5)]
    path = recorded(tmp_path / "new" / "r", sent, pixels=pixels)
    for one, two in zip(sent, read(path), strict=True):
        same(one, two)
    source = AnySource(str(path), stream="other", fps=1.0)
    assert describe(str(path)) == "recording"
    info = source.open()
    assert (info.kind, info.declared_frames, info.width) == ("finite", 5, 5)
    assert info.fps == pytest.approx(10.0)
    for one, got in zip(sent, source.frames(), strict=True):
        same(Packet(one.frame), Packet(got), arrival=False)
        assert got.age_s() < 60, "ages are of this day"
    source.close()


def test_a_replay_can_be_renamed_thinned_and_cut(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [packet(seq) for seq in range(30)])
    source = ReplaySource(str(path), stream="b", fps=5.0, limit=3)
    got = [(one.stream, one.seq) for one in source.frames()]
    source.close()
    assert got == [("b", 0), ("b", 2), ("b", 4)]


def watched(source: Graph, folder: Path, runner: Runner) -> tuple[bytes, bytes]:
    """What the CurveStream graph makes of a source: its lines and its memory."""
    graph = source
    graph.stage("encode", "retain.models.curvestream:Encode", encoder="pixels")
    graph.stage("remember", "retain.models.curvestream:Remember", max_entries=8)
    graph.sink("lines", "retain.pipeline.sinks:JsonLines", path=str(folder / "lines"))
    graph.connect(next(iter(graph.edges)).dst if graph.edges else "source", "encode")
    graph.connect("encode", "remember", "lines")
    memory = folder / "memory"
    with start(graph, runner=runner, save={"remember": str(memory)}) as run:
        report = run.wait(60)
    assert report.ok, report.errors
    return (folder / "lines").read_bytes(), memory.read_bytes()


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_a_replay_gives_the_bytes_the_run_gave(tmp_path: Path, runner: Runner) -> None:
    path = tmp_path / "run.retain"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    live = Graph("run")
    live.source("source", "retain.pipeline.sources.any:AnySource", source=WATCHED, stream="s")
    live.stage("record", "retain.pipeline.recorder:Record", path=str(path))
    live.connect("source", "record")
    first = watched(live, tmp_path / "one", runner)
    again = Graph("replay")
    again.source("source", "retain.pipeline.sources.any:AnySource", source=str(path), stream="x")
    assert watched(again, tmp_path / "two", runner) == first
    assert first[0].count(b"\n") == 40


def test_a_recorder_is_a_sink_too(tmp_path: Path) -> None:
    graph = Graph("g")
    graph.source("clip", "runtime_parts:Clip", frames=6)
    graph.stage("mean", "runtime_parts:Mean")
    graph.sink("record", "retain.pipeline.recorder:Record", path=str(tmp_path / "r"))
    graph.sink("out")
    graph.connect("clip", "mean", "record")
    graph.connect("mean", "out")
    out = Recorder()
    with start(graph, runner="inline", sinks={"out": out}) as run:
        assert run.wait(30).ok
    got = read(tmp_path / "r")
    assert [one.frame.seq for one in got] == out.seqs
    for one, (_, _, results) in zip(got, out.packets, strict=True):
        np.testing.assert_array_equal(one.get("mean", Embedding).vector, results["mean"].vector)  # type: ignore[attr-defined]


def test_the_file_stays_small_and_keeps_the_newest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [packet(seq, 100, 100) for seq in range(150)]  # 30 kB each, four in a segment
    tap = Record(str(tmp_path / "r"), max_mb=1, pixels="raw")
    for one in sent:
        tap.process(one)
        assert tap.path.stat().st_size <= 1 << 20
    assert tap.stats()["laps"] == 4
    tap.close()
    got = read(tap.path)
    assert [one.frame.seq for one in got] == list(range(got[0].frame.seq, 150))
    assert 7 * 4 <= len(got) <= 8 * 4
    assert not any(one.frame.discontinuity for one in got)
    same(sent[-1], got[-1])
    source = ReplaySource(str(tap.path))
    with caplog.at_level(logging.WARNING):
        source.open()
    source.close()
    assert "its oldest frames were written over" in caplog.text
    assert "no end" not in caplog.text


@pytest.mark.parametrize("lost", [1, 40, 200, 2000])
def test_a_run_that_died_can_be_played_to_its_last_whole_packet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: int
) -> None:
    path = recorded(tmp_path / "r", [packet(seq) for seq in range(10)], pixels="raw")
    os.truncate(path, path.stat().st_size - lost)
    source = ReplaySource(str(path))
    with caplog.at_level(logging.WARNING):
        source.open()
    got = [one.seq for one in source.frames()]
    source.close()
    assert got == list(range(len(got)))
    assert 5 <= len(got) <= 10
    assert "has no end: its run was cut short" in caplog.text


def test_a_restarted_node_goes_on_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    tap = Record(str(path), run="a")
    for seq in range(4):
        tap.process(packet(seq))
    tap._file.close()  # type: ignore[union-attr]  # as if it had died
    with path.open("ab") as file:
        file.write(b"half a rec")
    tap = Record(str(path), run="a")
    for seq in range(2, 7):  # what came before the crash comes again
        tap.process(packet(seq))
    tap.close()
    got = read(path)
    assert [one.frame.seq for one in got] == list(range(7))
    assert [one.frame.discontinuity for one in got] == [seq == 2 for seq in range(7)]
    for run in ("", "b"):
        with pytest.raises(UsageError, match="there already, and recordings never overwrite"):
            Record(str(path), run=run)


def test_a_recorder_that_is_killed_loses_no_frame(tmp_path: Path) -> None:
    graph = Graph("g")
    graph.source("clip", "runtime_parts:Clip", frames=40)
    graph.stage("record", "retain.pipeline.recorder:Record", path=str(tmp_path / "r"), run="a")
    graph.stage("slow", "runtime_parts:Mean", delay_s=0.05)
    graph.sink("out")
    graph.connect("clip", "record", "slow", "out")
    out = Recorder()
    with start(graph, sinks={"out": out}) as run:
        while run.stats().node("out").received < 10:
            time.sleep(0.01)
        os.kill(run._crew.children["record"].process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        report = run.wait(60)
    assert report.ok, report.errors
    assert report.stats.node("record").restarts == 1
    assert out.seqs == list(range(40))
    assert [one.frame.seq for one in read(tmp_path / "r")] == list(range(40))


def test_damage_in_the_middle_is_told_and_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = recorded(
        tmp_path / "r", [packet(seq, 100, 100) for seq in range(12)], max_mb=1, pixels="raw"
    )
    data = bytearray(path.read_bytes())
    data[4096 + 16 + 35_000] ^= 1  # in the second packet of the first segment
    path.write_bytes(data)
    source = ReplaySource(str(path))
    with caplog.at_level(logging.WARNING):
        source.open()
    got = list(source.frames())
    source.close()
    assert [one.seq for one in got] == [0, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [one.discontinuity for one in got[:3]] == [False, True, False]
    assert "is damaged" in caplog.text


def test_credentials_are_not_written(tmp_path: Path) -> None:
    one = frame(0, stream="rtsp://me:hunter2@cam/1")
    one = replace(one, meta={"from": "http://cam/?token=hunter2", "n": 1})
    path = recorded(tmp_path / "r", [Packet(one)], about="rtsp://me:hunter2@cam/1?key=hunter2")
    assert b"hunter2" not in path.read_bytes()
    assert read(path)[0].frame.meta == {"from": "http://cam/?token=***", "n": 1}


def test_a_full_disk_ends_the_recording_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tap = Record(str(tmp_path / "r"))
    tap.process(packet(0))
    write = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda fd, data, at: write(fd, data[:10], at))
    with caplog.at_level(logging.WARNING):
        for seq in (1, 2):
            one = packet(seq)
            assert tap.process(one) is one
    tap.close()
    assert caplog.text.count("the recording ends before frame 1") == 1
    assert [one.frame.seq for one in read(tap.path)] == [0]


def test_frames_too_large_for_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="500x500 does not fit.*at least 6 MB"):
        recorded(tmp_path / "a", [packet(0, 500, 500)], max_mb=1, pixels="raw")
    path = recorded(
        tmp_path / "b", [packet(0), packet(1, 500, 500), packet(2)], max_mb=1, pixels="raw"
    )
    assert [one.frame.seq for one in read(path)] == [0, 2]
    assert "frame 1 is too large" in caplog.text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"retain-record/2\n" + bytes(5000), "another version"),
        (b"retain-record/1\n" + bytes(5000), "not a recording, or its first bytes"),
        (b"retain-record/1\n", "not a recording"),
        (b"something else", "not a recording"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "r").write_bytes(data)
    source = ReplaySource(str(tmp_path / "r"))
    with pytest.raises(SourceError, match=why) as caught:
        source.open()
    source.close()
    assert caught.value.fault == SourceFault.BROKEN


def test_an_empty_recording_says_so(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r", [])
    source = ReplaySource(str(path))
    with pytest.raises(SourceError, match="not one whole frame"):
        source.open()
    source.close()


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'png' or 'raw'"):
        Record(str(tmp_path / "r"), pixels="jpeg")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="max_mb"):
        Record(str(tmp_path / "r"), max_mb=0)
    with pytest.raises(UsageError, match="cannot be made"):
        Record("/proc/none/r")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "r"
    return recorded(path, [packet(seq) for seq in range(6)], max_mb=1).read_bytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_frames_and_nothing_else(
    good: bytes, tmp_path: Path, at: float, bit: int
) -> None:
    data = bytearray(good)
    data[int(at * len(data))] ^= 1 << bit
    (tmp_path / "r").write_bytes(data)
    try:
        got = read(tmp_path / "r")
    except SourceError:
        return
    assert [one.frame.seq for one in got] == list(range(len(got)))
    for one in got:
        same(replaced(one), replaced(packet(one.frame.seq)))


def replaced(one: Packet) -> Packet:
    """Without what differs from run to run."""
    return Packet(replace(one.frame, t_arrival_ns=0, wall_ns=0), one.results)


@pytest.mark.parametrize("lengths", [(2**32 - 1, 0), (40, 2**32 - 1), (0, 5), (17 << 20, 1)])
def test_false_lengths_read_nothing(good: bytes, tmp_path: Path, lengths: tuple[int, int]) -> None:
    data = bytearray(good)
    struct.pack_into("<II", data, 4096 + 16, *lengths)
    (tmp_path / "r").write_bytes(data)
    assert read(tmp_path / "r") == []


def test_a_picture_that_cannot_be_in_so_few_bytes_is_not_decoded(
    good: bytes, tmp_path: Path
) -> None:
    chunk = struct.pack(">II5B", 30_000, 30_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + chunk
    png += struct.pack(">I", crc32(b"IHDR" + chunk)) + bytes(100)
    note = recording.Note("s", 0, 0, (1, 30), 0, 0, False, {}, {}, "png", 30_000, 30_000)
    start = good[: 4096 + 16]
    (tmp_path / "r").write_bytes(start + recording.record(1, wire.pack(note), png))
    with pytest.raises(SourceError, match="has no picture"):
        read(tmp_path / "r")


def test_a_chunk_that_promises_gigabytes_is_not_decoded(good: bytes, tmp_path: Path) -> None:
    png = recording.coded(packet(0).frame.image, "png")
    note = recording.Note("s", 0, 0, (1, 30), 0, 0, False, {}, {}, "png", 8, 16)
    start = good[: 4096 + 16]
    for at, chunk in ((33, b"\xff\xff\xff\xffIDAT"), (33, b"\0\0\0\0iCCP"), (29, b"\xff" * 8)):
        bad = png[:at] + chunk + png[at + len(chunk) :]
        (tmp_path / "r").write_bytes(start + recording.record(1, wire.pack(note), bad))
        with pytest.raises(SourceError, match="has no picture"):
            read(tmp_path / "r")


def test_large_noisy_pictures_come_back(tmp_path: Path) -> None:
    sent = [packet(0, 1920, 1080)]
    same(sent[0], read(recorded(tmp_path / "r", sent))[0])


def test_flat_pictures_of_full_size_come_back(tmp_path: Path) -> None:
    black = Frame("s", 0, 0, Fraction(1, 30), np.zeros((2160, 3840, 3), np.uint8))
    (got,) = read(recorded(tmp_path / "r", [Packet(black)]))
    assert not got.frame.image.any()


def test_a_checksum_alone_is_not_believed(good: bytes, tmp_path: Path) -> None:
    """A forged record: right in its checksum, wrong in what it says."""
    head = good[: 4096 + 16]
    note = wire.pack(recording.Note("s", 0, 0, (1, 30), 0, 0, False, {}, {}, "png", 30_000, 30_000))
    for body in (note, b"\x91\xa4evil"):
        (tmp_path / "r").write_bytes(head + recording.record(1, body, b"\x89PNG" + bytes(30)))
        try:
            assert read(tmp_path / "r") == []
        except SourceError as error:
            assert "has no picture" in str(error)  # noqa: PT017
