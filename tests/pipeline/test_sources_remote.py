"""Clips and shards on servers and in stores: ranges, faults, time limits, credentials."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import media
import numpy as np
import pydicom.data
import pytest
from shard_parts import Server, serving, write_shard

from retain.apps.running import is_live
from retain.pipeline.errors import MissingExtra, RetainError, SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.sources import remote
from retain.pipeline.sources.any import AnySource, describe
from retain.pipeline.sources.stored import STORES, is_stored, open_stored

ECHO = Path(pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False))
NOISE = np.random.default_rng(0).integers(0, 256, (8, 120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """3 MB or so: noise does not compress."""
    path = tmp_path_factory.mktemp("clip") / "a.mkv"
    draw = lambda k: np.roll(NOISE[k % 8], k, 1)  # noqa: E731
    return media.write_video(path, 100, codec="ffv1", size=(160, 120), draw=draw).read_bytes()


@pytest.fixture(scope="module")
def shard(clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("shard") / "c.tar"
    files = [(f"{n:03}.mkv", clip) for n in range(6)]
    return write_shard(path, [*files, ("e.dcm", ECHO.read_bytes())]).read_bytes()


@pytest.fixture
def server(clip: bytes, shard: bytes) -> Iterator[Server]:
    with serving() as web:
        web.files = {"c.tar": shard, "e.dcm": ECHO.read_bytes(), "empty.dcm": b"", "a.mkv": clip}
        yield web


def frames(source: str, **options: Any) -> list[Frame]:
    return list(AnySource(source, **options).frames())


def fault_of(source: str, **options: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        frames(source, **options)
    return caught.value


def digest(found: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.pts, hash(frame.image.tobytes())) for frame in found]


def test_a_member_on_a_server_costs_its_own_bytes_and_no_others(
    server: Server, clip: bytes, tmp_path: Path
) -> None:
    plain = tmp_path / "a.mkv"
    plain.write_bytes(clip)
    assert digest(frames(f"{server.at('c.tar')}::@0::000.mkv")) == digest(frames(str(plain)))
    assert server.sent < len(clip) + (2 << 20)
    server.sent = 0
    assert len(frames(f"{server.at('c.tar')}::004.mkv")) == 100
    assert server.sent < len(clip) + (2 << 20), "headers are small"


def test_dicom_on_a_server_is_read_and_its_videos_stay_ffmpegs(server: Server) -> None:
    by_itself = digest(frames(str(ECHO)))
    assert digest(frames(server.at("e.dcm"))) == by_itself
    assert digest(frames(f"{server.at('c.tar')}::e.dcm")) == by_itself
    assert not is_stored(server.at("a.mkv"))
    assert is_stored(server.at("e.dcm"))


def test_what_comes_whole_is_copied_to_a_bounded_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digest(frames(server.at("e.dcm", "whole"))) == digest(frames(str(ECHO)))
    assert len(server.asked) == 1
    told = fault_of(f"{server.at('c.tar', 'whole')}::e.dcm")
    assert told.fault is SourceFault.REFUSED
    assert "no parts of a file" in str(told)
    monkeypatch.setattr(remote, "SPOOL_LIMIT", 1000)
    assert fault_of(server.at("e.dcm", "whole")).fault is SourceFault.TOO_LARGE


@pytest.mark.parametrize(
    ("manner", "name", "fault"),
    [
        ("ranges", "none.dcm", SourceFault.NOT_FOUND),
        ("404", "e.dcm", SourceFault.NOT_FOUND),
        ("403", "e.dcm", SourceFault.AUTH),
        ("auth", "e.dcm", SourceFault.AUTH),
        ("500", "e.dcm", SourceFault.REFUSED),
        ("503", "c.tar", SourceFault.REFUSED),
        ("ranges", "empty.dcm", SourceFault.EMPTY),
        ("whole", "empty.dcm", SourceFault.EMPTY),
        ("changes", "e.dcm", SourceFault.BROKEN),
        ("silent", "e.dcm", SourceFault.TIMEOUT),
        ("silent", "c.tar", SourceFault.TIMEOUT),
        ("stalls", "e.dcm", SourceFault.STALLED),
        ("stalls", "c.tar", SourceFault.STALLED),
    ],
)
def test_every_failure_of_a_server_has_its_fault(
    manner: str, name: str, fault: SourceFault, server: Server
) -> None:
    member = "::@0::000.mkv" if name == "c.tar" else ""
    began = time.monotonic()
    told = fault_of(server.at(name, manner) + member, timeout=0.5)
    assert told.fault is fault, told
    assert name in str(told)
    assert time.monotonic() - began < 20


def test_nobody_there_and_no_such_host(server: Server) -> None:
    server.server_close()
    assert fault_of(server.at("e.dcm")).fault is SourceFault.REFUSED
    assert fault_of("http://no-such-host.invalid/e.dcm").fault is SourceFault.NOT_FOUND


def test_a_connection_that_breaks_is_made_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_PAUSE_S", 0.01)
    assert len(frames(f"{server.at('c.tar', 'breaks')}::@0::000.mkv")) == 100


def test_a_video_whose_server_falls_silent_ends_with_what_came(server: Server, clip: bytes) -> None:
    class Silent:
        name, size, stamp, fetched = "it", len(clip), 0, 0

        def fetch(self, start: int, stop: int) -> bytes:
            if start > 1 << 20:
                raise SourceError(SourceFault.STALLED, "It fell silent.")
            return clip[start:stop]

        def close(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "open_remote", lambda *_: Silent())
        got: list[Frame] = []
        with pytest.raises(SourceError) as caught:
            got.extend(AnySource("s3://bucket/a.mkv").frames())
    assert caught.value.fault is SourceFault.STALLED
    assert 10 < len(got) == caught.value.decoded < 100


def test_credentials_reach_the_server_and_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PASSWORD", "a b")
    address = server.at("e.dcm", "auth").replace("//", "//viewer:${PASSWORD}@")
    source = AnySource(address)
    assert "a b" not in source.open().description
    assert len(list(source.frames())) == 30
    for told in (
        fault_of(address.replace("e.dcm", "none.dcm")),
        fault_of(address.replace("${PASSWORD}", "wr0ng")),
        fault_of(f"{address.replace('e.dcm', 'c.tar').replace('auth', '403')}::x.mp4"),
    ):
        assert "wr0ng" not in str(told)
        assert "viewer" not in str(told)
    assert "wr0ng" not in caplog.text
    server.seen.clear()
    frames(server.at("e.dcm", "moved").replace("//", "//viewer:a%20b@"))
    assert server.seen[0].startswith("Basic")
    assert server.seen[1] == "", "another host was told the password"


def test_an_object_of_a_store_is_read_as_a_file(clip: bytes, shard: bytes) -> None:
    store = fsspec.filesystem("memory")
    store.pipe({"/b/a.mkv": clip, "/b/c.tar": shard, "/b/e.dcm": ECHO.read_bytes()})
    store.pipe("/b/empty.mp4", b"")
    try:
        assert len(frames("memory://b/a.mkv")) == 100
        assert len(frames("memory://b/c.tar::003.mkv", limit=5)) == 5
        assert digest(frames("memory://b/e.dcm")) == digest(frames(str(ECHO)))
        assert not is_live("memory://b/a.mkv")
        for name, fault in (
            ("none.mp4", SourceFault.NOT_FOUND),
            ("empty.mp4", SourceFault.EMPTY),
            ("", SourceFault.NOT_VIDEO),
            ("c.tar::none.mp4", SourceFault.NOT_FOUND),
            ("none.tar::x.mp4", SourceFault.NOT_FOUND),
        ):
            assert fault_of(f"memory://b/{name}").fault is fault, name
        with pytest.raises(UsageError, match="shard of 7 files"):
            describe("memory://b/c.tar")
    finally:
        store.rm("/b", recursive=True)


class Store:
    """A store's library in trouble."""

    def __init__(self, error: Exception | None, hang: float = 0.0) -> None:
        self._error, self._hang = error, hang

    def info(self, path: str) -> dict[str, Any]:
        time.sleep(self._hang)
        if self._error is not None:
            raise self._error
        return {"size": 10, "type": "file"}

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        return b"123"


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        (Store(PermissionError("key=AKIA123")), SourceFault.AUTH),
        (Store(type("NoCredentialsError", (Exception,), {})("x")), SourceFault.AUTH),
        (Store(ConnectionRefusedError()), SourceFault.REFUSED),
        (Store(RuntimeError("https://me:pw@x")), SourceFault.REFUSED),
        (Store(None, hang=0.4), SourceFault.TIMEOUT),
        (Store(None), SourceFault.BROKEN),
    ],
)
def test_every_failure_of_a_store_has_its_fault(
    store: Store, fault: SourceFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "store_of", lambda address: (store, "x.mp4"))
    told = fault_of("s3://bucket/x.mp4", timeout=0.2)
    assert told.fault is fault
    assert "AKIA" not in str(told)
    assert "pw" not in str(told)


def test_packages_that_are_absent_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(STORES) <= set(fsspec.available_protocols())
    with pytest.raises(UsageError, match=r"'s3fs'.*pip install 'retain\[remote\]' s3fs"):
        frames("s3://bucket/x.mp4")
    found = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"'fsspec'.*pip install 'retain\[remote\]'"):
        open_stored("gs://bucket/x.mp4")


def test_an_address_with_a_query_and_blanks(server: Server) -> None:
    server.files["a%20b.tar"] = server.files["c.tar"]
    assert len(frames(f"{server.at('a b.tar')}?w=2::002.mkv", limit=3)) == 3


def test_unknown_schemes_and_unset_variables_are_usage_errors() -> None:
    for source, words in (("ftpx://h/a.mp4", "Known:"), ("s3://${NOT_SET}/a.mp4", "NOT_SET")):
        with pytest.raises(RetainError, match=words) as caught:
            frames(source)
        assert isinstance(caught.value, UsageError)
