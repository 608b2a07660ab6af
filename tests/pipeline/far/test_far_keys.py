"""Keys in files, and lines between hosts that only those with the right ones get to use."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq.auth
from runtime_parts import frame
from waiting import free_port

from retain.apps.cli import app
from retain.pipeline.errors import SourceError, SourceFault, UsageError, WireError
from retain.pipeline.far import keys
from retain.pipeline.far.codec import decode, encode
from retain.pipeline.far.receiver import FarSource
from retain.pipeline.far.sender import FarSink
from retain.pipeline.packet import Packet
from retain.pipeline.sources.any import AnySource, describe

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys of a camera, a box that may see it and a stranger."""
    for name in ("camera", "box", "stranger"):
        keys.create(name, tmp_path / name)
    return tmp_path


@pytest.fixture
def sink(folder: Path) -> Iterator[FarSink]:
    made = FarSink("tcp://127.0.0.1:*", codec="png", policy="block", **of_camera(folder))
    yield made
    made.close()


def of_camera(folder: Path) -> dict[str, Any]:
    return {"key": str(folder / "camera/camera.key_secret"), "allow": str(folder / "box")}


def of_receiver(folder: Path, name: str = "box", server: str = "camera") -> dict[str, Any]:
    return {
        "key": str(folder / name / f"{name}.key_secret"),
        "server": str(folder / server / f"{server}.key"),
    }


def test_files_of_a_pair(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public, secret = keys.create("cam-1", tmp_path / "keys")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (public, secret, tmp_path / "keys")]
    assert modes == [0o644, 0o600, 0o700]
    pair = keys.load_secret(secret)
    assert pair.public == keys.load_public(public)
    assert zmq.auth.load_certificate(secret) == tuple(pair), "pyzmq reads them too"
    assert pair.secret.decode() not in repr(pair)
    assert pair.secret.decode() not in public.read_text()
    with pytest.raises(UsageError, match="not written over"):
        keys.create("cam-1", tmp_path / "keys")
    with pytest.raises(UsageError, match="cannot name a key"):
        keys.create("../cam", tmp_path)


def test_a_secret_that_others_may_read_is_refused_with_the_way_out(folder: Path) -> None:
    secret = folder / "box/box.key_secret"
    for mode in (0o640, 0o604, 0o660):
        secret.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600"):
            keys.load_secret(secret)


def test_files_that_are_no_keys(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="public one is wanted"):
        keys.load_public(folder / "box/box.key_secret")
    with pytest.raises(UsageError, match="cannot be read"):
        keys.load_secret(tmp_path / "none")
    other = tmp_path / "other"
    other.write_text("hello")
    other.chmod(0o600)
    with pytest.raises(UsageError, match="no secret key file"):
        keys.load_secret(other)
    other.write_text(f'public-key = "{"~" * 40}"\n')
    with pytest.raises(UsageError, match="no public key file"):
        keys.load_public(other)
    mixed = (folder / "box/box.key_secret").read_text().splitlines()
    mine = (folder / "camera/camera.key_secret").read_text().splitlines()
    other.write_text("\n".join([*mixed[:-1], mine[-1]]))
    with pytest.raises(UsageError, match="do not belong together"):
        keys.load_secret(other)


def test_the_command_makes_a_pair(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["keys", "new", "cam", "--dir", str(tmp_path / "k")])
    assert done.exit_code == 0, done.output
    assert keys.load_secret(tmp_path / "k/cam.key_secret").public == keys.load_public(
        tmp_path / "k/cam.key"
    )


