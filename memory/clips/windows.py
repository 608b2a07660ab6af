"""Clips cut from a stream as it comes, from a file, or from the frames a memory has kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from retain.memory.base import Json, State, made_by_model
from retain.memory.clips.clip import Frames, Span, Window
from retain.memory.clips.config import ClipShape, WindowConfig
from retain.memory.entries import Entry
from retain.memory.table import Columns, Table
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame, Image


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame and what it was worth: the router's score, or a novelty."""

    frame: Frame
    score: float = 0.0


class _Stream:
    def __init__(self, config: WindowConfig) -> None:
        self.held = Table(config.shape.frames, _columns(config.shape))
        self.due = 0
        """Frames to take until the next clip, once there are enough for one."""


class Windows:
    """The last T frames of each stream, at the clips' size; every ``stride`` frames they are a
    clip. A gap, a discontinuity or time running backwards starts the clip anew, because a clip with
    a jump in it teaches a wrong motion."""

    def __init__(self, config: WindowConfig) -> None:
        self._config = config
        self._streams: dict[str, _Stream] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "windows", **asdict(self._config)}

    @property
    def min_bytes(self) -> int:
        rows = sum(np.dtype(dtype).itemsize for dtype in _columns(self._config.shape).values())
        return self._config.shape.frames * rows

    def write(self, stream: str, item: Seen, gate: float = 1.0) -> Window | None:
        """Take a frame in; the clip that it completes, if it does. ``gate`` scales its score; 0
        leaves it out, as if it had been dropped.

        Raises UsageError for a frame that a model made.
        """
        frame, c = item.frame, self._config
        if frame.synthetic:
            raise made_by_model(f"Frame {frame.seq} of {frame.stream!r}")
        if gate == 0:
            return None
        s = self._stream(stream)
        if len(s.held):
            since = frame.seq - int(s.held["seq"][-1])
            if 0 < since < c.every and not frame.discontinuity:
                return None
            broken = not 0 < since <= c.every + c.slack or frame.seconds < s.held["seconds"][-1]
            if frame.discontinuity or broken:
                s = self._streams[stream] = _Stream(c)
        _push(s.held, frame, fitted(frame.image, c.shape), gate * item.score)
        return self._due(s, frame.stream)

    def _due(self, s: _Stream, stream: str) -> Window | None:
        if len(s.held) < s.held.capacity:
            return None
        if s.due:
            s.due -= 1
            return None
        s.due = self._config.stride - 1
        return _window(s.held, stream)

    def read(self, stream: str, query: None = None) -> Window | None:
        """The frames held now, T or fewer; None before the first."""
        s = self._stream(stream)
        return _window(s.held, stream) if len(s.held) else None

    def reset(self, stream: str) -> None:
        self._streams.pop(stream, None)

    def nbytes(self, stream: str) -> int:
        return self.min_bytes

    def shrink_to(self, stream: str, nbytes: int) -> None:
        if nbytes < self.min_bytes:
            raise UsageError(
                f"A window of frames cannot live in {nbytes} bytes; it takes {self.min_bytes}.",
                hint="Raise the budget, or configure smaller or shorter clips.",
            )

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        return {"frames": len(self._stream(stream).held), "bytes": self.min_bytes}

    def snapshot(self, stream: str) -> State:
        s = self._stream(stream)
        return State(s.held.tensors(), {"due": s.due})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError, changing nothing, for frames of other sizes or out of order."""
        fresh, due = _Stream(self._config), state.header.get("due")
        if type(due) is not int or not 0 <= due < self._config.stride:
            raise StateError("The snapshot's header does not belong to a window of frames.")
        fresh.held.load(state.tensors)
        seq, seconds, score = (fresh.held[name] for name in ("seq", "seconds", "score"))
        good = (np.diff(seq) > 0).all() and (seq >= 0).all() and (np.diff(seconds) >= 0).all()
        if not good or not (np.isfinite(seconds).all() and np.isfinite(score).all()):
            raise StateError("The snapshot's frames are out of order or at impossible times.")
        fresh.due = due
        self._streams[stream] = fresh

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config)
        return self._streams[stream]


def cut(frames: Iterable[Frame], config: WindowConfig) -> list[Window]:
    """All clips of a file or another finite source.

    Raises UsageError when it is shorter than one clip, or a model made a frame of it.
    """
    windows, out, count = Windows(config), [], 0
    for frame in frames:
        count += 1
        out.append(windows.write("", Seen(frame)))
    found = [window for window in out if window is not None]
    if not found:
        need = (config.shape.frames - 1) * config.every + 1
        raise UsageError(
            f"A reference has {count} frames, but a clip needs {need} that follow each other.",
            hint="Give a longer one, or configure shorter clips.",
        )
    return found


def from_entries(entries: Iterable[Entry], config: WindowConfig, stream: str) -> list[Window]:
    """Clips of the frames a frame memory kept, where enough of them follow each other: with
    ``every`` and ``slack`` at their defaults only unbroken runs do. None is no error.

    Raises StateError for a picture that cannot be decoded. Entries without pictures are skipped.
    """
    windows, out = Windows(config), []
    for entry in sorted(entries, key=lambda e: e.seq):
        if entry.jpeg:
            frame = Frame(stream, entry.seq, entry.pts, entry.time_base, entry.image())
            out.append(windows.write(stream, Seen(frame, entry.score)))
    return [window for window in out if window is not None]


def fitted(image: Image, shape: ClipShape) -> Frames:
    """``image`` uint8 [h, w, 3] RGB as uint8 [H, W, C] of a clip: stretched, averaged over areas,
    grey by luma where C is 1."""
    import cv2

    if image.shape[:2] != (shape.height, shape.width):
        size = (shape.width, shape.height)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    if shape.channels == 3:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[:, :, None]


def _columns(shape: ClipShape) -> Columns:
    return {
        "frames": (np.uint8, shape.array[1:]),
        "seq": np.int64,
        "seconds": np.float64,
        "score": np.float64,
    }


def _push(held: Table, frame: Frame, image: Frames, score: float) -> None:
    """The newest row last; a full table loses its oldest."""
    values = {"frames": image, "seq": frame.seq, "seconds": frame.seconds, "score": score}
    place = len(held)
    if place == held.capacity:
        place -= 1
        for name in values:
            held[name][:-1] = held[name][1:].copy()
    held.put(np.array([place]), values)


def _window(held: Table, stream: str) -> Window:
    seq, seconds = held["seq"], held["seconds"]
    return Window(
        frames=held["frames"].copy(),
        span=Span(stream, int(seq[0]), int(seq[-1])),
        start_s=float(seconds[0]),
        end_s=float(seconds[-1]),
        score=float(held["score"].max()),
    )
