"""Clips of worlds as a stream: a camera that sees one experiment after the other.

``worlds://ball?seed=3&clips=12&change=8``: twelve clips, of which the first eight obey one law and
the rest another. Each clip begins with a discontinuity.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from retain.datasets.worlds.config import KINDS, MIXED, Kind, Split, WorldConfig
from retain.datasets.worlds.draw import draw
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.frame import Frame
from retain.pipeline.sources.common import Sampler, number, paced, text
from retain.pipeline.stage import SourceInfo, StatValue

SCHEME = "worlds"


@dataclass(frozen=True, slots=True)
class Knobs:
    """What may follow the ``?``."""

    seed: int = 0
    world: int = 0
    """Which of the worlds of ``seed``."""
    clips: int = 12
    first: int = 0
    """Number of the first clip: other numbers are other clips of the same world."""
    change: int = 0
    """From this clip on another world's law holds; 0: never."""
    rate: int = 8
    """Frames a second."""
    side: int = 12
    """Pixels that the world is drawn with."""
    scale: int = 1
    """Each of these becomes a square of so many."""
    frames: int = 8
    """Of a clip."""
    split: Split = "test"
    odd: str = MIXED


class WorldSource:
    """The frames of the clips that ``source`` names; see ``Knobs``.

    stream       name of the stream in every frame
    fps, limit   as in VideoSource
    pace         1: frames come when they are due; 4: four times as fast; 0: at once

    ``meta["clip"]`` and ``meta["frame"]`` say which of which clip it is, both from 0. Raises
    UsageError for an address that is none.
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
        self.kind, self.knobs = parse(source)
        self._pace = number("pace", pace, 0, 1000)
        self._sampler = Sampler(fps, limit)
        self._closed = threading.Event()

    def open(self) -> SourceInfo:
        k = self.knobs
        count, side = k.clips * k.frames, k.side * k.scale
        return SourceInfo(
            kind="finite",
            description=f"{self.source} ({k.clips} clips)",
            width=side,
            height=side,
            fps=float(k.rate),
            declared_frames=count,
            duration_s=count / k.rate,
        )

    def frames(self) -> Iterator[Frame]:
        for frame in paced(self._all(), self._pace, self._closed):
            yield frame
            if self._sampler.full:
                return

    def _all(self) -> Iterator[Frame]:
        time_base, new = Fraction(1, self.knobs.rate), False
        for pts, (clip, index, image) in enumerate(self._pictures()):
            new = new or (index == 0 and clip > 0)
            if not self._sampler.keep(pts, time_base):
                continue
            meta = {"clip": clip, "frame": index}
            kept = self._sampler.kept - 1
            yield Frame(self.stream, kept, pts, time_base, image, discontinuity=new, meta=meta)
            new = False

    def _pictures(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Clip, frame in it, and its picture uint8 [S, S, 3]."""
        k = self.knobs
        config = WorldConfig(self.kind, k.side, k.frames, k.split, k.odd)
        made = draw(config, k.world + 1, k.first + k.clips, k.seed).frames[k.world]
        other = draw(config, k.world + 1, k.first + k.clips, k.seed, laws_seed=k.seed + 1)
        for clip in range(k.clips):
            changed = k.change and clip >= k.change
            frames = (other.frames[k.world] if changed else made)[k.first + clip]
            for index, frame in enumerate(frames):
                grey = np.rint(255 * frame[0]).astype(np.uint8)
                large = grey.repeat(k.scale, 0).repeat(k.scale, 1)
                yield clip, index, np.repeat(large[:, :, None], 3, 2)

    def close(self) -> None:
        self._closed.set()

    def stats(self) -> Mapping[str, StatValue]:
        return {"delivered": self._sampler.kept}


def parse(source: str) -> tuple[Kind, Knobs]:
    """The kind of world and the knobs of an address. Raises UsageError for what it cannot mean."""
    address = urlsplit(source)
    name = address.netloc or address.path.strip("/")
    if address.scheme != SCHEME or name not in KINDS:
        raise UsageError(
            f"{source!r} is no address of worlds.",
            hint=f"They look like worlds://ball?seed=3&clips=12; kinds: {', '.join(KINDS)}.",
        )
    given: dict[str, Any] = {}
    for knob, value in parse_qsl(address.query, keep_blank_values=True):
        if knob not in _READERS:
            raise UsageError(f"Worlds have no {knob!r}.", hint=nearest(knob, _READERS))
        try:
            given[knob] = _READERS[knob](value)
        except ValueError:
            raise UsageError(f"The {knob!r} of worlds cannot be {value!r}.") from None
    knobs = replace(Knobs(), **given)
    WorldConfig(name, knobs.side, knobs.frames, knobs.split, knobs.odd)  # type: ignore[arg-type]
    return name, knobs  # type: ignore[return-value]


def overlap(one: str, other: str) -> bool:
    """Whether two addresses have a clip in common, however it is drawn. A law that changes is no
    difference: clips of one number begin alike. Raises UsageError for what is no address."""
    (kind, a), (kind_b, b) = parse(one), parse(other)
    alike = kind == kind_b and (a.seed, a.world, a.split) == (b.seed, b.world, b.split)
    return alike and max(a.first, b.first) < min(a.first + a.clips, b.first + b.clips)


def _between(low: int, high: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        found = int(value)
        if not low <= found <= high:
            raise ValueError
        return found

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "seed": _between(0, 2**31),
    "world": _between(0, 9999),
    "clips": _between(1, 10_000),
    "first": _between(0, 10_000),
    "change": _between(0, 10_000),
    "rate": _between(1, 1000),
    "side": _between(12, 1024),
    "scale": _between(1, 64),
    "frames": _between(8, 256),
    "split": str,
    "odd": str,
}
