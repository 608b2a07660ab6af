"""Scenes as a source of the pipeline: every frame comes with what is known of its camera."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from retain.datasets.scene.base import Scene, Shot
from retain.datasets.scene.feed import Feed
from retain.datasets.scene.open import open_scene, plain, recognise
from retain.datasets.scene.pictures import resized
from retain.datasets.scene.video import FIELD, Numbers, plain_camera
from retain.datasets.scene.views import FINEST, view_of
from retain.pipeline.errors import SourceError, SourceFault, UsageError
from retain.pipeline.frame import MAX_SIDE, Frame
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import ReplaySource
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.common import Pace, RisingTimes, Sampler, integer, number, text
from retain.pipeline.stage import Source, SourceInfo, StatValue

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 1_000_000)


class SceneSource:
    """Packets of a scene: ``Frame`` and, as result ``view``, its camera, depth and pose.

    source         whatever ``open_scene`` takes, and everything that AnySource plays: videos,
                   cameras and addresses have no depth and no poses; a recording of a scene has
                   the views that were recorded
    stream         name of the stream in every frame
    fps, limit     as in VideoSource; shots that ``fps`` leaves out are read all the same
    every          only every n-th shot; of a scene the others are not read
    width, height  working size, as in ``open_scene``
    pace           1: frames come when they are due; 4: four times as fast; 0: at once
    camera         of plain pictures: "fx,fy,cx,cy" in pixels as they are stored
    field          of plain pictures without ``camera``: degrees that their longer side spans

    ``Frame.seq`` counts the frames given, from 0; ``meta["shot"]`` is the shot's number in its
    scene. Times are the scene's own, in whole microseconds. Shots that cannot be read are passed
    over, counted, and reported at the end as SourceError(BROKEN).
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        pace: float = 0.0,
        every: int = 1,
        width: int = 0,
        height: int = 0,
        camera: str = "",
        field: float = FIELD,
    ) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self._every = integer("every", every, 1)
        self._size = integer("width", width, 0, MAX_SIDE), integer("height", height, 0, MAX_SIDE)
        self._pace = number("pace", pace, 0, 1000)
        self._camera, self._field = four("camera", camera), number("field", field, 1, 170)
        self._sampler = Sampler(fps, limit)
        self._fps, self._limit = fps, limit
        self._times = RisingTimes(1, 10**18)
        self._closed = threading.Event()
        self._scene: Scene | None = None
        self._inner: Source | None = None
        self._feed: Feed | None = None
        self._unreadable: list[int] = []

    def open(self) -> SourceInfo:
        """Find the scene. Raises SourceError or UsageError when there is none."""
        if not recognise(self.source):
            return self._open_feed(plain(self.source))
        width, height = self._size
        self._scene = scene = open_scene(self.source, width=width, height=height)
        for note in scene.notes:
            log.info("%s: %s", self.source, note)
        shown = range(0, len(scene), self._every)
        first, last = _glance(scene, 0), _glance(scene, shown[-1])
        span = last.seconds - first.seconds if first and last else 0.0
        return SourceInfo(
            kind="finite",
            description=scene.description,
            width=first.camera.width if first else 0,
            height=first.camera.height if first else 0,
            fps=(len(shown) - 1) / span if span > 0 else 0.0,
            declared_frames=len(shown),
            duration_s=max(span, 0.0),
        )

    def _open_feed(self, kind: str) -> SourceInfo:
        source: Source
        if kind == "recording":
            source = ReplaySource(self.source)
        else:
            source = AnySource(self.source, self.stream, self._fps, pace=self._pace)
        self._inner = source
        if self._closed.is_set():
            source.close()
        info = self._thinned(source.open())
        self._feed = Feed(source, self._size, self._camera, self._field, self._every, self._limit)
        return info

    def _thinned(self, info: SourceInfo) -> SourceInfo:
        """What a feed gives of a source that is this."""
        if info.width and info.height:
            shown = resized(plain_camera(info.width, info.height), self._size)
            info = replace(info, width=shown.width, height=shown.height)
        frames = -(-info.declared_frames // self._every)
        return replace(info, declared_frames=frames, fps=info.fps / self._every)

    def packets(self) -> Iterator[Packet]:
        """Raises SourceError(BROKEN) after the last shot when some could not be read."""
        if self._scene is None and self._feed is None:
            self.open()
        if self._scene is not None:
            return paced(self._shots(self._scene), self._pace, self._closed)
        assert self._feed is not None
        own_pace = self._pace if isinstance(self._inner, ReplaySource) else 0.0
        return paced(self._feed.packets(), own_pace, self._closed)

    def _shots(self, scene: Scene) -> Iterator[Packet]:
        floor = FINEST if scene.metric else 0.0
        for index in range(0, len(scene), self._every):
            shot = self._read(scene, index)
            if shot is None:
                continue
            pts = self._times.next(round(Fraction(shot.seconds) / TIME_BASE))
            if not self._sampler.keep(pts, TIME_BASE):
                continue
            seq, meta = self._sampler.kept - 1, {"shot": shot.seq}
            frame = Frame(self.stream, seq, pts, TIME_BASE, shot.image, meta=meta)
            yield Packet(frame, {"view": view_of(shot, floor)})
            if self._sampler.full:
                break
        if self._unreadable:
            raise self._broken(scene)

    def frames(self) -> Iterator[Frame]:
        """The same without the views."""
        return (packet.frame for packet in self.packets())

    def _read(self, scene: Scene, index: int) -> Shot | None:
        try:
            return scene[index]
        except SourceError as error:
            if error.fault is SourceFault.TOO_LARGE:
                raise
            log.warning("%s", error)
            self._unreadable.append(index)
            return None

    def _broken(self, scene: Scene) -> SourceError:
        bad = self._unreadable
        shown = ", ".join(map(str, bad[:3])) + (", ..." if len(bad) > 3 else "")
        return SourceError(
            SourceFault.BROKEN,
            f"{len(bad)} of {len(scene)} shots of {self.source!r} cannot be read: {shown}.",
            hint="The log says why; the others were delivered.",
            decoded=self._sampler.kept,
        )

    def close(self) -> None:
        self._closed.set()
        if self._inner is not None:
            self._inner.close()

    def stats(self) -> Mapping[str, StatValue]:
        if self._feed is not None:
            stats = getattr(self._inner, "stats", None)
            return {**(stats() if stats is not None else {}), "delivered": self._feed.delivered}
        return {
            "declared": len(self._scene) if self._scene is not None else 0,
            "delivered": self._sampler.kept,
            "unreadable": len(self._unreadable),
            "repaired_times": self._times.repaired,
        }


def paced(packets: Iterator[Packet], pace: float, closed: threading.Event) -> Iterator[Packet]:
    """Packets until ``closed``, each frame held by a ``Pace``."""
    hold = Pace(pace, closed).hold
    for packet in packets:
        frame = hold(packet.frame)
        if frame is None:
            return
        yield Packet(frame, packet.results)


def _glance(scene: Scene, index: int) -> Shot | None:
    """A shot, to learn its size and time; None when it cannot be read, which reading will say."""
    try:
        return scene[index]
    except SourceError:
        return None


def four(name: str, words: str) -> Numbers | None:
    """Four numbers with commas between them; None of an empty word. Raises UsageError."""
    if words == "":
        return None
    try:
        fx, fy, cx, cy = (float(word) for word in words.split(","))
    except (ValueError, AttributeError):
        raise UsageError(
            f"The source option {name!r} is four numbers, fx,fy,cx,cy, not {words!r}."
        ) from None
    return fx, fy, cx, cy