def test_pictures_through_an_encrypted_line(sink: FarSink, folder: Path) -> None:
    options = of_receiver(folder)
    address = sink.address.replace("tcp", "far")
    assert describe(address) == "far"
    into = AnySource(f"{address}?key={options['key']}&server={options['server']}")
    into.open()
    sender = threading.Thread(target=lambda: (sink.process(Packet(frame(5))), sink.flush()))
    sender.start()
    got = list(into.frames())
    sender.join(20)
    assert [(f.stream, f.seq) for f in got] == [("main", 5)]
    assert (got[0].image == 5).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"name": "stranger"}, "refuses our key"), ({"server": "stranger"}, "keys do not match")],
)
def test_a_wrong_key_gets_nothing_and_no_storm(
    sink: FarSink,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    says: str,
) -> None:
    into = FarSource(
        sink.address.replace("tcp", "far"), timeout=1.0, **of_receiver(folder, **options)
    )
    with pytest.raises(SourceError, match=says) as caught:
        into.open()
    assert caught.value.fault is SourceFault.AUTH
    stats = sink.stats()
    assert stats["receivers"] == 0
    assert 1 <= int(stats["denied"]) + int(stats["failed_handshakes"]) <= 5, "0.1 + 0.2 + 0.4 + ..."
    told = [r.message for r in caplog.records if r.name.endswith(("gate", "sender"))]
    assert len(told) == 1


def test_without_keys_nothing_comes_of_it(sink: FarSink) -> None:
    with pytest.raises(SourceError, match="keys do not match"):
        FarSource(sink.address.replace("tcp", "far"), timeout=0.5).open()


def test_a_key_is_admitted_when_it_is_put_on_the_list(sink: FarSink, folder: Path) -> None:
    sink._gate._read_at -= 10  # type: ignore[union-attr]
    (folder / "box/stranger.key").write_bytes((folder / "stranger/stranger.key").read_bytes())
    into = FarSource(sink.address.replace("tcp", "far"), **of_receiver(folder, "stranger"))
    into.open()
    into.close()
    assert sink.stats()["denied"] == 0


def test_raw_and_a_key_do_not_go_together_unless_asked(folder: Path) -> None:
    with pytest.raises(UsageError, match="raw_over_curve"):
        FarSink("tcp://127.0.0.1:*", codec="raw", **of_camera(folder))
    FarSink("tcp://127.0.0.1:*", codec="raw", raw_over_curve=True, **of_camera(folder)).close()


def picture() -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


def test_png_and_raw_are_exact_and_jpeg_is_close() -> None:
    image = picture()
    for codec in ("png", "raw"):
        assert (decode(bytes(encode(image, codec, 90)), codec, 48, 64) == image).all()  # type: ignore[arg-type]
    near = decode(bytes(encode(image, "jpeg", 95)), "jpeg", 48, 64)
    # Half the chroma resolution and quality 95: a smooth picture is a few levels off.
    assert np.abs(near.astype(int) - image).mean() < 3


@pytest.mark.parametrize("codec", ["png", "jpeg"])
def test_pixels_are_checked_before_they_are_decoded(codec: Any) -> None:
    import cv2

    data = bytes(encode(picture(), codec, 90))
    for bad in (b"", data[:-1], data[:20], data + b"\0", b"x" + data, data[:2] + data[3:]):
        with pytest.raises(WireError):
            decode(bad, codec, 48, 64)
    with pytest.raises(WireError, match="announced"):
        decode(data, codec, 64, 48)
    with pytest.raises(WireError, match="over the limit"):
        decode(data, codec, 32_768, 32_768)
    grey = cv2.imencode(f".{codec}", picture()[..., 0])[1].tobytes()
    with pytest.raises(WireError):
        decode(grey, codec, 48, 64)
    rng = np.random.default_rng(0)
    for _ in range(300):  # damaged anywhere: a picture of that size, or refused; never a crash
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] = rng.integers(256)
        with suppress(WireError):
            assert decode(bytes(broken), codec, 48, 64).shape == (48, 64, 3)


def test_a_progressive_jpeg_is_refused() -> None:
    import cv2

    flags = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    data = cv2.imencode(".jpg", picture(), flags)[1].tobytes()
    with pytest.raises(WireError, match="plain kind"):
        decode(data, "jpeg", 48, 64)


