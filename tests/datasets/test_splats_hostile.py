"""Files of Gaussians that are cut off, damaged or made to do harm are refused with a sentence."""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splat_parts import broken, some

from retain.datasets.splats import glb, parts, ply, splat, spz
from retain.datasets.splats.formats import FORMATS, read_splats, write_splats
from retain.pipeline.errors import SourceError, SourceFault, UsageError

EACH_CASE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@cache
def whole(ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"whole{ending}"
        write_splats(path, some(3))
        return path.read_bytes()


@pytest.mark.parametrize("ending", FORMATS)
def test_every_cut_is_refused(tmp_path: Path, ending: str) -> None:
    data = whole(ending)
    for length in range(0, len(data), 1 if len(data) < 300 else 23):
        path = broken(tmp_path / f"cut{ending}", data[:length])
        if ending == ".splat" and length % splat.NBYTES == 0:
            assert len(read_splats(path)) == length // splat.NBYTES
            continue
        with pytest.raises(SourceError) as refusal:
            read_splats(path)
        assert refusal.value.fault == SourceFault.BROKEN


@pytest.mark.parametrize("ending", FORMATS)
@EACH_CASE
@given(data=st.data())
def test_damage_is_read_as_numbers_or_refused(
    tmp_path: Path, ending: str, data: st.DataObject
) -> None:
    changed = bytearray(whole(ending))
    if ending == ".spz":
        changed = bytearray(gzip.decompress(changed))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(changed), 3000) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    content = gzip.compress(changed, mtime=0) if ending == ".spz" else bytes(changed)
    path = broken(tmp_path / f"damaged{ending}", content)
    with suppress(SourceError):
        read = read_splats(path)
        assert np.isfinite(read.means).all()
        assert np.isfinite(read.scales).all()


