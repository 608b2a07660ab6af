"""Clips read in place from tar shards: the same frames as from plain files, and clear errors."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import media
import numpy as np
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_parts import write_shard

from retain.apps.folder import stream_name
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.sources.any import AnySource, describe
from retain.pipeline.sources.blocks import LocalBlob, Window
from retain.pipeline.sources.shards import Member, members
from retain.pipeline.sources.stored import description, member_place


def frames(source: str) -> list[Frame]:
    return list(AnySource(source, stream="s").frames())


def same(one: list[Frame], other: list[Frame]) -> bool:
    return len(one) == len(other) and all(
        (a.pts, a.time_base, a.seq, dict(a.meta)) == (b.pts, b.time_base, b.seq, dict(b.meta))
        and np.array_equal(a.image, b.image)
        for a, b in zip(one, other, strict=True)
    )


def walk(path: Path) -> list[Member]:
    blob = LocalBlob(path)
    return list(members(Window(blob, 0, blob.size)))


def fault_of(source: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        frames(source)
    return caught.value


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {
        "a.mp4": media.write_video(folder / "a.mp4", 30, options={"bf": "2", "g": "10"}),
        "b.mkv": media.write_video(folder / "b.mkv", 20),
        "c.avi": media.write_video(folder / "c.avi", 20, codec="mpeg4"),
        "d.ts": media.write_video(folder / "d.ts", 20),
        "e.dcm": Path(pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)),
    }


@pytest.fixture
def shard(clips: dict[str, Path], tmp_path: Path) -> Path:
    files = [(f"ward/{name}", path.read_bytes()) for name, path in clips.items()]
    files.insert(0, ("ward/a.json", b'{"ef": 55, "who": ["x"]}'))
    return write_shard(tmp_path / "clips-0003.tar", files)


def test_a_member_gives_the_frames_of_the_plain_file(clips: dict[str, Path], shard: Path) -> None:
    for name, path in clips.items():
        assert same(frames(f"{shard}::ward/{name}"), frames(str(path))), name


def test_where_a_sample_begins_saves_the_walk(clips: dict[str, Path], shard: Path) -> None:
    at = {member.name: member.at for member in walk(shard)}
    plain = frames(str(clips["a.mp4"]))
    assert same(frames(f"{shard}::@{at['ward/a.json']}::ward/a.mp4"), plain)
    assert fault_of(f"{shard}::@{at['ward/a.json']}::ward/b.mkv").fault is SourceFault.NOT_FOUND
    for wrong in (at["ward/a.json"] + 512, 10**9):
        assert fault_of(f"{shard}::@{wrong}::ward/a.mp4").fault is SourceFault.BROKEN


def test_the_description_of_a_sample(shard: Path) -> None:
    assert description(f"{shard}::ward/a.mp4") == {"ef": 55, "who": ["x"]}
    assert description(f"{shard}::@0::ward/a.mp4") == {"ef": 55, "who": ["x"]}
    assert description(f"{shard}::ward/b.mkv") is None


def test_every_way_of_writing_a_tar_is_read(tmp_path: Path, clips: dict[str, Path]) -> None:
    data = clips["b.mkv"].read_bytes()
    long = "ward-" + "x" * 200 + "/ü.mkv"
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "ward/u.mkv" if form == tarfile.USTAR_FORMAT else long
        path = write_shard(tmp_path / f"{form}.tar", [("0.cls", b"7"), (name, data)], format=form)
        second = walk(path)[1]
        assert second.name == name
        assert len(frames(f"{path}::@{second.at}::{name}")) == 20


def test_a_broken_clip_in_a_sound_shard_is_broken_as_by_itself(
    tmp_path: Path, clips: dict[str, Path]
) -> None:
    for name in ("a.mp4", "b.mkv", "c.avi"):
        half = media.cut(tmp_path / name, clips[name], 0.6)
        path = write_shard(tmp_path / "x.tar", [(name, half.read_bytes()), ("z.txt", b"0" * 9999)])
        by_itself, inside = fault_of(str(half)), fault_of(f"{path}::{name}")
        assert (inside.fault, inside.decoded) == (by_itself.fault, by_itself.decoded), name


def test_a_shard_cut_anywhere_says_so_and_gives_what_lies_before(
    tmp_path: Path, shard: Path
) -> None:
    data, whole = shard.read_bytes(), walk(shard)
    end = whole[-1].start + whole[-1].size
    for share in (0.2, 0.5, 0.8, 1.0):
        length = int(end * share)
        path = tmp_path / "cut.tar"
        path.write_bytes(data[:length])
        seen: list[Member] = []
        blob = LocalBlob(path)
        with pytest.raises(SourceError, match="damaged") as caught:
            seen.extend(members(Window(blob, 0, blob.size)))
        assert caught.value.fault is SourceFault.BROKEN
        first = whole[1]
        if first.start + first.size <= length:
            assert len(frames(f"{path}::{first.name}")) == 30


def test_damage_between_members_is_no_end(tmp_path: Path, shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    at = walk(shard)[3].at
    data[at + 10 : at + 300] = bytes(range(29, 29 + 145)) * 2
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(SourceError, match="header cannot be read"):
        walk(tmp_path / "x.tar")


def odd(path: Path) -> Path:
    """A shard of everything that is no clip."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as shard:
        kinds = {
            "folder.mp4": tarfile.DIRTYPE,
            "link.mp4": tarfile.SYMTYPE,
            "hard.mp4": tarfile.LNKTYPE,
            "pipe.mp4": tarfile.FIFOTYPE,
        }
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            shard.addfile(member)
        for name in ("../../up.mp4", "/root.mp4", "twice.mp4", "twice.mp4", "still.png"):
            member = tarfile.TarInfo(name)
            member.size = 5
            shard.addfile(member, io.BytesIO(b"12345"))
        shard.addfile(tarfile.TarInfo("empty.mp4"))
    return path


