"""Clips with known boundaries, and the rule by which found boundaries are judged.

Frames are counted from 0 within a clip. A boundary is written by what changes at it:

    start   the first frame that is not wholly of the old shot
    end     the first frame that is wholly of the new shot

so a hard cut between frames i-1 and i is ``Boundary(i, i)``, and a dissolve that mixes frames 10
to 19 is ``Boundary(10, 20)``. PySceneDetect's cut frames are ``end`` in these terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import Image

BOUNDARY_KINDS = ("cut", "dissolve", "insert")
"""Kinds of ``Mark`` that have boundaries."""


class Boundary(NamedTuple):
    """A change of shot: ``start == end`` is a hard cut, ``start < end`` a gradual transition."""

    start: int
    end: int


class Mark(NamedTuple):
    """Something in a clip that is worth counting apart: ``kind`` over frames start..end-1."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A video with its truth. ``frames`` may be called again and gives the same pictures."""

    name: str
    fps: float
    length: int
    """Frames; 0 when the annotation does not say."""
    boundaries: list[Boundary]
    pictures: Callable[[], Iterator[Image]] = field(repr=False)
    flashes: list[int] = field(default_factory=list)
    """First frames of flashes: sudden, and no boundaries."""
    marks: list[Mark] = field(default_factory=list)
    """What the stream holds, for counts by kind."""
    missing: str = ""
    """The video that should be there and is not; "": ``frames`` can be read."""

    def frames(self) -> Iterator[Image]:
        """The pictures in order, uint8 [H, W, 3] RGB. Raises SourceError when there are none."""
        if self.missing:
            raise SourceError(
                SourceFault.NOT_FOUND,
                f"The video of {self.name!r} is not there: {self.missing}.",
                hint="Get it from the people who publish the set; only its truth was read.",
            )
        return self.pictures()


class Counts(NamedTuple):
    """Hits, false alarms and misses. They add up over clips with ``+``, or with ``total``."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float:
        """tp / (tp + fp); 1 when nothing was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 1.0

    @property
    def recall(self) -> float:
        """tp / (tp + fn); 1 when there was nothing to find."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 when there was nothing, and nothing found."""
        whole = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / whole if whole else 1.0

    def __add__(self, other: object) -> Counts:  # type: ignore[override]
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)


def total(counts: Iterable[Counts]) -> Counts:
    """Pooled over clips: every boundary weighs the same, however long its clip."""
    return sum(counts, Counts())


def mean_f1(counts: Sequence[Counts]) -> float:
    """Mean of the F1 of each clip: every clip weighs the same. nan for no clips."""
    return sum(c.f1 for c in counts) / len(counts) if counts else float("nan")


def match(
    truth: Sequence[Boundary], found: Sequence[int] | Sequence[Boundary], tolerance: int
) -> Counts:
    """Match found boundaries with true ones, one to one, greedily in order of time.

    A found frame f hits a boundary when ``start - tolerance <= f <= end + tolerance`` (for a cut
    that is |f - start| <= tolerance; for a gradual one, a point within the interval). A found
    interval hits when the two come within ``tolerance`` of each other, which is the rule of the
    evaluators of TransNetV2 and AutoShot with ``n_frames_miss_tolerance = tolerance``. Both lists
    are walked once: a hit uses up one of each, otherwise the one that ends first is a miss or a
    false alarm. Where boundaries do not overlap this finds as many hits as any matching can.
    Frames found twice count twice. Raises UsageError for a negative tolerance.
    """
    hits = len(pairs(truth, found, tolerance))
    return Counts(hits, len(found) - hits, len(truth) - hits)


def pairs(
    truth: Sequence[Boundary], found: Sequence[int] | Sequence[Boundary], tolerance: int
) -> list[tuple[int, int]]:
    """The pairs that ``match`` counts: places in ``truth`` and in ``found``."""
    if tolerance < 0:
        raise UsageError(f"A tolerance of {tolerance} frames is less than none: give 0 or more.")
    seen = [f if isinstance(f, Boundary) else Boundary(int(f), int(f)) for f in found]
    true_order = sorted(range(len(truth)), key=lambda k: truth[k])
    seen_order = sorted(range(len(seen)), key=lambda k: seen[k])
    i = j = 0
    hits = []
    while i < len(truth) and j < len(seen):
        true, one = truth[true_order[i]], seen[seen_order[j]]
        if one.end + tolerance < true.start:
            j += 1
        elif true.end + tolerance < one.start:
            i += 1
        else:
            hits.append((true_order[i], seen_order[j]))
            i, j = i + 1, j + 1
    return hits


class Kind(NamedTuple):
    """How a detector did on one kind of ``Mark``."""

    marks: int
    """Boundaries of this kind; of a kind that is none, how often it happens."""
    found: int
    """Of the boundaries, those found; of others, those with a false alarm."""


def by_kind(clip: Clip, found: Sequence[int], tolerance: int) -> dict[str, Kind]:
    """What a detector finds and what it takes for a boundary, by the kind of the clip's marks.

    A cut and a dissolve have one boundary, an insert has two. Other marks have none: they count as
    found when a frame that ``match`` calls a false alarm lies within ``tolerance`` of them.
    """
    matched = pairs(clip.boundaries, found, tolerance)
    hit = {clip.boundaries[i].start for i, _ in matched}
    used = {j for _, j in matched}
    false = [f for j, f in enumerate(found) if j not in used]
    starts = {b.start for b in clip.boundaries}
    kinds: dict[str, Kind] = {}
    for kind, start, end in clip.marks:
        marks, seen = kinds.get(kind, Kind(0, 0))
        if kind in BOUNDARY_KINDS:
            edges = {start, end} & starts if kind == "insert" else {start}
            kinds[kind] = Kind(marks + len(edges), seen + len(edges & hit))
        else:
            alarm = any(start - tolerance <= f <= end + tolerance for f in false)
            kinds[kind] = Kind(marks + 1, seen + alarm)
    return kinds


def video_frames(path: Path) -> Callable[[], Iterator[Image]]:
    """A reader of a video file for ``Clip.pictures``: one frame in memory at a time."""
    from retain.pipeline.sources.video import VideoSource

    def read() -> Iterator[Image]:
        with closing(VideoSource(str(path))) as source:
            source.open()
            for frame in source.frames():
                yield frame.image

    return read
