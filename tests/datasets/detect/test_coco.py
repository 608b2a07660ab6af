"""COCO files with videos and without, and those that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retain.datasets.detect.base import CROWD, GENERATED, IGNORE, OCCLUDED
from retain.datasets.detect.coco import CocoVid
from retain.datasets.detect.motion import motion_iou
from retain.pipeline.errors import SourceError


def coco(**changes: Any) -> dict[str, Any]:
    """Two videos, frames out of order, ids of any kind, instances counted over both."""
    size = {"width": 40, "height": 30}
    whole = {
        "categories": [{"id": 30, "name": "cat"}, {"id": 7, "name": "dog"}],
        "videos": [{"id": 9, "name": "b", "fps": 10}, {"id": 2, "name": "a"}],
        "images": [
            {"id": 5, "video_id": 9, "frame_id": 1, "file_name": "b/1.png", **size},
            {"id": 3, "video_id": 9, "frame_id": 0, "file_name": "b/0.png", **size},
            {"id": 8, "video_id": 2, "frame_id": 0, "file_name": "a/0.png", **size},
        ],
        "annotations": [
            ann(1, 5, instance_id=70),
            ann(2, 3, instance_id=70, occluded=1),
            ann(3, 8, instance_id=71, category_id=30, generated=True),
        ],
    }
    return {**whole, **changes}


def ann(number: int, image: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": 7, "bbox": [1, 2, 10, 20], **more}


def load(tmp_path: Path, given: Any) -> CocoVid:
    (tmp_path / "a.json").write_text(json.dumps(given))
    return CocoVid(tmp_path / "a.json")


def test_coco_ids_and_orders(tmp_path: Path) -> None:
    found = load(tmp_path, coco())
    assert found.names == ("dog", "cat")
    assert [(clip.name, len(clip), clip.rate) for clip in found] == [("b", 2, 10), ("a", 1, 25)]
    assert found[0].images[0] == tmp_path / "b/0.png"
    assert found[0].truth(0).flags.tolist() == [OCCLUDED]
    assert found[1].truth(0).flags.tolist() == [GENERATED]
    assert found[1].truth(0).boxes.tolist() == [[1, 2, 11, 22]]
    assert [found[k].truth(0).tracks.tolist() for k in (0, 1)] == [[0], [0]]
    assert motion_iou([found[0].truth(0), found[0].truth(1)])[0].tolist() == [1]


def test_coco_frames_keep_their_numbers(tmp_path: Path) -> None:
    given = coco()
    given["images"][0]["frame_id"] = 40
    clip = load(tmp_path, given)[0]
    assert list(clip.numbers) == [0, 40]
    truths = [clip.truth(0), clip.truth(1)]
    assert np.isnan(motion_iou(truths, numbers=clip.numbers)[0][0])
    given["images"][0]["frame_id"] = -1
    with pytest.raises(SourceError, match="frame_id is from 0"):
        load(tmp_path, given)


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"bbox": [1, 2, 0.5, 20]}, IGNORE),
        ({"bbox": [50, 2, 10, 20]}, IGNORE),
        ({"bbox": [-20, 2, 15, 20]}, IGNORE),
        ({"ignore": 1}, IGNORE),
        ({"iscrowd": 1}, CROWD),
        ({"bbox": [-5, -5, 90, 90]}, 0),
    ],
)
def test_coco_boxes_that_nobody_can_find(change: Any, flags: int, tmp_path: Path) -> None:
    found = load(tmp_path, coco(annotations=[ann(1, 3, **change)]))
    assert found[0].truth(0).flags.tolist() == [flags]


def test_coco_annotations_of_nothing_are_counted(tmp_path: Path) -> None:
    strange = [ann(1, 99), ann(2, 3, category_id=1), ann(3, 3)]
    found = load(tmp_path, coco(annotations=strange))
    assert found.notes == ("2 annotations are of unknown pictures or classes.",)
    assert found[0].truth(0).tracks.tolist() == [-1]


def test_coco_without_videos_makes_clips_of_folders(tmp_path: Path) -> None:
    names = ("x/10.png", "x/9.png", "y/1.png")
    images = [
        {"id": k, "file_name": name, "width": 40, "height": 30} for k, name in enumerate(names)
    ]
    given = coco(images=images, annotations=[ann(1, 0)])
    del given["videos"]
    found = load(tmp_path, given)
    assert [(clip.name, [p.name for p in clip.images]) for clip in found] == [
        ("x", ["9.png", "10.png"]),
        ("y", ["1.png"]),
    ]
    assert [len(found[0].truth(k)) for k in (0, 1)] == [0, 1]


def test_youtube_vis_lists_of_boxes(tmp_path: Path) -> None:
    given = {
        "categories": [{"id": 1, "name": "dog"}],
        "videos": [{"id": 1, "width": 40, "height": 30, "file_names": ["v/0.jpg", "v/1.jpg"]}],
        "annotations": [
            {"id": 5, "video_id": 1, "category_id": 1, "bboxes": [None, [1, 2, 10, 20]]},
            {"id": 6, "video_id": 1, "category_id": 1, "bboxes": [[3, 3, 9, 9], [3, 3, 9, 9]]},
        ],
    }
    clip = load(tmp_path, given)[0]
    assert [clip.truth(k).tracks.tolist() for k in (0, 1)] == [[1], [0, 1]]
    given["annotations"][0]["bboxes"] = [None]
    with pytest.raises(SourceError, match="track 5 has 1 boxes, not 2"):
        load(tmp_path, given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, "same id"),
        ({"videos": [{"id": 9, "name": "b"}]}, "not listed"),
        ({"annotations": [ann(1, 3, bbox=[1, 2, float("nan"), 3])]}, "cannot reach"),
        ({"annotations": [ann(1, 3, bbox=[1, 2, 3])]}, "not enough values"),
        ({"images": [{"id": 1}]}, "video_id"),
    ],
)
def test_coco_files_that_are_none(change: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        load(tmp_path, coco(**change))


def test_coco_pictures_stay_in_their_folder(tmp_path: Path) -> None:
    given = coco()
    given["images"][0]["file_name"] = "../../etc/passwd"
    with pytest.raises(SourceError, match="leads out of the data set"):
        load(tmp_path, given)
