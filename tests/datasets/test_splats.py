"""Files of Gaussians: what is written is what is read, by us and by others."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from splat_parts import covariances, picture, picture_of, psnr, some

from retain.datasets.splats import parts, ply, splat, spz
from retain.datasets.splats.formats import FORMATS, format_of, read_splats, write_splats
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.errors import UsageError

CAMERA = Camera(90.0, 90.0, 48.0, 32.0, 96, 64)
VIEW = np.eye(4)
TOLERANCE = {  # metres, share of a scale, opacity, colour, share of a covariance
    ".ply": (0, 1e-6, 2e-6, 1e-6, 1e-5),
    ".splat": (0, 0, 0.51 / 255, 0.51 / 255, 0.05),
    ".spz": (2.0**-13, 0.033, 0.51 / 255, 0.0038, 0.12),
    ".glb": (0, 0, 0, 1e-6, 1e-5),
}


def in_file_order(ending: str, gaussians: Gaussians) -> Gaussians:
    if ending != ".splat":
        return gaussians
    return gaussians[np.argsort(-parts.importance(gaussians), kind="stable")]


@pytest.mark.parametrize("ending", FORMATS)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(n=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), size=st.floats(0.002, 3))
def test_what_is_written_is_read(
    tmp_path: Path, ending: str, n: int, seed: int, size: float
) -> None:
    if ending == ".glb" and n == 0:
        return
    written = in_file_order(ending, some(n, seed, size))
    path = tmp_path / f"scene{ending}"
    write_splats(path, written)
    read = read_splats(path)
    assert len(read) == n
    place, scale, opacity, colour, shape = TOLERANCE[ending]
    np.testing.assert_allclose(read.means, written.means, atol=place, rtol=0)
    np.testing.assert_allclose(read.scales, np.maximum(written.scales, 0), rtol=scale, atol=4e-5)
    np.testing.assert_allclose(read.opacities, written.opacities, atol=opacity, rtol=0)
    np.testing.assert_allclose(read.colors, written.colors, atol=colour, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(read.quats, axis=1), 1, atol=1e-5)
    wanted = covariances(written.quats, written.scales)
    error = np.abs(covariances(read.quats, read.scales) - wanted).max(axis=(1, 2), initial=0)
    assert (error <= shape * np.abs(wanted).max(axis=(1, 2), initial=0) + 1e-8).all()
    assert read.codes is None


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_is_as_large_as_said_and_the_same_each_time(tmp_path: Path, ending: str) -> None:
    gaussians = some(1000)
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending.upper()}"
    write_splats(first, gaussians)
    write_splats(second, gaussians)
    size, nbytes = first.stat().st_size, FORMATS[ending].nbytes
    if ending == ".spz":
        assert size < 1000 * nbytes
    elif ending == ".splat":
        assert size == 1000 * 32
    else:
        assert 0 <= size - 1000 * nbytes < 3000
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("ending", FORMATS)
def test_limits_survive(tmp_path: Path, ending: str) -> None:
    """Scales and opacities of 0, opacities of 1, quaternions of other lengths, far places."""
    gaussians = Gaussians(
        np.float32([[0, 0, 0], [1500.25, -1500.25, 1999], [-1e-3, 0, 1e-3]]),
        np.float32([[0, 0, 0, 0], [0, 3, 0, 0], [-0.5, 0.5, -0.5, 0.5]]),
        np.float32([[0, 0, 0], [300, 1e-3, 1e-3], [1, 1, 0]]),
        np.float32([0, 1, 1]),
        np.float32([[0, 0, 0], [1, 1, 1], [1.5, -0.5, 0.5]]),
    )
    path = tmp_path / f"scene{ending}"
    write_splats(path, gaussians)
    read, wanted = read_splats(path), in_file_order(ending, parts.checked(gaussians))
    np.testing.assert_allclose(read.means, wanted.means, atol=2.0**-13)
    np.testing.assert_allclose(read.scales, wanted.scales, rtol=0.033, atol=5e-5)
    np.testing.assert_allclose(read.opacities, wanted.opacities, atol=1e-6)
    np.testing.assert_allclose(read.colors, wanted.colors, atol=0.004)
    wanted_shapes = covariances(wanted.quats, wanted.scales)
    shapes = covariances(read.quats, read.scales)
    np.testing.assert_allclose(shapes, wanted_shapes, rtol=0.07, atol=1e-6 * 300**2)


def test_another_reader_opens_the_ply(tmp_path: Path) -> None:
    gsply = pytest.importorskip("gsply")
    gaussians = some(500)
    ply.write(tmp_path / "scene.ply", gaussians)
    read = gsply.plyread(tmp_path / "scene.ply")
    np.testing.assert_array_equal(read.means, gaussians.means)
    np.testing.assert_allclose(np.exp(read.scales), gaussians.scales, rtol=1e-6)
    np.testing.assert_allclose(read.quats, gaussians.quats, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-read.opacities)), gaussians.opacities, atol=2e-6)
    np.testing.assert_allclose(0.5 + gsply.SH_C0 * read.sh0, gaussians.colors, atol=1e-6)
    assert read.shN.shape[1] == 0


def test_a_ply_of_others_is_found_by_column_names(tmp_path: Path) -> None:
    """Other order, doubles, other columns, a comment, an element after the Gaussians."""
    gaussians = some(5)
    names = [*(name for name in reversed(ply.COLUMNS) if name[0] != "n"), "f_rest_0", "label"]
    kinds = {"x": "<f8", "label": "u1"}
    rows = np.zeros(5, [(name, kinds.get(name, "<f4")) for name in names])
    for k, axis in enumerate("xyz"):
        rows[axis] = gaussians.means[:, k]
        rows[f"f_dc_{k}"] = parts.dc(gaussians.colors)[:, k]
        rows[f"scale_{k}"] = np.log(gaussians.scales)[:, k]
    for k in range(4):
        rows[f"rot_{k}"] = 2 * gaussians.quats[:, k]
    rows["opacity"] = parts.logit(gaussians.opacities)
    words = {"<f8": "double", "u1": "uchar", "<f4": "float"}
    header = ["ply", "format binary_little_endian 1.0", "comment hello", "element vertex 5"]
    header += [f"property {words[kinds.get(name, '<f4')]} {name}" for name in names]
    header += ["element extra 1", "property list uchar int numbers", "end_header", ""]
    path = tmp_path / "other.ply"
    path.write_bytes("\n".join(header).encode() + rows.tobytes() + b"\0")
    read = ply.read(path)
    np.testing.assert_array_equal(read.means, gaussians.means)
    np.testing.assert_allclose(read.scales, gaussians.scales, rtol=1e-6)
    np.testing.assert_allclose(read.quats, gaussians.quats, atol=1e-6)


def test_splat_begins_with_what_matters_most(tmp_path: Path) -> None:
    gaussians = some(200)
    splat.write(tmp_path / "scene.splat", gaussians)
    read = splat.read(tmp_path / "scene.splat")
    weight = parts.importance(read)
    assert (weight[1:] <= weight[:-1] * 1.01 + 1e-4).all()
    discs = some(2)
    discs.scales[:] = [[1, 1e-4, 1], [0.5, 0.5, 0.5]]
    discs.opacities[:] = 1
    assert parts.importance(discs)[0] > parts.importance(discs)[1], "a disc counts by its face"


def test_a_record_of_splat_byte_by_byte() -> None:
    one = Gaussians(
        np.float32([[1, -2, 3]]),
        np.float32([[0.5, -0.5, 0.5, -0.5]]),
        np.float32([[0.1, 0.2, 0.3]]),
        np.float32([0.5]),
        np.float32([[1, 0, 0.2]]),
    )
    wanted = struct.pack("<6f8B", 1, -2, 3, 0.1, 0.2, 0.3, 255, 0, 51, 128, 192, 64, 192, 64)
    assert splat.to_records(one).tobytes() == wanted


def test_another_reader_opens_the_spz_and_sees_the_same_picture(tmp_path: Path) -> None:
    """Its numbers are in the file's axes: drawn by a camera that stands in those."""
    gsply = pytest.importorskip("gsply")
    gaussians = some(40)
    spz.write(tmp_path / "scene.spz", gaussians)
    read = gsply.read_spz(tmp_path / "scene.spz")
    drawn = picture(
        read.means.astype(np.float64),
        covariances(read.quats, np.exp(read.scales)),
        1 / (1 + np.exp(-read.opacities)),
        np.clip(0.5 + gsply.SH_C0 * read.sh0, 0, 1),
        np.diag([1.0, -1, -1, 1]),
        CAMERA,
    )
    assert psnr(drawn, picture_of(gaussians, VIEW, CAMERA)) > 40


