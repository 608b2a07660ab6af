"""Videos with boxes as a source of the pipeline, one clip after the other. The truth stays behind:
whoever judges opens the clips again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from fractions import Fraction

from retain.datasets.detect.base import Clips
from retain.datasets.detect.open import FORMATS, OBJECTS, open_clips
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.sources.common import RisingTimes, Sampler, local_path, number, paced, text
from retain.pipeline.stage import SourceInfo, StatValue

TIME_BASE = Fraction(1, 1_000_000)


def has_boxes(source: str) -> bool:
    """Whether ``open_clips`` reads SOURCE: it is generated, or a data set in a known layout."""
    if source.startswith(f"{OBJECTS}:"):
        return True
    if source in ("", "-") or "://" in source or source.isdigit():
        return False
    path = local_path(source)
    try:
        return path.exists() and any(FORMATS.load(name).recognises(path) for name in FORMATS)
    except OSError:  # whoever opens it says what is wrong
        return False


class ClipSource:
    """All frames of the clips at ``source``, which ``open_clips`` reads.

    stream         name of the stream in every frame
    fps, limit     as in VideoSource; frames that ``fps`` leaves out are read all the same
    pace           1: frames come when they are due; 4: four times as fast; 0: at once

    Each clip begins with a discontinuity. ``Frame.seq`` counts the frames given, from 0;
    ``meta["clip"]`` and ``meta["frame"]`` say which of which clip it is, both from 0.
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        pace: float = 0.0,
    ) -> None:
        self.source, self.stream = text("source", source), text("stream", stream)
        self._pace = number("pace", pace, 0, 1000)
        self._sampler = Sampler(fps, limit)
        self._times = RisingTimes(1, 10**18)
        self._closed = threading.Event()
        self._clips: Clips | None = None

    def open(self) -> SourceInfo:
        self._clips = clips = open_clips(self.source)
        if not len(clips):
            raise SourceError(SourceFault.EMPTY, f"There are no clips in {self.source!r}.")
        first = clips[0]
        width, height = first.truth(0).size if len(first) else (0, 0)
        frames = sum(len(clips[k]) for k in range(len(clips)))
        return SourceInfo(
            kind="finite",
            description=f"{self.source} ({len(clips)} clips)",
            width=width,
            height=height,
            fps=first.rate,
            declared_frames=frames,
            duration_s=frames / first.rate if first.rate else 0.0,
        )

    def frames(self) -> Iterator[Frame]:
        """Raises SourceError at a picture that cannot be read."""
        if self._clips is None:
            self.open()
        assert self._clips is not None
        for frame in paced(self._all(self._clips), self._pace, self._closed):
            yield frame
            if self._sampler.full:
                return

    def _all(self, clips: Clips) -> Iterator[Frame]:
        start_s = 0.0
        for which in range(len(clips)):
            clip, seconds, new = clips[which], 0.0, which > 0
            for index in range(len(clip)):
                sample = clip[index]
                seconds = sample.seconds
                pts = self._times.next(round((start_s + seconds) / TIME_BASE))
                if not self._sampler.keep(pts, TIME_BASE):
                    continue
                frame = Frame(
                    self.stream,
                    self._sampler.kept - 1,
                    pts,
                    TIME_BASE,
                    sample.image,
                    discontinuity=new,
                    meta={"clip": which, "frame": index},
                )
                new = False
                yield frame
            start_s += seconds + 1 / (clip.rate or 25.0)

    def close(self) -> None:
        self._closed.set()

    def stats(self) -> Mapping[str, StatValue]:
        return {"delivered": self._sampler.kept, "repaired_times": self._times.repaired}
