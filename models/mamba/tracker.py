"""Ids for boxes by the trackers of the package ``trackers``, and their state as plain arrays.

The package keeps its tracks in Python objects and offers no way to store them. What they are made
of is read from those objects, so a version that keeps other things is refused, not half saved.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from retain.memory.base import Json, State
from retain.pipeline.errors import MissingExtra, StateError, UsageError, nearest

Method = Literal["byte", "ocsort"]

SURER = 0.1
"""So much above ``min_score`` a box must be to begin a track, as in ByteTrack's code."""
WEAKEST = 0.5
"""Boxes under this share of ``min_score`` are left alone."""
LEAST_IOU = 0.3
"""Of a box and where its track was expected. This and ``WEAKEST`` gave the best IDF1 of a few
tried on eight generated clips with the small detector, with and without memory."""
RATE = 30.0
"""Frames per second in which the package counts; with timestamps given, only its noise depends on
it."""
_FILTER = ("state", "state_covariance", "transition_mtx", "observation_mtx", "process_noise",
           "measurement_noise")  # fmt: skip
_NUMBERS = ("age", "tracker_id", "time_since_update", "time_since_update_seconds",
            "number_of_successful_consecutive_updates")  # fmt: skip
_OF_OCSORT = ("last_observation", "previous_to_last_observation", "velocity")
_REST_OF_OCSORT = ("delta_t", "observations", "_frozen_state", "_observed")


class Tracker:
    """Gives each box the number of its track; causal, and the same for the same boxes.

    method     ``byte`` (arXiv 2110.06864) or ``ocsort`` (2203.14360)
    lost_s     a track that is not seen for longer ends
    min_score  boxes from it on are joined first, and those ``SURER`` still begin tracks; ``byte``
               lets boxes from half of it on continue tracks that are left

    Numbers count from 1 and are never given twice, not even after ``cut``. Raises MissingExtra
    without the package, UsageError for options that are none.
    """

    def __init__(self, method: Method = "byte", lost_s: float = 1.0, min_score: float = 0.3):
        if method not in get_args(Method):
            raise UsageError(f"No tracker is called {method!r}.", hint=nearest(method, METHODS))
        if not 0 <= lost_s < math.inf or not 0 < min_score <= 1:
            raise UsageError("lost_s is from 0 seconds, min_score above 0 and at most 1.")
        need_trackers()
        self.method, self.lost_s, self.min_score = method, lost_s, min_score
        self._last = -math.inf
        self._own = _make(method, lost_s, min_score)
        self._boxes = np.empty((0, 4), np.float32)
        """Of the frame before, those in tracks; ``_ids``: their tracks."""
        self._ids = np.empty(0, np.int32)

    def update(
        self,
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        seconds: float,
        still: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int32]:
        """[N] the track of each of ``boxes`` [N, 4] x1 y1 x2 y2, or -1. Tracks end when time runs
        backwards.

        ``still`` [N]: boxes that were not seen, but stand where they were in the frame before. They
        keep their track down to ``min_score``, if it was not seen elsewhere, and say nothing of its
        motion.
        """
        import supervision as sv

        if seconds < self._last:
            self.cut()
        # The package takes equal times for a mistake; two pictures at once are none here.
        seconds = seconds if seconds > self._last else float(np.nextafter(self._last, math.inf))
        self._last = seconds
        still = np.zeros(len(boxes), bool) if still is None else still
        rows = np.flatnonzero((scores >= WEAKEST * self.min_score) & ~still)
        given = sv.Detections(
            xyxy=boxes[rows].astype(np.float64).reshape(-1, 4),
            confidence=scores[rows].astype(np.float64),
            data={"row": rows},
        )
        out = np.full(len(boxes), -1, np.int32)
        told = self._own.update(given, timestamp=seconds)
        if len(told):
            ids = np.asarray(told.tracker_id, np.int32)
            out[np.asarray(told.data["row"], np.int64)] = np.where(ids >= 0, ids + 1, -1)
        known = dict(zip(map(_key, self._boxes), self._ids.tolist(), strict=True))
        for row in np.flatnonzero(still & (scores >= self.min_score)):
            track = known.get(_key(boxes[row]), -1)
            out[row] = -1 if track in out else track
        self._boxes, self._ids = boxes[out >= 0], out[out >= 0]
        return out

    def cut(self) -> None:
        """End all tracks: what comes next is another scene."""
        after = self._own._next_track_id
        self._own.reset()
        self._own._next_track_id = after
        self._last = -math.inf
        self._boxes, self._ids = np.empty((0, 4), np.float32), np.empty(0, np.int32)

    @property
    def held(self) -> int:
        """Tracks that may still be continued."""
        return len(self._own.tracks)

    @property
    def given(self) -> int:
        """Numbers given so far."""
        return int(self._own._next_track_id)

    @property
    def config(self) -> dict[str, Json]:
        """What a state must agree with."""
        return {
            "kind": "tracker",
            "method": self.method,
            "lost_s": self.lost_s,
            "min_score": self.min_score,
            "version": importlib.metadata.version("trackers"),
        }

    def snapshot(self) -> State:
        """Everything the next ``update`` depends on. Raises StateError for a package that keeps
        more than is known here."""
        own, tracks = self._own, self._own.tracks
        numbers = [[float(getattr(track, name)) for name in _NUMBERS] for track in tracks]
        arrays: dict[str, NDArray[Any]] = {
            "numbers": np.array(numbers, np.float64).reshape(-1, len(_NUMBERS)),
            "boxes": self._boxes,
            "ids": self._ids,
        }
        for k, track in enumerate(tracks):
            _check(track, self.method)
            _put(arrays, f"{k}.filter", track.state_estimator.get_state())
            if self.method == "ocsort":
                _put_ocsort(arrays, f"{k}.", track)
        header: dict[str, Json] = {
            "next": self.given,
            "last": None if self._last == -math.inf else self._last,
            "clock": own._last_timestamp,
            "frames": getattr(own, "frame_count", 0),
        }
        return State(arrays, header)

    def restore(self, state: State) -> None:
        """Take ``state`` in place of what is there. Raises StateError when it does not fit."""
        try:
            own = _make(self.method, self.lost_s, self.min_score)
            numbers, tensors = state.tensors["numbers"], state.tensors
            own.tracks = [self._track(tensors, k, row) for k, row in enumerate(numbers)]
            own._next_track_id = int(state.header["next"])  # type: ignore[arg-type]
            own._last_timestamp = state.header["clock"]
            if self.method == "ocsort":
                own.frame_count = int(state.header["frames"])  # type: ignore[arg-type]
            last = state.header["last"]
            self._last = -math.inf if last is None else float(last)  # type: ignore[arg-type]
            self._boxes, self._ids = np.array(tensors["boxes"]), np.array(tensors["ids"])
        except (KeyError, ValueError, TypeError) as error:
            raise StateError("The state of the tracker is not one, or not of this one.") from error
        self._own = own

    def _track(self, tensors: Any, k: int, row: NDArray[np.float64]) -> Any:
        from trackers.core.bytetrack.tracklet import ByteTrackTracklet
        from trackers.core.ocsort.tracklet import OCSORTTracklet

        kind: Any = ByteTrackTracklet if self.method == "byte" else OCSORTTracklet
        track = kind(np.array([0.0, 0.0, 1.0, 1.0]), self._own.state_estimator_class)
        track.state_estimator.set_state(_get(tensors, f"{k}.filter"))
        for name, value in zip(_NUMBERS, row, strict=True):
            setattr(track, name, type(getattr(track, name))(value))
        if self.method == "ocsort":
            _get_ocsort(tensors, f"{k}.", track)
        return track


