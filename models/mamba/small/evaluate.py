"""How good a detector of the procedural objects is on videos it was not trained on."""

from __future__ import annotations

import time

import torch

from retain.datasets.detect.base import Found, Truth, truths
from retain.datasets.detect.evaluate import Report, evaluate
from retain.datasets.detect.motion import motion_iou
from retain.datasets.detect.objects import ObjectVideos
from retain.datasets.detect.objects_kinds import NAMES
from retain.models.mamba.host import Host
from retain.models.mamba.small.data import FRAMES, HELD_OUT
from retain.pipeline.frame import Image

EVERY = 4
"""Frames between those looked at: neighbours are much the same."""


def score(host: Host, degraded: str, clips: int = 24) -> Report:
    """Frame by frame, by COCO's protocol, on ``clips`` videos of ``FRAMES`` frames that are held
    out; ``degraded`` is ``clean``, ``mild`` or ``strong``. ``host`` knows the objects' classes."""
    asked: list[Truth] = []
    found: list[Found] = []
    speeds = []
    videos = ObjectVideos(clips, HELD_OUT, FRAMES, degraded=degraded)
    for clip in (videos[k] for k in range(clips)):
        all_truths = truths(clip)
        motion = motion_iou(all_truths)
        for index in range(0, FRAMES, EVERY):
            asked.append(all_truths[index])
            speeds.append(motion[index])
            found.append(_find(host, clip[index].image))
    return evaluate(asked, found, NAMES, motion=speeds)


def _find(host: Host, image: Image) -> Found:
    (cells,) = host.describe([image])
    return host.found(host.predict(cells.rows, cells), cells)[0]


def milliseconds(host: Host, times: int = 50) -> float:
    """For a picture on one thread, the best of ``times``."""
    image, took = ObjectVideos(1, HELD_OUT)[0][10].image, []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(times):
        began = time.thread_time()
        _find(host, image)
        took.append(time.thread_time() - began)
    torch.set_num_threads(threads)
    return 1000 * min(took)
