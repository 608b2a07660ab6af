"""ImageNet VID as people have it: lists, labels, stills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retain.datasets.detect.base import GENERATED, IGNORE, OCCLUDED
from retain.datasets.detect.vid import ImageNetVid
from retain.datasets.detect.write import save
from retain.pipeline.errors import SourceError


def tree(root: Path, frames: int = 3, labels: str = "") -> Path:
    """An ImageNet VID of one video, with the ``object`` elements of frame 1."""
    for k in range(frames):
        save(root / f"Data/VID/val/v/{k:06d}.JPEG", np.full((20, 30, 3), 40 * k, np.uint8))
        one = labels if k == 1 else ""
        text = f"<annotation><size><width>30</width><height>20</height></size>{one}</annotation>"
        path = root / f"Annotations/VID/val/v/{k:06d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def thing(name: str, box: str = "1 2 11 12", **more: int) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in corners)
    others = "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
    return f"<object><name>{name}</name><bndbox>{inner}</bndbox>{others}</object>"


def test_vid_objects(tmp_path: Path) -> None:
    """WordNet ids; classes of DET; flags; a DET-like object without a track; a box of no width."""
    labels = (
        thing("n02084071", trackid=3, occluded=1, generated=1)
        + thing("n00007846", trackid=4)
        + thing("n02958343")
        + thing("n02958343", "5 5 5 9", trackid=7)
    )
    clip = ImageNetVid(tree(tmp_path, labels=labels))[0]
    truth = clip.truth(1)
    assert [clip.names[k] for k in truth.labels] == ["dog", "car", "car"]
    assert truth.boxes[0].tolist() == [1, 2, 11, 12]
    assert truth.tracks.tolist() == [3, -1, 7]
    assert truth.flags.tolist() == [OCCLUDED | GENERATED, 0, IGNORE]
    assert len(clip.truth(0)) == 0
    assert clip.truth(0).labelled


@pytest.mark.parametrize(
    ("line", "frames"),
    [
        ("v/000001 2", [1]),
        ("val/v/000002 3", [2]),
        ("v 1 0 3", [0, 1, 2]),
        ("val/v 1 1 3", [0]),
        ("v 1 3 3", [2]),
    ],
)
def test_vid_lists(line: str, frames: list[int], tmp_path: Path) -> None:
    """With and without the split; frames of training lists count from 1, files from 0."""
    listed = tmp_path / "list.txt"
    listed.write_text(line + "\n")
    found = ImageNetVid(tree(tmp_path), listed=listed)
    assert [path.stem for path in found[0].images] == [f"{k:06d}" for k in frames]
    assert len(found[0][0].truth) == 0


def test_vid_training_lists_gather_the_frames_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("v 1 1 3\nv 1 3 3\nabsent 1 1 9\n")
    found = ImageNetVid(tree(tmp_path), listed=tmp_path / "a.txt")
    assert [[path.stem for path in clip.images] for clip in found] == [["000000", "000002"]]
    assert found.notes == ("1 of 2 videos are not there.",)
    assert [(sample.seq, sample.seconds) for sample in found[0]] == [(0, 0), (2, 2 / 25)]


def test_vid_stills_of_det_are_clips_of_one(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for name in ("n_1", "n_2"):
        save(root / f"Data/DET/train/n/{name}.JPEG", np.zeros((20, 30, 3), np.uint8))
    (root / "a.txt").write_text("train/n/n_1 1\ntrain/n/n_2 1\n")
    found = ImageNetVid(root, listed=root / "a.txt")
    assert [len(clip) for clip in found] == [1, 1]
    assert not found[0].truth(0).labelled


@pytest.mark.parametrize("line", ["v 1 4 3", "v 1 x 3", "v 1 2", "../v/000001 1", "/v/000001 1"])
def test_vid_lists_that_are_none(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(line)
    with pytest.raises(SourceError):
        ImageNetVid(tree(tmp_path), listed=tmp_path / "a.txt")


def test_vid_without_the_folder_above_and_without_labels(tmp_path: Path) -> None:
    tree(tmp_path / "a" / "ILSVRC2015")
    assert len(ImageNetVid(tmp_path / "a")[0]) == 3
    tree(tmp_path / "ILSVRC")
    assert len(ImageNetVid(tmp_path)[0]) == 3
    (tmp_path / "ILSVRC/Data/VID/test").mkdir()
    (tmp_path / "ILSVRC/Data/VID/val/v").rename(tmp_path / "ILSVRC/Data/VID/test/w")
    clip = ImageNetVid(tmp_path, "test")[0]
    assert not clip[0].truth.labelled
    assert clip.notes == ("It has no labels.",)
