"""What others find: PySceneDetect's detectors and TransNetV2 over any clip, timed on one thread.

``python -m retain.datasets.boundaries.peers [wheel | spliced | drawn] [SEEDS]`` prints every
peer's F1 at 0, 1 and 2 frames, its CPU time and its look-ahead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from retain.datasets.boundaries import transnet
from retain.datasets.boundaries.base import Clip, match, total
from retain.pipeline.errors import MissingExtra, UsageError, nearest
from retain.pipeline.frame import Image

MIN_SCENE = 15
"""PySceneDetect's default: cuts closer than this many frames are merged or dropped."""


class Found(NamedTuple):
    """Frames at which a new shot begins, as a peer sees it, and what that took."""

    frames: list[int]
    cpu_s: float
    """Thread CPU time of the detector on one thread; reading the clip is not in it."""
    delay: int
    """Most frames that passed between a boundary and the peer's saying so."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A detector by others, at its defaults."""

    name: str
    look_ahead: tuple[int, int]
    """Later frames it waits for before it answers: least, most."""
    detect: Callable[[_Timed, float], tuple[list[int], int]]


def run(name: str, clip: Clip) -> Found:
    """Peer ``name`` of ``PEERS`` over the clip, frame by frame, on one thread.

    Raises UsageError for a name that is none, MissingExtra without the peer's package, SourceError
    as ``clip.frames`` does.
    """
    if name not in PEERS:
        raise UsageError(f"No peer {name!r}.", hint=nearest(name, PEERS))
    frames = _Timed(clip.frames())
    with _one_thread():
        started = time.thread_time()
        found, delay = PEERS[name].detect(frames, clip.fps)
        return Found(found, time.thread_time() - started - frames.spent_s, delay)


class _Timed:
    """Frames of a clip; knows how many there were and the thread time that reading them took."""

    def __init__(self, frames: Iterator[Image]) -> None:
        self.frames = frames
        self.spent_s = 0.0
        self.count = 0

    def __iter__(self) -> Iterator[Image]:
        return self

    def __next__(self) -> Image:
        started = time.thread_time()
        try:
            image = next(self.frames)
            self.count += 1
            return image
        finally:
            self.spent_s += time.thread_time() - started


def _scenedetect(detector: str) -> Callable[[_Timed, float], tuple[list[int], int]]:
    """One of PySceneDetect's detectors by the name of its class."""

    def detect(frames: _Timed, fps: float) -> tuple[list[int], int]:
        try:
            import scenedetect
        except ImportError as error:
            raise MissingExtra("scenedetect-headless", "eval", "PySceneDetect") from error
        one: Any = getattr(scenedetect, detector)(min_scene_len=MIN_SCENE)
        found: list[int] = []
        delay, at = 0, scenedetect.FrameTimecode(0, fps)
        for i, image in enumerate(frames):
            at = scenedetect.FrameTimecode(i, fps)
            cuts = [cut.frame_num for cut in one.process_frame(at, _bgr(image))]
            delay = max([delay, *(i - cut for cut in cuts)])
            found += cuts
        found += [cut.frame_num for cut in one.post_process(at)] if frames.count else []
        return sorted(found), delay

    return detect


def _bgr(image: Image) -> Image:
    """As PySceneDetect's own SceneManager hands pictures over: BGR, the longer side at most 256."""
    import cv2

    height, width = image.shape[:2]
    factor = max(height, width) / 256
    if factor > 1:
        size = (max(1, round(width / factor)), max(1, round(height / factor)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    bgr: Image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bgr


def _transnet(frames: _Timed, fps: float) -> tuple[list[int], int]:
    """The middle of every run above 0.5."""
    found = transnet.transitions(transnet.scores(frames))
    return [(b.start + b.end) // 2 for b in found], transnet.LOOK_AHEAD[1]


@contextmanager
def _one_thread() -> Iterator[None]:
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


PEERS = {
    # Content waits while cuts closer than MIN_SCENE follow one another, to merge them into one.
    "content": Peer(
        "PySceneDetect ContentDetector", (0, MIN_SCENE), _scenedetect("ContentDetector")
    ),
    "adaptive": Peer("PySceneDetect AdaptiveDetector", (2, 2), _scenedetect("AdaptiveDetector")),
    "hash": Peer("PySceneDetect HashDetector", (0, 0), _scenedetect("HashDetector")),
    "histogram": Peer("PySceneDetect HistogramDetector", (0, 0), _scenedetect("HistogramDetector")),
    "transnetv2": Peer("TransNetV2", transnet.LOOK_AHEAD, _transnet),
}


def table(clips: Sequence[Clip]) -> str:
    """Every peer over ``clips``, counts pooled, as a Markdown table."""
    rows = [
        "| peer | F1 ±0 | F1 ±1 | F1 ±2 | P ±2 | R ±2 | frames/CPU-s | look-ahead | most delay |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    length = sum(clip.length for clip in clips)
    for name, peer in PEERS.items():
        runs = [run(name, clip) for clip in clips]
        pooled = [
            total(match(c.boundaries, r.frames, t) for c, r in zip(clips, runs, strict=True))
            for t in (0, 1, 2)
        ]
        f1 = " | ".join(f"{counts.f1:.3f}" for counts in pooled)
        ahead = "-".join(str(n) for n in sorted(set(peer.look_ahead)))
        speed = length / max(sum(r.cpu_s for r in runs), 1e-9)
        rows.append(
            f"| {peer.name} | {f1} | {pooled[2].precision:.3f} | {pooled[2].recall:.3f} "
            f"| {speed:.0f} | {ahead} | {max(r.delay for r in runs)} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> None:
    """Print the table of one set."""
    from retain.datasets.boundaries.spliced import spliced
    from retain.datasets.boundaries.wheel import wheel_clip

    what = arguments[0] if arguments else "wheel"
    seeds = range(int(arguments[1]) if len(arguments) > 1 else 3)
    if what not in ("wheel", "spliced", "drawn"):
        raise UsageError(f"No set {what!r}.", hint=nearest(what, ("wheel", "spliced", "drawn")))
    clips = (
        [wheel_clip()] if what == "wheel" else [spliced(s, drawn=what == "drawn") for s in seeds]
    )
    sys.stdout.write(f"{', '.join(clip.name for clip in clips)}\n\n{table(clips)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
