"""Codes drawn beside colours, named by words, and judged in a room that has been mapped."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import scene_parts as parts

from retain.datasets.scene.room_classes import CLASSES, codes
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render
from retain.models.language.classes import ClassTeacher
from retain.models.language.describe import Describe, ask, read_basis
from retain.models.language.field import Field, Seen, draw, heat, judge, name
from retain.models.language.query import relevancy
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import View

CAMERA = Camera(40.0, 40.0, 24.0, 18.0, 48, 36)


def cloud(count: int = 300) -> Gaussians:
    rng = np.random.default_rng(7)
    quats = rng.standard_normal((count, 4))
    unit = codes()[rng.integers(1, len(CLASSES), count)]
    return Gaussians(
        means=rng.uniform((-1, -1, 1), (1, 1, 3), (count, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        scales=rng.uniform(0.02, 0.2, (count, 3)).astype(np.float32),
        opacities=rng.uniform(0.3, 0.99, count).astype(np.float32),
        colors=rng.random((count, 3), dtype=np.float32),
        codes=unit,
    )


def test_codes_beside_colours_change_no_bit_of_them() -> None:
    gaussians = cloud()
    alone, both = render(gaussians, CAMERA, np.eye(4)), draw(gaussians, CAMERA, np.eye(4))
    for name_of in ("color", "depth", "alpha"):
        np.testing.assert_array_equal(getattr(both, name_of), getattr(alone, name_of))
    own = render(gaussians, CAMERA, np.eye(4), channels=gaussians.codes).color
    np.testing.assert_array_equal(both.codes, own)
    assert both.codes.shape == (36, 48, 16)
    with pytest.raises(ValueError, match="no language codes"):
        draw(Gaussians.empty(), CAMERA, np.eye(4))


def test_pixels_are_named_by_the_likest_word_where_there_is_a_map() -> None:
    table = codes()[1:4]
    pixels = np.stack([table[2], 0.6 * table[0] + 0.4 * table[1], table[1], 0 * table[0]])[None]
    alpha = np.array([[1, 0.9, 0.4, 1]], np.float32)
    field = Field(pixels[..., :3], pixels, alpha, alpha)
    assert name(field, table).tolist() == [[3, 1, 0, 0]]


def test_judged_by_hand() -> None:
    """One wall of two words before the camera; the truth says another border, and a third word."""
    x = np.linspace(-1, 1, 81, dtype=np.float32)
    means = np.stack(np.broadcast_arrays(x[:, None], x[None], np.float32(1)), -1).reshape(-1, 3)
    n, table = len(means), codes()[1:4]
    wall = Gaussians(
        means=np.ascontiguousarray(means),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        scales=np.full((n, 3), 0.012, np.float32),
        opacities=np.full(n, 0.97, np.float32),
        colors=np.full((n, 3), 0.5, np.float32),
        codes=np.where(means[:, :1] < 0, table[0], table[1]).astype(np.float32),
    )
    labels = np.full((36, 48), 2, np.uint8)
    labels[:, :24] = 1
    full = judge(wall, [Seen(CAMERA, np.eye(4), labels)], table)
    assert full.iou.keys() == {1, 2}
    assert full.miou > 0.95
    warm = heat(wall, CAMERA, np.eye(4), table[0], table[1:])
    assert warm[:, :23].min() > 0.9
    assert warm[:, 25:].max() < 0.1
    with pytest.raises(ValueError, match="no language codes"):
        heat(Gaussians.empty(), CAMERA, np.eye(4), table[0], table[1:])
    labels[:, 36:] = 3
    labels[:18, :12] = 0  # no truth, no verdict
    found = judge(wall, [Seen(CAMERA, np.eye(4), labels)], table)
    assert found.iou[1] > 0.9
    assert found.iou[2] == pytest.approx(0.5, abs=0.05)
    assert found.iou[3] == 0
    assert found.macc == pytest.approx(2 / 3, abs=0.05)


@pytest.mark.parametrize("teacher", ["", "classes:64,4,0.3"])
def test_a_mapped_room_is_named_from_views_it_has_not_seen(
    teacher: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scene = parts.room(24)
    stage = Reconstruct(poses="given", refine=0, holdout=6, threads=1)
    describe = Describe(teacher, threads=1) if teacher else None
    seen = []
    for k in range(len(scene)):
        packet = parts.packet(scene[k])
        done = stage.process(describe.process(packet) if describe else packet)
        assert done is not None
        if done.results["pose"].held_out:  # type: ignore[union-attr]
            shot = scene[k]
            assert shot.c2w is not None
            assert shot.labels is not None
            seen.append(Seen(shot.camera, shot.c2w, shot.labels))
    assert stage.mapper is not None
    stage.mapper.settle()
    gaussians = stage.mapper.map.read(stage.mapper.stream, "all").gaussians
    words = codes()[1:]
    if describe:
        path = str(tmp_path_factory.mktemp("map") / "language.safetensors")
        describe.save(path)
        called, basis = read_basis(path)
        assert called == teacher
        words = basis.codes(ClassTeacher(64).text(CLASSES[1:]))
        word, canonical = ask(ClassTeacher(64), basis, "floor")
        heat = relevancy(gaussians.codes, word, canonical)
        assert 0.02 < (heat > 0.5).mean() < 0.6
    found = judge(gaussians, seen, words)
    assert len(seen) >= 3
    assert found.miou > (0.4 if describe else 0.6), found
    assert found.macc > (0.5 if describe else 0.7), found


def test_describe_restores_refuses_and_says_what_it_keeps(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("basis")
    scene = parts.room(4, (48, 36))
    packets = [parts.packet(scene[k]) for k in range(4)]
    whole, half = (Describe("classes:64,4,0.3", threads=1) for _ in range(2))
    with pytest.raises(StateError, match="no frame was seen"):
        whole.save(str(folder / "none"))
    answers = [whole.process(one) for one in packets]
    for one in packets[:2]:
        half.process(one)
    half.save(str(folder / "half"))
    again = Describe("classes:64,4,0.3", threads=1, resume=str(folder / "half"))
    for one, answer in zip(packets[2:], answers[2:], strict=True):
        found = again.process(one).get("view", View).codes
        np.testing.assert_array_equal(found, answer.get("view", View).codes)
    assert again.stats() == whole.stats()
    assert 0 < float(whole.stats()["kept"]) <= 1
    grid = answers[0].get("view", View).codes
    assert grid is not None
    assert grid.shape == (9, 12, 16)
    with pytest.raises(StateError, match="made with the teacher"):
        Describe("classes", resume=str(folder / "half"))
    with pytest.raises(UsageError, match="without a view"):
        whole.process(Packet(packets[0].frame, {}))
    blind = msgspec.structs.replace(packets[0].get("view", View), labels=None)
    with pytest.raises(UsageError, match="labelled"):
        whole.process(Packet(packets[0].frame, {"view": blind}))
