"""The map in 3D while it grows, in a browser on this machine: a sink over viser.

Taking a packet only notes it (numpy, no more than the packet holds); a thread draws five times a
second, at most ``BLOCKS`` blocks of Gaussians each time, and nothing while nobody looks. A browser
that is slow gets fewer pictures: viser keeps one message for each thing that is shown, the newest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from retain.apps.drawing import shrink
from retain.apps.reconstruct.cloud import Cloud
from retain.apps.reconstruct.course import Course
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.frame import Frame, Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Pose, SplatDelta, View
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.apps.reconstruct.live_scene import LiveScene

log = logging.getLogger(__name__)

EVERY_S = 0.2
BLOCKS = 6
"""Blocks of Gaussians that are drawn in one go: 100,000 at most, some 3 MB to each browser."""
PICTURE = 160
POINTS = 400
"""Of the plot over time; when there are more, they are thinned."""


class Numbers:
    """What the viewer's panel tells, put together from poses. Bounded."""

    def __init__(self) -> None:
        self.frames = self.lost = self.keyframes = 0
        self.drift: list[tuple[float, float]] = []
        """(seconds, distance to the given path); NaN where that is not known."""
        self.inliers: list[tuple[float, float]] = []
        self._every = 1

    def add(self, frame: Frame, pose: Pose, drift: float) -> None:
        self.lost += pose.state == "lost"
        self.keyframes += pose.keyframe
        if self.frames % self._every == 0:
            self.drift.append((frame.seconds, drift))
            self.inliers.append((frame.seconds, float(pose.inliers)))
            if len(self.drift) > POINTS:
                self.drift, self.inliers = self.drift[::2], self.inliers[::2]
                self._every *= 2
        self.frames += 1


class Newest:
    """What is known by now; the run's thread writes it, the drawing thread reads it, under
    ``lock``."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cloud, self.course, self.numbers = Cloud(), Course(), Numbers()
        self.version = 0
        self.pose: Pose | None = None
        self.camera: Camera | None = None
        self.picture: Image | None = None
        self.finished = self.final = False

    def note(self, packet: Packet, picture: bool) -> None:
        """Take a packet in; with ``picture``, its picture too, small."""
        frame, pose, view = packet.frame, packet.results.get("pose"), packet.results.get("view")
        delta = packet.results.get("splats")
        with self.lock:
            self.version += 1
            if isinstance(delta, SplatDelta):
                self.cloud.apply(delta)
            if isinstance(pose, Pose):
                self.pose = pose
                self.numbers.add(frame, pose, self.course.add(pose))
            if isinstance(view, View):
                self.camera = Camera(*view.camera, frame.width, frame.height)
            if picture:
                self.picture = shrink(frame.image, PICTURE)


class SplatViewer:
    """Shows one stream's map at ``url``, which only this machine can open. Nothing that goes wrong
    in it ends the run."""

    def __init__(self, title: str, port: int = 0, every_s: float = EVERY_S) -> None:
        self.url = ""
        self.newest = Newest()
        self._title, self._port, self._every_s = title, port, every_s
        self._scene: LiveScene | None = None
        self._stop = threading.Event()
        self._picture_due = True
        self._thread = threading.Thread(target=self._draw, name="retain-viewer", daemon=True)
        self.draws = 0

    def start(self) -> None:
        """Serve, and draw from a thread of its own. Raises MissingExtra without viser, UsageError
        when the port is taken."""
        try:
            from retain.apps.reconstruct.live_scene import LiveScene
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "viser":
                raise
            raise MissingExtra("viser", "viewer", "The 3D view of a map") from None
        self._scene = LiveScene(self._title, self._port)
        if self._port and self._scene.port != self._port:
            self._scene.close()
            raise UsageError(
                f"The 3D view cannot use port {self._port}: it is taken.", hint="Choose another."
            )
        self.url = f"http://127.0.0.1:{self._scene.port}/"
        self._thread.start()

    def process(self, packet: Packet) -> None:
        """Note the packet; its picture only where the last one has been drawn."""
        due, self._picture_due = self._picture_due, False
        self.newest.note(packet, due)

    def close(self) -> None:
        """The stream has ended; the view stays up until ``stop``."""
        with self.newest.lock:
            self.newest.finished = True
            self.newest.version += 1

    def begin(self, known: SplatDelta) -> None:
        """The map that the stream goes on with."""
        with self.newest.lock:
            self.newest.cloud.apply(known)
            self.newest.version += 1

    def show(self, final: SplatDelta) -> None:
        """The whole map as it was written, after the stream."""
        with self.newest.lock:
            self.newest.cloud.apply(final)
            self.newest.final = True
            self.newest.version += 1

    def stop(self) -> None:
        """Safe to call twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._scene is not None:
            self._scene.close()
            self._scene = None

    def stats(self) -> Mapping[str, StatValue]:
        newest = self.newest
        with newest.lock:
            return {
                "gaussians": len(newest.cloud),
                "epoch": newest.cloud.epoch,
                "waiting": int(newest.cloud.waiting),
                "draws": self.draws,
            }

    def _draw(self) -> None:
        scene = self._scene
        assert scene is not None
        drawn = watchers = -1
        try:
            while not self._stop.wait(self._every_s):
                now = scene.watchers
                if not now:
                    drawn = watchers = -1
                    continue
                self._picture_due = True
                newest = self.newest
                with newest.lock:
                    if now != watchers and watchers < 0:
                        newest.cloud.refresh()
                    middle = newest.cloud.middle() if not scene.sized else None
                    blocks = newest.cloud.take(BLOCKS)
                    version = newest.version
                if version != drawn or blocks:
                    scene.draw(newest, blocks, middle)
                    self.draws += 1
                drawn, watchers = version, now
        except Exception:
            log.exception("The 3D view stopped; the run goes on.")