@pytest.mark.parametrize(
    ("name", "fault", "words"),
    [
        ("folder.mp4", SourceFault.NOT_VIDEO, "is a folder"),
        ("link.mp4", SourceFault.NOT_VIDEO, "is a link"),
        ("hard.mp4", SourceFault.NOT_VIDEO, "is a link"),
        ("pipe.mp4", SourceFault.NOT_VIDEO, "no regular file"),
        ("../../up.mp4", SourceFault.NOT_VIDEO, "leads out of the shard"),
        ("/root.mp4", SourceFault.NOT_VIDEO, "leads out of the shard"),
        ("twice.mp4", SourceFault.BROKEN, "2 times"),
        ("empty.mp4", SourceFault.EMPTY, "0 bytes"),
        ("still.png", SourceFault.NOT_VIDEO, "picture"),
        ("twise.mp4", SourceFault.NOT_FOUND, "Did you mean 'twice.mp4'"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_sentence(
    name: str, fault: SourceFault, words: str, tmp_path: Path
) -> None:
    told = fault_of(f"{odd(tmp_path / 'odd.tar')}::{name}")
    assert told.fault is fault
    assert words in str(told)


def test_shards_are_those_of_webdataset(tmp_path: Path, clips: dict[str, Path]) -> None:
    webdataset = pytest.importorskip("webdataset")
    data = clips["b.mkv"].read_bytes()
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for n in range(3):
            key = f"ward.1/{n:03}"
            writer.write({"__key__": key, "mkv": data, "json": {"n": n}, "left.mkv": data[:99]})
    found = walk(tmp_path / "w.tar")
    assert {m.sample for m in found} == {f"ward.1/{n:03}" for n in range(3)}
    for n in range(3):
        at = next(m.at for m in found if m.sample.endswith(str(n)))
        name = f"{tmp_path}/w.tar::@{at}::ward.1/{n:03}.mkv"
        assert len(frames(name)) == 20
        assert description(name) == {"n": n}


def header(name: str, size: int, kind: bytes) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def test_hostile_headers_take_no_memory_and_end_at_once(tmp_path: Path) -> None:
    end = bytes(1024)
    hostile = {
        "a name of 1 TiB": header("x", 1 << 40, tarfile.GNUTYPE_LONGNAME) + end,
        "keywords of 8 GiB": header("x", 1 << 33, tarfile.XHDTYPE) + end,
        "a member of 1 TiB": header("x.mp4", 1 << 40, tarfile.REGTYPE) + end,
        "holes of 1 TiB": header("x.mp4", 0, tarfile.GNUTYPE_SPARSE)[:483]
        + b"%011o" % (1 << 32)
        + bytes(18)
        + end,
        "names of names": (header("x", 1, tarfile.GNUTYPE_LONGNAME) + bytes(512)) * 3000 + end,
        "noise": b"no tar at all" * 100,
        "gzip": b"\x1f\x8b\x08" + bytes(1000),
    }
    for what, data in hostile.items():
        path = tmp_path / "x.tar"
        path.write_bytes(data)
        told = fault_of(f"{path}::x.mp4")
        assert told.fault in (SourceFault.BROKEN, SourceFault.NOT_VIDEO), what
    path.write_bytes(b"")
    assert fault_of(f"{path}::x.mp4").fault is SourceFault.EMPTY
    path.write_bytes(bytes(10240))
    assert fault_of(f"{path}::x.mp4").fault is SourceFault.NOT_FOUND


def test_a_shard_is_no_clip_and_says_what_to_name(shard: Path) -> None:
    with pytest.raises(UsageError, match=r"shard of 6 files.*clips-0003.tar::ward/a.mp4"):
        describe(str(shard))


def test_a_file_whose_name_looks_like_a_member_is_a_file(
    tmp_path: Path, clips: dict[str, Path]
) -> None:
    path = tmp_path / "x.tar::y.mp4"
    path.write_bytes(clips["a.mp4"].read_bytes())
    assert member_place(str(path)) is None
    assert len(frames(str(path))) == 30


def test_a_stream_is_called_as_the_plain_file_would_be() -> None:
    assert stream_name("shards/c-1.tar::@512::ward/a.mp4") == stream_name("ward/a.mp4") == "a"
    assert stream_name("s3://me:secret@b/c-1.tar::a.mp4") == stream_name("s3://b/a.mp4") == "a"


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 300),
    start=st.integers(0, 40),
    block=st.integers(1, 64),
    keep=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 320), st.integers(-1, 90)), max_size=12),
    narrow=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_a_window_reads_as_a_file_does_and_keeps_few_blocks(
    size: int,
    start: int,
    block: int,
    keep: int,
    steps: list[tuple[int, int]],
    narrow: tuple[int, int],
) -> None:
    data = bytes(n * 7 % 256 for n in range(start + size + 20))

    class Memory:
        name, stamp, size = "m", 0, len(data)

        def fetch(self, first: int, stop: int) -> bytes:
            assert 0 <= first < stop <= start + size
            return data[first:stop]

        def close(self) -> None: ...

    window, plain = Window(Memory(), start, size, block, keep), io.BytesIO(data[start:][:size])
    for at, count in steps:
        assert window.seek(at) == plain.seek(at)
        assert window.read(count) == plain.read(count)
        assert window.tell() == plain.tell()
        assert len(window._blocks) <= keep
    first = min(narrow[0], size)
    window.narrowed(first, min(narrow[1], size - first))
    assert window.read() == data[start + first :][: min(narrow[1], size - first)]
