"""What `retain reconstruct` writes down while it runs: lines, the path, frames to judge by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.apps.drawing import clock, number, size
from retain.apps.journal import dropped_frames, moment
from retain.apps.running import RESULTS, Footage
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Image
from retain.pipeline.metrics import GraphStats
from retain.pipeline.packet import Packet
from retain.pipeline.results import KNOWN, Pose, View
from retain.pipeline.stage import StatValue

HELD_OUT = "held-out"
KEPT = 96
"""Frames held out that are kept; when there are more, every second goes."""
PATH = 20_000
"""Places of the path that are kept for drawing it; when there are more, every second goes."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A frame the map has not seen."""

    seq: int
    seconds: float
    anchor: int
    local: NDArray[np.float64]
    c2w: NDArray[np.float64]
    """As it was known then."""
    camera: Camera
    folder: Path

    def image(self) -> Image:
        bgr = _read(self.folder / f"{self.seq:06d}.png")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    def depth(self) -> NDArray[np.float32] | None:
        """[H, W] metres, whole millimetres; None where the stream has none."""
        path = self.folder / f"{self.seq:06d}.depth.png"
        if not path.exists():
            return None
        return _read(path).astype(np.float32) / np.float32(1000)

    def remove(self) -> None:
        for ending in ("png", "depth.png"):
            (self.folder / f"{self.seq:06d}.{ending}").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the camera was in one frame; ``known`` says whether that was found out."""

    seq: int
    seconds: float
    state: str
    anchor: int
    local: NDArray[np.float64]
    c2w: NDArray[np.float64]
    """As it was known then."""
    truth: NDArray[np.float64] | None

    @property
    def known(self) -> bool:
        return self.state in KNOWN


@dataclass
class Spent:
    """Milliseconds of one part, over the frames."""

    total: float = 0.0
    most: float = 0.0
    frames: int = 0

    def add(self, ms: float) -> None:
        self.total, self.most, self.frames = self.total + ms, max(self.most, ms), self.frames + 1


@dataclass
class Thinned:
    """A list that keeps every so many: all at first, then every second, every fourth, ..."""

    room: int
    items: list[Any] = field(default_factory=list)
    every: int = 1
    count: int = 0

    def add(self, item: Any) -> list[Any]:
        """Take ``item`` in, if it is its turn; those that had to go, maybe ``item`` itself."""
        self.count += 1
        if (self.count - 1) % self.every:
            return [item]
        self.items.append(item)
        if len(self.items) <= self.room:
            return []
        gone = self.items[1::2]
        self.items, self.every = self.items[::2], 2 * self.every
        return gone


class Recorder(Footage):
    """A sink; what it holds is bounded. ``results.jsonl`` has a line per frame:
    ``{"stream", "seq", ..., "results": {"pose": {...}}}``, poses as rows of 4 x 4."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        """Why frames were not tracked."""
        self.parts: dict[str, Spent] = {}
        self.keyframes = self.loops = 0
        self.pose: Pose | None = None
        self.camera: Camera | None = None
        self.names: tuple[str, ...] = ()
        self.codes: NDArray[np.float32] | None = None
        self.most_bytes = 0
        self._path = Thinned(PATH)
        self._held = Thinned(KEPT)
        self._lines = (folder / RESULTS).open("wb")
        self._encoder = msgspec.json.Encoder()
        (folder / HELD_OUT).mkdir()

    @property
    def path(self) -> list[Place]:
        return self._path.items

    @property
    def held_out(self) -> list[HeldOut]:
        return self._held.items

    def process(self, packet: Packet) -> None:
        frame, pose, view = packet.frame, packet.get("pose", Pose), packet.get("view", View)
        self._lines.write(self._encoder.encode(_line(packet, pose)) + b"\n")
        self.states[pose.state] += 1
        if pose.reason and pose.state != "tracked":
            self.reasons[pose.reason] += 1
        for name, ms in pose.parts_ms.items():
            self.parts.setdefault(name, Spent()).add(ms)
        self.keyframes += pose.keyframe
        self.loops += "loop" in pose.parts_ms
        self.most_bytes = max(self.most_bytes, pose.nbytes)
        self.pose = pose
        self.camera = Camera(*view.camera, frame.width, frame.height)
        if view.codes is not None and view.codes.ndim == 2:  # a table, no grid of a teacher's
            self.names, self.codes = view.names, view.codes
        where = frame.seq, frame.seconds, pose.state, pose.anchor, pose.local, pose.c2w, pose.truth
        self._path.add(Place(*where))
        if pose.held_out:
            self._hold(packet, pose, view)
        self.count(frame)

    def _hold(self, packet: Packet, pose: Pose, view: View) -> None:
        frame, folder = packet.frame, self.folder / HELD_OUT
        camera = Camera(*view.camera, frame.width, frame.height)
        held = HeldOut(
            frame.seq, frame.seconds, pose.anchor, pose.local, pose.c2w, camera, folder
        )  # fmt: skip
        name = str(folder / f"{frame.seq:06d}")
        cv2.imwrite(f"{name}.png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))
        if view.depth is not None:
            millimetres = np.clip(np.rint(view.depth * (1000 * view.unit)), 0, 65535)
            cv2.imwrite(f"{name}.depth.png", millimetres.astype(np.uint16))
        for gone in self._held.add(held):
            gone.remove()

    def ms_per_frame(self) -> Iterator[tuple[str, float, float]]:
        """(part, mean over all frames, longest), in milliseconds."""
        for name, spent in self.parts.items():
            yield name, spent.total / max(self.frames, 1), spent.most

    def close(self) -> None:
        self._lines.close()

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self.frames, "held_out": len(self.held_out)}

    def line(self, elapsed_s: float, stats: GraphStats) -> str:
        """How far it is, for a person."""
        if self.pose is None:
            return f"starting … {elapsed_s:.0f} s"
        lost, dropped = self.states["lost"], dropped_frames(stats)
        return (
            f"{clock(self.footage_s)} mapped, {self.frames} frames, "
            f"{self.frames / max(elapsed_s, 1e-9):.1f} a second · {self.pose.state} · "
            f"{number(self.pose.stable)} stable + {number(self.pose.active)} active Gaussians, "
            f"{size(self.pose.nbytes)} of {size(self.pose.byte_budget)}"
            + (f" · {lost} frames lost" if lost else "")
            + (f" · {dropped} dropped" if dropped else "")
        )


def _read(path: Path) -> NDArray[Any]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise RetainError(f"The picture {str(path)!r}, written a moment ago, cannot be read.")
    return np.asarray(picture)


def _line(packet: Packet, pose: Pose) -> dict[str, Any]:
    told = msgspec.structs.asdict(pose)
    for name in ("c2w", "local", "truth"):
        if told[name] is not None:
            told[name] = np.round(told[name], 9).tolist()
    return moment(packet.frame) | {"results": {"pose": told}}
