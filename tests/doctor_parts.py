"""Miniature data sets in the real layouts, for the tests of what a folder is told to be."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from detect_parts import Renamed
from echo_clips import drawn
from media import write_video
from PIL import Image as Pil
from scene_folders import WRITERS, truth

from retain.datasets.detect import mot, vid
from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.write import save, write_clips
from retain.datasets.doctor.base import Finding, Line
from retain.datasets.doctor.recognise import recognise
from retain.datasets.echo.export import write_camus, write_echonet

EPISODES = range(1, 12)
_NAMES = {
    "imagenet-vid": tuple(vid.CLASSES)[3:11],
    "mot": ("pedestrian", *mot.CLASSES[2:6], *mot.CLASSES[8:11]),
}


def echonet(root: Path, official: bool = False) -> Path:
    """Six videos in three splits; ``official``: with names as published."""
    names = [f"0X{k:016X}" if official else f"clip{k}" for k in range(6)]
    splits = ["train", "train", "train", "train", "val", "test"]
    pairs = zip(names, splits, strict=True)
    write_echonet(
        root, [drawn(name, split=split, frames=3, size=(32, 40)) for name, split in pairs]
    )
    return root


def camus(root: Path, patients: int = 4, layout: Literal["nifti", "mhd"] = "mhd") -> Path:
    """Both views of each patient; ``mhd``: in the layout of the first release."""
    splits = ["train"] * (patients - 2) + ["val", "test"]
    clips = [
        drawn(f"{k}{view}", f"p{k}", view, split, frames=3, size=(32, 40))
        for k, split in enumerate(splits)
        for view in ("2CH", "4CH")
    ]
    write_camus(root, clips, layout)
    return root


def objects(root: Path, layout: str) -> Path:
    """Two clips of three frames by ``detect.write``."""
    made = [ObjectVideo(seed, frames=3, width=96, height=64) for seed in (1, 4)]
    names = _NAMES.get(layout)
    write_clips([Renamed(one, names) for one in made] if names else made, root, layout)
    return root


def davis(root: Path, sequences: list[str], frames: int = 2) -> Path:
    """Sequences of these names, with one-coloured pictures and masks."""
    for name in sequences:
        for k in range(frames):
            image, mask = np.full((8, 12, 3), 90, np.uint8), np.eye(8, 12, dtype=np.uint8)
            save(root / "JPEGImages" / "480p" / name / f"{k:05d}.jpg", image)
            save(root / "Annotations" / "480p" / name / f"{k:05d}.png", mask)
    return root


def scene(root: Path, layout: str, count: int = 3) -> Path:
    """A scene by ``scene_folders``; returns the place to open."""
    made = truth(count)
    if layout == "7-scenes":  # one camera, and no other
        flat = np.full((count, 480, 640), 1.5, np.float32)
        made = replace(made, images=np.zeros((*flat.shape, 3), np.uint8), depths=flat)
    return WRITERS[layout](root, made)


def bbc(root: Path, numbers: range = EPISODES) -> Path:
    (root / "videos").mkdir(parents=True)
    film = _film(root / "videos" / "bbc_01.mp4")
    for number in numbers:
        (root / f"{number:02d}-scenes.txt").write_text("0 1\n2 3\n")
        if number > 1:
            (root / "videos" / f"bbc_{number:02d}.mp4").write_bytes(film.read_bytes())
    return root


def gebd(root: Path) -> Path:
    one = {
        "fps": 25.0, "video_duration": 0.16, "num_frames": 4, "f1_consis_avg": 0.8,
        "substages_timestamps": [[0.08]], "path_video": "train/a.mp4",
    }  # fmt: skip
    root.mkdir(parents=True, exist_ok=True)
    given = {name: {**one, "path_video": f"train/{name}.mp4"} for name in ("a", "b", "c")}
    (root / "k400_mr345_val_min_change_duration0.3.pkl").write_bytes(pickle.dumps(given))
    for name in given:
        _film(root / "clips" / f"{name}.mp4")
    return root


def autoshot(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    given = {name: np.array([[0, 1], [2, 3]]) for name in ("1", "2")}
    (root / "gt.pickle").write_bytes(pickle.dumps(given))
    for name in given:
        _film(root / f"{name}.mp4")
    return root


def coco(root: Path, name: str = "annotations/mine.json") -> Path:
    """Two pictures, the JSON beside their folder."""
    images = [{"id": k, "file_name": f"{k:06d}.png", "width": 8, "height": 6} for k in (1, 2)]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9}
    given = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "car"}]}
    for image in images:
        save(root / "images" / str(image["file_name"]), np.zeros((6, 8, 3), np.uint8))
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given))
    return root


def pictures(root: Path, count: int = 3) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Pil.fromarray(np.full((6, 8, 3), 40 * k, np.uint8)).save(root / f"{k}.png")
    return root


def videos(root: Path) -> Path:
    _film(root / "a.mp4")
    return root


def _film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, 4)


WHOLE: dict[str, Callable[[Path], Path]] = {
    "echonet": echonet,
    "davis": lambda root: objects(root, "davis"),
    "imagenet-vid": lambda root: objects(root, "imagenet-vid"),
    "mot": lambda root: objects(root, "mot"),
    "coco": coco,
    "tum": lambda root: scene(root, "tum"),
    "replica": lambda root: scene(root, "replica").rename(root / "mine").parent,
    "7-scenes": lambda root: scene(root, "7-scenes"),
    "scannet": lambda root: scene(root, "scannet"),
    "nerfstudio": lambda root: scene(root, "nerfstudio"),
    "colmap": lambda root: scene(root, "colmap"),
    "llff": lambda root: scene(root, "llff"),
    "rgbd": lambda root: scene(root, "rgbd"),
    "realestate10k": lambda root: scene(root, "realestate10k").parent,
    "kinetics-gebd": gebd,
    "bbc": bbc,
    "autoshot": autoshot,
    "pictures": pictures,
    "videos": videos,
}
"""A whole one of each; some by names of their own, since the published ones are large."""


def found(path: Path) -> Finding:
    """The one thing that is found at ``path``."""
    (finding,) = recognise(path).findings
    return finding


def lines(finding: Finding, *states: str) -> list[Line]:
    return [line for line in finding.lines if line.state in states]