def test_spz_of_version_2_is_read(tmp_path: Path) -> None:
    """Written here from the format's facts: x, y, z of the quaternion with positive w."""
    import gzip

    gaussians = some(30)
    spz.write(tmp_path / "three.spz", gaussians)
    body = gzip.decompress((tmp_path / "three.spz").read_bytes())
    quats = gaussians.quats * np.sign(gaussians.quats[:, :1]) * [1, 1, -1, -1]
    turns = np.rint(127.5 + 127.5 * quats[:, 1:]).astype(np.uint8).tobytes()
    header = struct.pack("<IIIBBBB", spz.MAGIC, 2, 30, 0, spz.FRACTION, 1, 0)
    old = header + body[16 : 16 + 30 * 16] + turns
    (tmp_path / "two.spz").write_bytes(gzip.compress(old))
    read = spz.read(tmp_path / "two.spz")
    wanted = picture_of(gaussians, VIEW, CAMERA)
    assert psnr(picture_of(read, VIEW, CAMERA), wanted) > 35


def test_spz_of_a_large_scene_gives_up_fraction_not_places(tmp_path: Path) -> None:
    gaussians = some(10)
    gaussians.means[0] = [40_000, -40_000, 12_345.5]
    spz.write(tmp_path / "scene.spz", gaussians)
    read = spz.read(tmp_path / "scene.spz")
    np.testing.assert_allclose(read.means, gaussians.means, atol=2.0**-8)