@pytest.mark.parametrize("ending", FORMATS)
@EACH_CASE
@given(content=st.binary(max_size=200))
def test_anything_else_is_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    path = broken(tmp_path / f"junk{ending}", content)
    if ending == ".splat" and len(content) % splat.NBYTES == 0:
        return
    with pytest.raises(SourceError):
        read_splats(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_no_file_and_too_large_a_file(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"scene{ending}"
    with pytest.raises(SourceError, match="There is no file") as refusal:
        read_splats(path)
    assert refusal.value.fault == SourceFault.NOT_FOUND
    write_splats(path, some(100))
    monkeypatch.setattr(parts, "LARGEST", 100)
    with pytest.raises(SourceError) as refusal:
        read_splats(path)
    assert refusal.value.fault == SourceFault.TOO_LARGE


def ply_of(count: object, *lines: str, body: bytes = b"") -> bytes:
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *lines]
    return "\n".join([*head, "end_header", ""]).encode() + body


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ply_of(10**15 - 1, *(f"property float {name}" for name in ply.COLUMNS)), "is cut off"),
        (ply_of(-1, "property float x"), "without Gaussians"),
        (ply_of(0, "property float x", "property float y"), "has no z, f_dc_0"),
        (ply_of(0, "property float x", "property float x"), "a column twice"),
        (ply_of(0, "property list uchar int x"), "not known"),
        (ply_of(0, "property uint packed_position"), "is a compressed .ply"),
        (ply_of(0).replace(b"element vertex", b"element chunk"), "begins with 'chunk'"),
        (ply_of(0).replace(b"binary_little_endian", b"ascii"), "binary little-endian"),
        (b"ply\n" + b"comment x\n" * 10_000, "header is cut off"),
    ],
)
def test_ply_headers(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        ply.read(broken(tmp_path / "scene.ply", content))


def test_a_ply_with_a_number_that_is_not_finite(tmp_path: Path) -> None:
    data = bytearray(whole(".ply"))
    data[-4:] = struct.pack("<f", np.nan)
    with pytest.raises(SourceError, match="not finite, in 1 of 3 Gaussians"):
        ply.read(broken(tmp_path / "nan.ply", bytes(data)))


def spz_of(*, count: int = 0, version: int = 3, degree: int = 0, flags: int = 0) -> bytes:
    return struct.pack("<IIIBBBB", spz.MAGIC, version, count, degree, 12, flags, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(spz_of(count=2**32 - 1), mtime=0), "promises 4294967295"),
        (gzip.compress(spz_of(count=1000), mtime=0), "is cut off"),
        (gzip.compress(spz_of(version=1), mtime=0), "of version 1"),
        (gzip.compress(spz_of(version=9), mtime=0), "of version 9"),
        (gzip.compress(spz_of(degree=7), mtime=0), "degree 7"),
        (gzip.compress(spz_of(flags=2), mtime=0), "flags 2"),
        (spz_of(version=4) + bytes(100), "version 4 or later"),
        (gzip.compress(b"x" * 100, mtime=0), "no .spz"),
    ],
)
def test_spz_headers(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        spz.read(broken(tmp_path / "scene.spz", content))


def test_a_spz_is_never_inflated_past_what_it_promises(tmp_path: Path) -> None:
    bomb = gzip.compress(spz_of(count=1) + bytes(64 << 20), mtime=0)
    path = broken(tmp_path / "bomb.spz", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="more than it promises"):
            spz.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def glb_with(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A good file with its description changed."""
    data = whole(".glb")
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text) + len(rest), len(text), 0x4E4F534A)
    return broken(folder / "changed.glb", head + text + rest)


def _primitive(document: dict[str, Any]) -> dict[str, Any]:
    return document["meshes"][0]["primitives"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["accessors"][0].update(count=10**15), "reaches outside"),
        (lambda d: d["accessors"][0].update(count=-1), "reaches outside"),
        (lambda d: d["accessors"][0].update(count="3"), "description that is wrong"),
        (lambda d: d["accessors"][0].update(count=2), "different lengths"),
        (lambda d: d["accessors"][0].update(byteOffset=2**40), "reaches outside"),
        (lambda d: d["bufferViews"][0].update(byteStride=0), "reaches outside"),
        (lambda d: d["accessors"][2].update(componentType=5121), "float32"),
        (lambda d: d["accessors"].clear(), "description that is wrong"),
        (lambda d: d["meshes"].clear(), "has 0 sets of Gaussians"),
        (lambda d: d["meshes"].append(d["meshes"][0]), "has 2 sets of Gaussians"),
        (lambda d: d["nodes"][0].update(scale=[2, 2, 2]), "moves its Gaussians by a node"),
        (lambda d: _primitive(d)["extensions"][glb.EXTENSION].update(kernel="box"), "kernel 'box'"),
        (lambda d: _primitive(d)["attributes"].pop("POSITION"), "description that is wrong"),
    ],
)
def test_glb_descriptions(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        glb.read(glb_with(tmp_path, change))


def test_a_glb_of_a_draft_with_logarithms_of_scales_is_refused(tmp_path: Path) -> None:
    gaussians = some(3)
    path = tmp_path / "draft.glb"
    glb.write(path, gaussians)
    draft = path.read_bytes().replace(
        gaussians.scales.tobytes(), np.log(gaussians.scales).astype("<f4").tobytes()
    )
    with pytest.raises(SourceError, match="negative scales.*Drafts"):
        glb.read(broken(path, draft))


def test_what_a_format_cannot_hold_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="empty scene"):
        glb.write(tmp_path / "scene.glb", some(0))
    far = some(2)
    far.means[0, 0] = 9e6
    with pytest.raises(UsageError, match="places up to 8388607 m, not 9e\\+06 m. Use .ply"):
        spz.write(tmp_path / "scene.spz", far)
    monkeypatch.setattr(spz, "MOST", 1)
    with pytest.raises(UsageError, match="at most 1 Gaussians, not 2"):
        spz.write(tmp_path / "scene.spz", some(2))
    assert list(tmp_path.iterdir()) == []
