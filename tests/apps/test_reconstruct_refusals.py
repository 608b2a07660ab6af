"""What `retain reconstruct` cannot map, and what it keeps of a run that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_parts import Retain
from PIL import Image as Pil
from reconstruct_parts import FAST, ROOM, lines, reconstruct
from scene_parts import SMALL, room

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.datasets.scene.write import write_scene
from retain.models.scene.mapper import Mapper
from retain.pipeline.results import Pose


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--poses", "guessed"], "guessed"),
        (["--export", "ply,usd"], "There is no export 'usd'"),
        (["--memory", "1"], "--memory"),
        (["--holdout", "-1"], "--holdout"),
        (["--camera", "1,2,3"], "camera"),
        (["--width", "-5"], "--width"),
    ],
)
def test_options_that_cannot_be_leave_no_folder(
    retain: Retain, arguments: list[str], told: str
) -> None:
    said = reconstruct(retain, ROOM, "--limit", "2", "--width", "96", *arguments)
    assert said.code == 2, said.err
    assert told in said.err
    assert "Traceback" not in said.err
    assert not list(Path().iterdir())


def plain_folder(count: int = 4, grey: int | None = None) -> Path:
    folder = Path("pictures")
    folder.mkdir()
    for shot in room(count, SMALL):
        image = shot.image if grey is None else np.full_like(shot.image, grey)
        Pil.fromarray(image).save(folder / f"{shot.seq:03d}.png")
    return folder


def test_sources_without_anything_to_map_are_one_error_each(retain: Retain) -> None:
    empty = Path("empty")
    empty.mkdir()
    blank = plain_folder(grey=128)
    before = sorted(Path().iterdir())
    for source, told in (
        (empty, "no scene of a known format"),
        ("missing.mp4", "missing.mp4"),
        (blank, "could not be tracked in any of 4 frames"),
        ("room://?frames=0", "0"),
        ("room://?colour=red", "colour"),
    ):
        said = reconstruct(retain, source)
        assert said.code in (1, 2), said
        assert told in said.err, said.err
        assert said.out == ""
        assert "Traceback" not in said.err
    assert sorted(Path().iterdir()) in (before, sorted([*before, Path("retain-out")]))
    assert not any(Path("retain-out").glob("*")) if Path("retain-out").exists() else True


def test_given_poses_with_too_little_to_see_depth_by_say_what_to_do(retain: Retain) -> None:
    write_scene(Room(1, 6, *SMALL), Path("scene"), "nerfstudio")
    for picture in Path("scene").rglob("*depth*"):
        if picture.is_file():
            picture.unlink()
    document = json.loads(Path("scene/transforms.json").read_text())
    for frame in document["frames"]:
        frame.pop("depth_file_path", None)
    Path("scene/transforms.json").write_text(json.dumps(document))
    said = reconstruct(retain, "scene", "--width", "96", "--poses", "given", "--out", "out")
    assert said.code == 1
    assert "could not be tracked in any of 6 frames" in said.err
    assert "--poses estimated" in said.err
    assert not Path("out").exists()


def test_a_run_that_fails_keeps_what_was_mapped_until_then(
    retain: Retain, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Mapper.look

    def fails(mapper: Mapper, shot: Shot, **how: Any) -> Pose:
        if shot.seq == 9:
            raise ZeroDivisionError("by a bug")
        return look(mapper, shot, **how)

    monkeypatch.setattr(Mapper, "look", fails)
    said = reconstruct(retain, ROOM, *FAST, "--export", "ply", "--out", "out")
    assert said.code == 1
    assert "by a bug" in said.err
    assert "mapped" in said.out
    assert len(lines(Path("out"))) == 9
    assert Path("out/scene.ply").stat().st_size > 10_000
    summary = json.loads(Path("out/summary.json").read_text())
    assert "by a bug" in str(summary["errors"])
    assert "by a bug" in Path("out/report.html").read_text()


@pytest.mark.parametrize("layout", ["tum", "replica", "nerfstudio", "rgbd"])
def test_every_layout_makes_a_map(retain: Retain, layout: str) -> None:
    write_scene(Room(1, 5, *SMALL), Path("scene"), layout)
    fast = ("--refine", "0", "--finish", "0", "--export", "ply")
    said = reconstruct(retain, "scene", *fast, "--width", "96", "--out", "out")
    assert said.code == 0, said.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["states"] == {"tracked": summary["frames"]}
    assert summary["poses"] == "given"
    assert summary["gaussians"] > 500


def test_pictures_that_cannot_be_read_are_reported_and_the_rest_is_mapped(retain: Retain) -> None:
    write_scene(Room(1, 8, *SMALL), Path("scene"), "rgbd")
    pictures = sorted(Path("scene/rgb").iterdir())
    pictures[3].write_bytes(b"no picture")
    fast = ("--refine", "0", "--finish", "0", "--export", "ply")
    said = reconstruct(retain, "scene", *fast, "--width", "96", "--out", "out")
    assert said.code == 1
    assert "1 of 8 shots" in said.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["frames"] == 7
    assert not summary["complete"]
