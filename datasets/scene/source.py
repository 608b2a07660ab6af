"""Scenes as a source of the pipeline: every frame comes with what is known of its camera."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Scene, Shot
from retain.datasets.scene.lens import Depth
from retain.datasets.scene.open import open_scene
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import MAX_SIDE, Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import View
from retain.pipeline.sources.common import RisingTimes, Sampler, integer, number, text
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 1_000_000)
FINEST = 1e-4
"""Metres: no depth camera is better, and finer steps only make recordings larger."""


class SceneSource:
    """Packets of a scene: ``Frame`` and, as result ``view``, its camera, depth and pose.

    source         whatever ``open_scene`` takes
    stream         name of the stream in every frame
    fps, limit     as in VideoSource; shots that ``fps`` leaves out are read all the same
    every          only every n-th shot; the others are not read
    width, height  working size, as in ``open_scene``
    pace           1: frames come when they are due; 4: four times as fast; 0: at once

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
    ) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self._every = integer("every", every, 1)
        self._size = integer("width", width, 0, MAX_SIDE), integer("height", height, 0, MAX_SIDE)
        self._pace = number("pace", pace, 0, 1000)
        self._sampler = Sampler(fps, limit)
        self._times = RisingTimes(1, 10**18)
        self._closed = threading.Event()
        self._scene: Scene | None = None
        self._unreadable: list[int] = []

    def open(self) -> SourceInfo:
        """Find the scene. Raises SourceError or UsageError when there is none."""
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

    def packets(self) -> Iterator[Packet]:
        """Raises SourceError(BROKEN) after the last shot when some could not be read."""
        if self._scene is None:
            self.open()
        assert self._scene is not None
        scene, began, first = self._scene, time.monotonic(), None
        floor = FINEST if scene.metric else 0.0
        for index in range(0, len(scene), self._every):
            shot = self._read(scene, index)
            if self._closed.is_set():
                return
            if shot is None:
                continue
            pts = self._times.next(round(Fraction(shot.seconds) / TIME_BASE))
            if not self._sampler.keep(pts, TIME_BASE):
                continue
            first = pts if first is None else first
            if self._pace and self._too_soon(began + float((pts - first) * TIME_BASE) / self._pace):
                return
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

    def _too_soon(self, due: float) -> bool:
        """Wait until ``due``; whether the source was closed meanwhile."""
        return self._closed.wait(max(0.0, due - time.monotonic()))

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

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "declared": len(self._scene) if self._scene is not None else 0,
            "delivered": self._sampler.kept,
            "unreadable": len(self._unreadable),
            "repaired_times": self._times.repaired,
        }


def _glance(scene: Scene, index: int) -> Shot | None:
    """A shot, to learn its size and time; None when it cannot be read, which reading will say."""
    try:
        return scene[index]
    except SourceError:
        return None


def view_of(shot: Shot, floor: float = FINEST) -> View:
    """What is known of a shot's camera, for the wire.

    Depth is counted in the finest step of 1, 2 or 5 times a power of ten metres that reaches its
    farthest value and is no finer than ``floor``; what would round to 0 becomes one step.
    """
    camera = (shot.camera.fx, shot.camera.fy, shot.camera.cx, shot.camera.cy)
    if shot.depth is None:
        return View(camera, c2w=shot.c2w)
    depth, unit = counted(shot.depth, floor)
    return View(camera, depth, unit, shot.c2w)


def counted(depth: Depth, floor: float = FINEST) -> tuple[NDArray[np.uint16], float]:
    """``depth`` in whole steps, and the step."""
    farthest = float(depth.max(initial=0.0))
    unit = step_for(farthest, floor)
    steps = np.rint(depth * np.float32(1 / unit))
    return np.where(depth > 0, np.clip(steps, 1, 65535), 0).astype(np.uint16), unit


def step_for(farthest: float, floor: float = FINEST) -> float:
    """The finest of ..., 1e-4, 2e-4, 5e-4, 1e-3, ... from ``floor`` on that counts up to
    ``farthest`` in 16 bits."""
    least = max(farthest / 65535, floor)
    if least <= 0:
        return 0.001
    power = math.floor(math.log10(least) + 1e-9)
    steps = [float(f"{digit}e{power + more}") for more in (0, 1) for digit in (1, 2, 5)]
    return next(step for step in steps if step >= least * (1 - 1e-9))
