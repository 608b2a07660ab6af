"""Streams that are no scenes: videos, cameras, addresses, recordings, with a view of each frame."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from retain.datasets.scene.base import Shot
from retain.datasets.scene.pictures import Size
from retain.datasets.scene.video import Numbers, assumed, plain_camera
from retain.datasets.scene.views import FINEST, resized_shot, shot_of, view_of
from retain.kernels.geometry.camera import Camera
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.recorder import ReplaySource
from retain.pipeline.recording import Reader
from retain.pipeline.results import View
from retain.pipeline.stage import Source

log = logging.getLogger(__name__)


class Feed:
    """Packets of a source that gives frames.

    camera  of the first frame's pixels; None: assumed from ``field``. Of frames in other sizes it
            is the same, resized
    every   only frames whose ``seq`` it divides, which are renumbered; a gap stays one
    limit   packets at most; 0: all

    A recording's frames keep the views that were recorded with them, bit for bit unless a working
    size is asked for.
    """

    def __init__(
        self,
        source: Source,
        size: Size = (0, 0),
        camera: Numbers | None = None,
        field: float = 60.0,
        every: int = 1,
        limit: int = 0,
    ) -> None:
        self._source, self._size, self._every, self._limit = source, size, every, limit
        self._given, self._field = camera, field
        self._known: Camera | None = None
        self.delivered = 0

    def packets(self) -> Iterator[Packet]:
        for packet in self._read():
            frame = packet.frame
            if frame.seq % self._every:
                continue
            frame = replace(frame, seq=frame.seq // self._every)
            view = packet.results.get("view")
            self.delivered += 1
            yield self._viewed(frame, view if isinstance(view, View) else None)
            if self.delivered == self._limit:
                return

    def _read(self) -> Iterator[Packet]:
        if not isinstance(self._source, ReplaySource):
            yield from map(Packet, self._source.frames())
            return
        with self._source.path.open("rb", buffering=0) as file:
            yield from Reader(file, self._source.name).packets()

    def _viewed(self, frame: Frame, view: View | None) -> Packet:
        if view is None:
            shot = Shot(frame.seq, frame.seconds, frame.image, self._camera(frame))
            floor = 0.0
        elif self._size == (0, 0):
            return Packet(frame, {"view": view})
        else:
            shot, floor = shot_of(frame, view), min(FINEST, view.unit)
        shot = resized_shot(shot, self._size)
        return Packet(replace(frame, image=shot.image), {"view": view_of(shot, floor)})

    def _camera(self, frame: Frame) -> Camera:
        if self._known is None:
            self._known = plain_camera(frame.width, frame.height, self._given, self._field)
            if self._given is None:
                log.warning("%s", assumed(self._known, self._field))
        return self._known.resized(frame.width, frame.height)
