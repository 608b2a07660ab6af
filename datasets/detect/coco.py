"""COCO-VID: COCO's JSON with videos, frame numbers and instances; plain COCO too.

Its traps: ids are any numbers, ``frame_id`` counts from 0 within a video, ``instance_id`` is one
count over the whole file, boxes are x, y, width, height with nothing added, order means nothing.
Also read: files of the YouTube-VIS kind, with ``file_names`` per video and lists of boxes per
track, and COCO without videos, where each folder of pictures is one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from retain.datasets.detect.base import (
    CROWD,
    GENERATED,
    IGNORE,
    NO_TRACK,
    OCCLUDED,
    Truth,
    truth_of,
)
from retain.datasets.detect.files import FileClip, FileClips, check_dimensions, corner
from retain.datasets.scene.pictures import natural, reading
from retain.pipeline.sources.common import check_file

Given = Mapping[str, Any]


class CocoVid(FileClips):
    """The videos of a JSON file, in its order of videos; frames by ``frame_id``.

    path    the file
    images  the folder that ``file_name`` starts from; none: the file's own
    rate    frames per second where a video has no ``fps``

    A box that no detector could find keeps its row, flagged IGNORE: without area, less than a pixel
    wide or high, outside the picture, or marked ``ignore``. Annotations of unknown pictures or
    classes are left out, with a note. Tracks are numbered within each clip. Raises SourceError.
    """

    def __init__(self, path: str | Path, images: str | Path = "", rate: float = 25.0) -> None:
        path = Path(path)
        check_file(path)
        root = Path(images) if str(images) else path.parent
        with reading(path):
            given = json.loads(path.read_text())
            categories = sorted(given["categories"], key=lambda one: int(one["id"]))
            places = {int(one["id"]): place for place, one in enumerate(categories)}
            names = tuple(str(one["name"]) for one in categories)
            if len(places) != len(names):
                raise ValueError("two categories have the same id")
            if any("file_names" in video for video in given.get("videos", ())):
                given = _unrolled(given)
            of_image, lost = _annotations(given, places)
            clips = [
                _clip(root, name, names, pictures, of_image, places, fps or rate)
                for name, fps, pictures in _videos(given)
            ]
        notes = [f"{lost} annotations are of unknown pictures or classes."] * bool(lost)
        super().__init__(f"COCO-VID {path.name!r}", names, clips, notes)

    @staticmethod
    def recognises(path: Path) -> bool:
        return path.suffix == ".json" and path.is_file()


def _annotations(given: Given, places: Mapping[int, int]) -> tuple[Mapping[int, list[Given]], int]:
    """Of each picture, and how many belong to none or to no class."""
    known = {int(image["id"]) for image in given["images"]}
    if len(known) != len(given["images"]):
        raise ValueError("two images have the same id")
    of_image: dict[int, list[Given]] = defaultdict(list)
    lost = 0
    for one in given.get("annotations") or ():
        image, category = int(one["image_id"]), int(one["category_id"])
        if image in known and category in places:
            of_image[image].append(one)
        else:
            lost += 1
    return of_image, lost


def _videos(given: Given) -> list[tuple[str, float, list[Given]]]:
    """Name, rate or 0, and pictures in order, of each video that has any."""
    images: Sequence[Given] = given["images"]
    groups: dict[object, list[Given]] = defaultdict(list)
    if "videos" not in given:
        for image in sorted(images, key=lambda one: natural(str(one["file_name"]))):
            groups[str(PurePosixPath(image["file_name"]).parent)].append(image)
        return [(str(name), 0.0, pictures) for name, pictures in groups.items()]
    for image in images:
        groups[int(image["video_id"])].append(image)
    out = []
    for video in given["videos"]:
        pictures = sorted(groups.pop(int(video["id"]), []), key=lambda one: int(one["frame_id"]))
        if len({int(one["frame_id"]) for one in pictures}) < len(pictures):
            raise ValueError(f"video {video['id']} has a frame_id twice")
        fps = float(video.get("fps") or 0)
        if not 0 <= fps < 1e4:
            raise ValueError(f"a video cannot have {fps} frames per second")
        if pictures:
            out.append((str(video.get("name", video["id"])), fps, pictures))
    if groups:
        raise ValueError(f"pictures belong to a video {next(iter(groups))} that is not listed")
    return out


def _clip(
    root: Path,
    name: str,
    names: tuple[str, ...],
    pictures: Sequence[Given],
    of_image: Mapping[int, Sequence[Given]],
    places: Mapping[int, int],
    rate: float,
) -> FileClip:
    rows = [of_image.get(int(picture["id"]), ()) for picture in pictures]
    instances = {_instance(one) for frame in rows for one in frame} - {NO_TRACK}
    tracks = {instance: track for track, instance in enumerate(sorted(instances))}
    tracks[NO_TRACK] = NO_TRACK
    known = [
        _truth(picture, frame, places, tracks)
        for picture, frame in zip(pictures, rows, strict=True)
    ]
    images = [_inside(root, str(picture["file_name"])) for picture in pictures]
    numbers = None
    if all("frame_id" in picture for picture in pictures):
        numbers = [int(picture["frame_id"]) for picture in pictures]
        if not 0 <= numbers[0] <= numbers[-1] < 2**53:
            raise ValueError(f"a frame_id is from 0, not {numbers[0]} to {numbers[-1]}")
    return FileClip(name, names, images, known.__getitem__, rate=rate, numbers=numbers)


def _inside(root: Path, name: str) -> Path:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} leads out of the data set")
    return root / name


def _instance(one: Given) -> int:
    given = one.get("instance_id", one.get("track_id"))
    return NO_TRACK if given is None else int(given)


def _truth(
    picture: Given, rows: Sequence[Given], places: Mapping[int, int], tracks: Mapping[int, int]
) -> Truth:
    size = check_dimensions(picture["width"], picture["height"])
    boxes, flags = [], []
    for one in rows:
        x, y, width, height = (corner(value) for value in one["bbox"])
        boxes.append([x, y, x + width, y + height])
        inside = min(x + width, size[0]) > max(x, 0) and min(y + height, size[1]) > max(y, 0)
        usable = width >= 1 and height >= 1 and inside and not one.get("ignore")
        flags.append(
            CROWD * bool(one.get("iscrowd"))
            | OCCLUDED * (one.get("occluded") in (1, True))
            | GENERATED * (one.get("generated") in (1, True))
            | IGNORE * (not usable)
        )
    labels = [places[int(one["category_id"])] for one in rows]
    return truth_of(size, boxes, labels, [tracks[_instance(one)] for one in rows], flags)


def _unrolled(given: Given) -> Given:
    """A file of the YouTube-VIS kind as COCO-VID: each list of boxes becomes annotations."""
    images: list[Given] = []
    first: dict[int, tuple[int, int]] = {}
    for video in given["videos"]:
        first[int(video["id"])] = len(images), len(video["file_names"])
        for frame, name in enumerate(video["file_names"]):
            size = {"width": video["width"], "height": video["height"]}
            place = {"id": len(images), "video_id": video["id"], "frame_id": frame}
            images.append({**place, **size, "file_name": name})
    annotations = []
    for track in given.get("annotations") or ():
        start, length = first[int(track["video_id"])]
        if len(track["bboxes"]) != length:
            raise ValueError(f"track {track['id']} has {len(track['bboxes'])} boxes, not {length}")
        for frame, box in enumerate(track["bboxes"]):
            if box is not None:
                own = {"image_id": start + frame, "bbox": box, "instance_id": track["id"]}
                annotations.append({**track, **own})
    return {**given, "images": images, "annotations": annotations}