METHODS: tuple[str, ...] = get_args(Method)


def need_trackers() -> None:
    """Raises MissingExtra, which says how to install it, unless the package can be imported."""
    if importlib.util.find_spec("trackers") and importlib.util.find_spec("supervision"):
        return
    error = MissingExtra("trackers", "track", "Giving boxes the number of a track")
    # Its own requirements would put a second OpenCV over ours.
    error.hint = (
        "Install it with: pip install 'retain[track]' && pip install --no-deps trackers==2.6.1 "
        "supervision==0.31.2. Or go without: --track none."
    )
    raise error


def _key(box: NDArray[np.float32]) -> bytes:
    return box.astype(np.float32).tobytes()


def _make(method: str, lost_s: float, min_score: float) -> Any:
    from trackers import ByteTrackTracker, OCSORTTracker

    shared: dict[str, Any] = {
        "lost_track_buffer": round(lost_s * 30),  # it counts frames of 30 a second
        "frame_rate": RATE,
        "minimum_iou_threshold": LEAST_IOU,
        "high_conf_det_threshold": min_score,
    }
    if method == "byte":
        begins = min(min_score + SURER, (1 + min_score) / 2)
        return ByteTrackTracker(track_activation_threshold=begins, **shared)
    return OCSORTTracker(**shared)


def _check(track: Any, method: str) -> None:
    known = {"state_estimator", *_NUMBERS}
    known |= {*_OF_OCSORT, *_REST_OF_OCSORT} if method == "ocsort" else set()
    if set(vars(track)) != known:
        version = importlib.metadata.version("trackers")
        raise StateError(
            f"The package trackers {version} keeps its tracks in a way that is not known here, so "
            "they cannot be saved.",
            hint="Install trackers==2.6.1.",
        )


def _put(arrays: dict[str, Any], name: str, filter_state: dict[str, Any]) -> None:
    for key in _FILTER:
        arrays[f"{name}.{key}"] = np.asarray(filter_state[key], np.float64)


def _get(tensors: Any, name: str) -> dict[str, Any]:
    return {key: np.array(tensors[f"{name}.{key}"], np.float64) for key in _FILTER}


def _put_ocsort(arrays: dict[str, Any], at: str, track: Any) -> None:
    for name in _OF_OCSORT:
        if (value := getattr(track, name)) is not None:
            arrays[at + name] = np.asarray(value, np.float64)
    ages = list(track.observations)
    arrays[f"{at}ages"] = np.array(ages, np.int64)
    seen = [track.observations[age] for age in ages]
    arrays[f"{at}observations"] = np.array(seen, np.float64).reshape(-1, 4)
    arrays[f"{at}observed"] = np.array([track._observed], np.uint8)
    if track._frozen_state is not None:
        _put(arrays, f"{at}frozen", track._frozen_state)


def _get_ocsort(tensors: Any, at: str, track: Any) -> None:
    for name in _OF_OCSORT:
        value = tensors.get(at + name)
        setattr(track, name, None if value is None else np.array(value, np.float64))
    ages, seen = tensors[f"{at}ages"], tensors[f"{at}observations"]
    track.observations = {int(age): np.array(box) for age, box in zip(ages, seen, strict=True)}
    track._observed = bool(tensors[f"{at}observed"][0])
    frozen = f"{at}frozen.{_FILTER[0]}" in tensors
    track._frozen_state = _get(tensors, f"{at}frozen") if frozen else None