def glb_parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """A strict reader of the container, from the glTF 2.0 specification."""
    data = path.read_bytes()
    magic, version, size = struct.unpack_from("<4sII", data)
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert length % 4 == 0
    document = json.loads(data[20 : 20 + length])
    nbytes, kind = struct.unpack_from("<I4s", data, 20 + length)
    assert kind == b"BIN\0"
    assert 28 + length + nbytes == len(data)
    assert 0 <= nbytes - document["buffers"][0]["byteLength"] < 4
    return document, data[28 + length :]


def test_the_glb_holds_what_the_extension_says(tmp_path: Path) -> None:
    gaussians = some(41)
    write_splats(tmp_path / "scene.glb", gaussians)
    document, body = glb_parts(tmp_path / "scene.glb")
    assert document["asset"]["version"] == "2.0"
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    assert document["nodes"][document["scenes"][document["scene"]]["nodes"][0]] == {"mesh": 0}
    (primitive,) = document["meshes"][0]["primitives"]
    assert primitive["mode"] == 0
    described = primitive["extensions"]["KHR_gaussian_splatting"]
    assert described["kernel"] == "ellipse"
    assert described["colorSpace"] == "srgb_rec709_display"
    arrays = {}
    for name, number in primitive["attributes"].items():
        accessor = document["accessors"][number]
        view = document["bufferViews"][accessor["bufferView"]]
        dtype = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        assert view["byteOffset"] % 4 == 0
        assert accessor["count"] == 41
        raw = body[view["byteOffset"] :][: view["byteLength"]]
        arrays[name.removeprefix("KHR_gaussian_splatting:")] = np.frombuffer(raw, dtype).reshape(
            41, width
        )
        if name == "POSITION":
            np.testing.assert_array_equal(accessor["min"], arrays[name].min(axis=0))
            np.testing.assert_array_equal(accessor["max"], arrays[name].max(axis=0))
    assert set(arrays) == {
        "POSITION", "ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0", "COLOR_0",
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["SCALE"], gaussians.scales)  # linear
    np.testing.assert_allclose(np.linalg.norm(arrays["ROTATION"], axis=1), 1, atol=1e-6)
    drawn = picture(
        arrays["POSITION"].astype(np.float64),
        covariances(np.roll(arrays["ROTATION"], 1, axis=1), arrays["SCALE"]),
        arrays["OPACITY"][:, 0],
        0.5 + 0.28209479177387814 * arrays["SH_DEGREE_0_COEF_0"],
        np.diag([-1.0, -1, 1, 1]),  # y up, z forward, so x left
        CAMERA,
    )
    assert psnr(drawn, picture_of(gaussians, VIEW, CAMERA)) > 60


@pytest.mark.parametrize("axis", [0, 2])
def test_half_a_turn_of_the_world_moves_no_picture(axis: int) -> None:
    gaussians = some(30)
    turn = np.diag([*(1.0 if k == axis else -1.0 for k in range(3)), 1.0])
    turned = parts.turned(gaussians, axis)
    wanted = picture_of(gaussians, VIEW, CAMERA)
    assert psnr(picture_of(turned, turn, CAMERA), wanted) > 80
    assert psnr(picture_of(turned, VIEW, CAMERA), wanted) < 30, "the picture shows a turn"
    again = parts.turned(turned, axis)
    np.testing.assert_array_equal(again.quats, gaussians.quats)


@pytest.mark.parametrize("ending", FORMATS)
def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path, ending: str) -> None:
    gaussians = some(3)
    gaussians.means[1, 1] = np.nan
    path = tmp_path / f"scene{ending}"
    with pytest.raises(ValueError, match="1 numbers of Gaussians.means are not finite"):
        write_splats(path, gaussians)
    assert not path.exists()


def test_endings() -> None:
    assert format_of("a/b.c/Scene.PLY") is FORMATS[".ply"]
    with pytest.raises(UsageError, match="Did you mean '.splat'"):
        format_of("scene.splats")
    with pytest.raises(UsageError, match="Valid names: .glb, .ply, .splat, .spz"):
        format_of("scene")


@pytest.mark.parametrize("ending", FORMATS)
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"scene{ending}"
    write_splats(path, some(3))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        write_splats(path, some(5))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