SEND = """
import sys
from retain.pipeline.graph import Graph
from retain.pipeline.run import start
graph = Graph(promise="live")
graph.source("clip", "runtime_parts:Clip", frames=20, width=64, height=48)
graph.sink("far", "retain.pipeline.far.sender:FarSink", address=sys.argv[1], policy="block",
           codec=sys.argv[2], key=sys.argv[3], allow=sys.argv[4])
graph.connect("clip", "far")
report = start(graph, runner=sys.argv[5]).wait(60)
assert report.ok, report.errors
"""
RECEIVE = """
import json, sys
from retain.pipeline.graph import Graph
from retain.pipeline.run import start
class Look:
    seen = []
    def process(self, packet):
        frame = packet.frame
        off = abs(frame.image.astype(int) - frame.seq % 251).max()
        self.seen.append((frame.seq, int(off), float(packet.results["mean"].vector[0])))
    def close(self): ...
graph = Graph(promise="live")
graph.source(
    "far", "retain.pipeline.far.receiver:FarSource", source=sys.argv[1], key=sys.argv[2],
    server=sys.argv[3], timeout=30)
graph.stage("mean", "runtime_parts:Mean")
graph.sink("look")
graph.connect("far", "mean", "look")
look = Look()
report = start(graph, runner=sys.argv[4], sinks={"look": look}).wait(60)
assert report.ok, report.errors
print(json.dumps(look.seen))
"""


def python(code: str, *arguments: str, inside: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*inside, sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def across(folder: Path, address: str, codec: str, inside: Any, runner: str) -> list[list[float]]:
    """What a graph in one process sees of a clip that another's sends."""
    ours, theirs = of_camera(folder), of_receiver(folder)
    sender = python(
        SEND, address, codec, ours["key"], ours["allow"], runner, inside=inside("sender")
    )
    receiver = python(
        RECEIVE,
        address.replace("tcp", "far"),
        theirs["key"],
        theirs["server"],
        runner,
        inside=inside("receiver"),
    )
    try:
        said, errors = receiver.communicate(timeout=60)
        assert receiver.returncode == 0, errors
        assert sender.wait(60) == 0, sender.communicate()
    finally:
        for process in (sender, receiver):
            process.kill()
            process.communicate()
    seen: list[list[float]] = json.loads(said)
    return seen


@pytest.mark.parametrize(("codec", "off", "runner"), [("png", 0, "local"), ("jpeg", 2, "inline")])
def test_two_graphs_in_two_processes(folder: Path, codec: str, off: int, runner: str) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    seen = across(folder, address, codec, lambda end: (), runner)
    assert [row[0] for row in seen] == list(range(20))
    assert all(row[1] <= off and abs(row[2] - row[0]) <= off for row in seen)


@pytest.fixture
def two_hosts() -> Iterator[Callable[[str], tuple[str, ...]]]:
    """Two network namespaces with a cable between them; a prefix that runs a command in either."""
    name = f"retain{os.getpid()}"
    ends = {"sender": (f"{name}s", "10.87.0.1"), "receiver": (f"{name}r", "10.87.0.2")}
    steps = [["netns", "add", space] for space, _ in ends.values()]
    steps.append(
        f"link add v0 netns {name}s type veth peer name v0 netns {name}r".split(" "),
    )
    for space, address in ends.values():
        steps.append(["-n", space, "addr", "add", f"{address}/24", "dev", "v0"])
        steps += [["-n", space, "link", "set", device, "up"] for device in ("v0", "lo")]
    try:
        for step in steps:
            try:
                done = subprocess.run(["ip", *step], capture_output=True, text=True, check=False)
            except FileNotFoundError:
                pytest.skip("the program ip is not installed")
            if done.returncode:
                pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
        yield lambda end: ("ip", "netns", "exec", ends[end][0])
    finally:
        for space, _ in ends.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def test_two_hosts(folder: Path, two_hosts: Callable[[str], tuple[str, ...]]) -> None:
    """The same over a real, routable address: it takes keys."""
    began = time.monotonic()
    seen = across(folder, "tcp://10.87.0.1:5599", "png", two_hosts, "inline")
    assert [row[0] for row in seen] == list(range(20)), time.monotonic() - began
    assert all(row[1] == 0 for row in seen)
