"""What others find: PySceneDetect's detectors and TransNetV2 over any clip, timed on one thread.

``python -m retain.datasets.boundaries.peers SET`` prints every peer's F1 at 0, 1 and 2 frames, its
CPU time and its look-ahead. SET is ``wheel``, ``spliced [SEEDS]``, ``drawn [SEEDS]``,
``bbc ANNOTATIONS VIDEOS`` or ``autoshot GROUND_TRUTH VIDEOS``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from retain.datasets.boundaries import transnet
from retain.datasets.boundaries.base import BOUNDARY_KINDS, Clip, by_kind, match, mean_f1, total
from retain.pipeline.errors import MissingExtra, RetainError, UsageError, nearest
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
    read: int
    """Frames of the clip."""


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
        spent = time.thread_time() - started - frames.spent_s
        return Found(found, spent, delay, frames.count)


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


def run_all(clips: Sequence[Clip]) -> dict[str, list[Found]]:
    """Every peer over every clip."""
    return {name: [run(name, clip) for clip in clips] for name in PEERS}


def table(clips: Sequence[Clip], runs: Mapping[str, Sequence[Found]]) -> str:
    """A Markdown table of all peers. F1, P and R pool counts over the clips; the mean is of each
    clip's own F1."""
    rows = [
        "| peer | F1 ±0 | F1 ±1 | F1 ±2 | P ±2 | R ±2 | mean F1 ±2 | frames/CPU-s | look-ahead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, done in runs.items():
        judged = [
            [match(c.boundaries, r.frames, t) for c, r in zip(clips, done, strict=True)]
            for t in (0, 1, 2)
        ]
        f1 = " | ".join(f"{total(counts).f1:.3f}" for counts in judged)
        last = total(judged[2])
        speed = sum(r.read for r in done) / max(sum(r.cpu_s for r in done), 1e-9)
        ahead = "-".join(str(n) for n in sorted(set(PEERS[name].look_ahead)))
        rows.append(
            f"| {PEERS[name].name} | {f1} | {last.precision:.3f} | {last.recall:.3f} "
            f"| {mean_f1(judged[2]):.3f} | {speed:.0f} | {ahead} |"
        )
    return "\n".join(rows)


def kinds_table(clips: Sequence[Clip], runs: Mapping[str, Sequence[Found]]) -> str:
    """A Markdown table of what each peer makes of each kind of mark, at 2 frames."""
    kinds = sorted(
        {m.kind for c in clips for m in c.marks}, key=lambda k: (k not in BOUNDARY_KINDS, k)
    )
    heads = [f"{k} {'found' if k in BOUNDARY_KINDS else 'mistaken'}" for k in kinds]
    rows = [f"| peer | {' | '.join(heads)} |", "|---" * (len(kinds) + 1) + "|"]
    for name, done in runs.items():
        each = [by_kind(c, r.frames, 2) for c, r in zip(clips, done, strict=True)]
        cells = []
        for kind in kinds:
            seen = [one[kind] for one in each if kind in one]
            cells.append(f"{sum(k.found for k in seen)} of {sum(k.marks for k in seen)}")
        rows.append(f"| {PEERS[name].name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def clips_of(what: str, rest: Sequence[str]) -> list[Clip]:
    """The clips of a set as the command names it; those without a video are left out, and the
    log says which. Raises UsageError for another name."""
    from retain.datasets.boundaries.autoshot import read_autoshot
    from retain.datasets.boundaries.bbc import read_bbc
    from retain.datasets.boundaries.spliced import spliced
    from retain.datasets.boundaries.wheel import wheel_clip

    if what == "wheel":
        return [wheel_clip()]
    if what in ("spliced", "drawn"):
        return [spliced(seed, drawn=what == "drawn") for seed in range(int(rest[0]) if rest else 3)]
    readers = {"bbc": read_bbc, "autoshot": read_autoshot}
    if what not in readers:
        raise UsageError(
            f"No set {what!r}.", hint=nearest(what, ("wheel", "spliced", "drawn", *readers))
        )
    if len(rest) != 2:
        raise UsageError(f"{what} needs its annotations and its folder of videos.")
    clips = [clip for clip in readers[what](*rest) if not clip.missing]
    if not clips:
        raise UsageError(f"None of the videos of {rest[0]!r} is in {rest[1]!r}.")
    return clips


def main(arguments: Sequence[str]) -> None:
    """Print the table of one set."""
    clips = clips_of(arguments[0] if arguments else "wheel", arguments[1:])
    names = ", ".join(clip.name for clip in clips[:5])
    runs = run_all(clips)
    sys.stdout.write(f"{len(clips)} clips: {names}\n\n{table(clips, runs)}\n")
    if any(clip.marks for clip in clips):
        sys.stdout.write(f"\n{kinds_table(clips, runs)}\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RetainError as error:
        sys.exit(str(error))
