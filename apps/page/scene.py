"""What the page of `retain reconstruct` knows: where the camera is, and how the map grows."""

from __future__ import annotations

from collections import Counter

import numpy as np

from retain.apps.page.section import Json, Recent, Section
from retain.apps.reconstruct.course import Course, Points
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Pose

EASE = 0.1
"""Weight of a new frame in the means of what parts of the work take."""
PLACES = 600


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {"doing": "Mapping. Every frame is placed; keyframes make the map grow."}


def describe(packet: Packet, preview: Image) -> Json:
    """What stands under the newest picture, and over it while the camera is not tracked."""
    pose = packet.results.get("pose")
    if not isinstance(pose, Pose):
        return {}
    return {
        "tracking": pose.state,
        "reason": pose.reason,
        "inliers": pose.inliers,
        "keyframe": pose.keyframe,
    }


class Way:
    """Follows the camera, for the sections that draw something of it."""

    def __init__(self) -> None:
        self.course = Course(PLACES)
        self.drift = float("nan")
        self.pose: Pose | None = None

    def observe(self, packet: Packet) -> Pose | None:
        """Called once for each packet, by the first section; its pose."""
        pose = packet.results.get("pose")
        self.pose = pose if isinstance(pose, Pose) else None
        if self.pose is not None:
            self.drift = self.course.add(self.pose)
        return self.pose


class Tracking(Recent):
    """The last frames: (seconds, seq, distance to the given path, points that agreed, whether a
    keyframe, whether the place is unknown)."""

    name = "tracking"

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def observe(self, packet: Packet) -> None:
        if pose := self._way.observe(packet):
            frame, drift = packet.frame, round(self._way.drift, 5)
            seconds, lost = round(frame.seconds, 4), pose.state in ("lost", "starting")
            self.add((seconds, frame.seq, drift, pose.inliers, pose.keyframe, lost))


class Map(Section):
    """How large the map is against its budget, and where the time goes."""

    name = "map"
    every_s = 0.25

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way
        self._states: Counter[str] = Counter()
        self._keyframes = self._loops = 0
        self._parts: dict[str, float] = {}
        self._last: Pose | None = None

    def observe(self, packet: Packet) -> None:
        pose = self._way.pose
        if pose is None:
            return
        self.version += 1
        self._last = pose
        self._states[pose.state] += 1
        self._keyframes += pose.keyframe
        self._loops += "loop" in pose.parts_ms
        first = self.version == 1
        for name in self._parts.keys() | pose.parts_ms.keys():
            now, before = pose.parts_ms.get(name, 0.0), self._parts.get(name, 0.0)
            self._parts[name] = now if first else before + EASE * (now - before)

    def view(self, since: int) -> Json:
        pose = self._last
        if pose is None:
            return {"active": 0}
        parts = sorted(self._parts.items(), key=lambda item: -item[1])
        return {
            "active": pose.active,
            "stable": pose.stable,
            "nbytes": pose.nbytes,
            "byte_budget": pose.byte_budget,
            "keyframes": self._keyframes,
            "loops": self._loops,
            "lost": self._states["lost"],
            "frames": self._states.total(),
            "parts_ms": [(name, round(ms, 2)) for name, ms in parts],
        }


class Above(Section):
    """The path from above, and the given one where it is known."""

    name = "above"
    every_s = 0.5

    def __init__(self, way: Way) -> None:
        super().__init__()
        self._way = way

    def observe(self, packet: Packet) -> None:
        self.version += self._way.pose is not None

    def view(self, since: int) -> Json:
        course, pose = self._way.course, self._way.course.last
        if pose is None:
            return {"path": []}
        tips = pose[:3, 3] + [[0, 0, 0], pose[:3, 2]]
        here, ahead = course.plan(tips)
        return {
            "path": _rounded(course.plan(course.own())),
            "given": _rounded(course.plan(course.given())),
            "keyframes": _rounded(course.plan(_centres(course))),
            "here": here.round(3).tolist(),
            "heading": (ahead - here).round(3).tolist(),
            "scaled": course.scaled,
        }


def sections() -> list[Section]:
    """In this order: the first follows the camera for the others."""
    way = Way()
    return [Tracking(way), Map(way), Above(way)]


def _centres(course: Course) -> Points:
    return np.array([c2w[:3, 3] for c2w in course.keyframes.items]).reshape(-1, 3)


def _rounded(points: Points) -> list[list[float]]:
    rows: list[list[float]] = points.round(3).tolist()
    return rows
