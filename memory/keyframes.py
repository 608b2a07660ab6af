"""Places a camera was at: the corners seen there, with their depths, and the pose.

A tracker finds itself again in them, however long ago they were. Where bytes run out, the place
that is most like another goes: what was looked at from everywhere thins out, what was seen once
stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from retain.kernels.geometry.rigid import is_rigid
from retain.memory.base import Json, State
from retain.memory.carry import refuse_to_shrink
from retain.pipeline.errors import StateError, UsageError, nearest

NEWEST = 4
"""Places that are never dropped for room: the tracker stands on them."""
_FIXED = 8 + 8 + 128 + 32
"""Bytes of a place beside its corners."""
DESCRIPTORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "orb": ("|u1", (32,)),
    "xfeat": ("|i1", (64,)),
}
"""Type and length, by the kind of features."""
_CORNER: dict[str, tuple[str, tuple[int, ...]]] = {
    "uv": ("<f4", (2,)), "octave": ("|u1", ()), "points": ("<f4", (3,)),
}  # fmt: skip
_CORNER_BYTES = 8 + 1 + 12
"""Beside its descriptor, which has a byte per element."""
_TURN = 0.5
"""Radians of turning that make two views as different as moving by the depth of the scene does."""


@dataclass(frozen=True, slots=True)
class Place:
    """One keyframe.

    id           counts keyframes from 0
    seq          of its frame
    c2w          float64 [4, 4], metres
    intrinsics   float64 [4]: fx, fy, cx, cy in pixels
    uv           float32 [N, 2], pixels, pixel i has its centre at i + 0.5
    octave       uint8 [N], level of the pyramid
    descriptors  [N, D] of one of the ``DESCRIPTORS``
    points       float32 [N, 3], camera coordinates in metres; NaN where the depth is unknown
    """

    id: int
    seq: int
    c2w: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    uv: NDArray[np.float32]
    octave: NDArray[np.uint8]
    descriptors: NDArray[np.uint8] | NDArray[np.int8]
    points: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return _FIXED + _CORNER_BYTES * len(self.uv) + self.descriptors.nbytes


@dataclass(frozen=True, slots=True)
class KeyframeConfig:
    """Raises UsageError when a budget cannot hold the newest places, or for features that are
    none of the ``DESCRIPTORS``."""

    byte_budget: int = 16_000_000
    max_corners: int = 1500
    """More corners than these are not taken: the budget must be known to suffice."""
    features: str = "orb"
    """Kind of descriptors: a memory holds one, since two cannot be compared."""

    def __post_init__(self) -> None:
        if self.features not in DESCRIPTORS:
            raise UsageError(
                f"No keyframes with features {self.features!r}.",
                hint=nearest(self.features, DESCRIPTORS),
            )
        if self.max_corners < 1:
            raise UsageError(f"Keyframe option max_corners must be >= 1, got {self.max_corners}.")
        if self.byte_budget < self.least:
            raise UsageError(
                f"{self.byte_budget} bytes cannot hold the {NEWEST} newest keyframes.",
                hint=f"Give at least {self.least}, or fewer corners.",
            )

    @property
    def least(self) -> int:
        _, (length,) = DESCRIPTORS[self.features]
        return (NEWEST + 1) * (_FIXED + (_CORNER_BYTES + length) * self.max_corners)

    @property
    def corner(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of what a place says of each corner."""
        return _CORNER | {"descriptors": DESCRIPTORS[self.features]}


@dataclass(slots=True)
class _Stream:
    limit: int
    places: dict[int, Place] = field(default_factory=dict)
    dropped: int = 0

    @property
    def nbytes(self) -> int:
        return sum(place.nbytes for place in self.places.values())


class KeyframeMemory:
    """Places by id, oldest first, any number of streams; see the module's text."""

    def __init__(self, config: KeyframeConfig | None = None) -> None:
        self._config = config or KeyframeConfig()
        self._streams: dict[str, _Stream] = {}

    @property
    def config(self) -> Mapping[str, Json]:
        return {"kind": "keyframes", **asdict(self._config)}

    @property
    def min_bytes(self) -> int:
        return self._config.least

    def write(self, stream: str, item: Place, gate: float = 1.0) -> tuple[int, ...]:
        """Keep ``item``; ``gate`` 0 does not. The ids of places dropped for it.

        Raises ValueError for arrays that are no place, or an id that is not the newest.
        """
        held = self._stream(stream)
        _check(item, self._config)
        if held.places and item.id <= next(reversed(held.places)):
            raise ValueError(f"keyframe {item.id} is not newer than those held")
        if gate == 0:
            return ()
        held.places[item.id] = item
        return self._make_room(held)

    def read(self, stream: str, query: Iterable[int] | None = None) -> list[Place]:
        """The places with the ids ``query`` that are held, all without; oldest first."""
        places = self._stream(stream).places
        if query is None:
            return list(places.values())
        return [places[key] for key in sorted(set(query)) if key in places]

    def move(self, stream: str, poses: Mapping[int, NDArray[np.float64]]) -> None:
        """Give places of these ids other poses."""
        places = self._stream(stream).places
        for key, c2w in poses.items():
            if key in places:
                places[key] = replace(places[key], c2w=np.array(c2w, np.float64))

    def reset(self, stream: str) -> None:
        held = self._streams.pop(stream, None)
        if held is not None:  # what it may use is the hub's word, not the stream's past
            self._streams[stream] = _Stream(held.limit)

    def nbytes(self, stream: str) -> int:
        return self._stream(stream).nbytes

    @property
    def max_bytes(self) -> int:
        return self._config.byte_budget

    def need(self, stream: str) -> int:
        held = self._stream(stream)
        more = max((place.nbytes for place in held.places.values()), default=0)
        return max(self.min_bytes, min(held.nbytes + more, self._config.byte_budget))

    def shrink_to(self, stream: str, nbytes: int) -> None:
        """Raises UsageError when ``nbytes`` is under ``min_bytes``."""
        refuse_to_shrink("memory of keyframes", nbytes, self.min_bytes)
        held = self._stream(stream)
        held.limit = min(nbytes, self._config.byte_budget)
        self._make_room(held)

    def stats(self, stream: str) -> Mapping[str, int | float | str]:
        held = self._stream(stream)
        return {"keyframes": len(held.places), "dropped": held.dropped, "bytes": held.nbytes}

    def snapshot(self, stream: str) -> State:
        held = self._stream(stream)
        places = list(held.places.values())
        tensors = {
            "id": np.array([p.id for p in places], np.int64),
            "seq": np.array([p.seq for p in places], np.int64),
            "corners": np.array([len(p.uv) for p in places], np.int64),
            "c2w": np.array([p.c2w for p in places]).reshape(-1, 4, 4),
            "intrinsics": np.array([p.intrinsics for p in places]).reshape(-1, 4),
        }
        for name, (dtype, shape) in self._config.corner.items():
            none = np.zeros((0, *shape), dtype)
            tensors[name] = np.concatenate([none, *(getattr(p, name) for p in places)])
        return State(tensors, {"limit": held.limit, "dropped": held.dropped})

    def restore(self, stream: str, state: State) -> None:
        """Raises StateError for arrays of other shapes or numbers that are no places."""
        limit, dropped = state.header.get("limit"), state.header.get("dropped")
        if not (isinstance(limit, int) and isinstance(dropped, int)) or limit < self.min_bytes:
            raise StateError("The snapshot's header does not belong to a memory of keyframes.")
        fixed = {"id": ("<i8", ()), "seq": ("<i8", ()), "corners": ("<i8", ()),
                 "c2w": ("<f8", (4, 4)), "intrinsics": ("<f8", (4,))}  # fmt: skip
        rows = _taken(state.tensors, fixed, None)
        ends = np.cumsum(rows["corners"])
        if (rows["corners"] < 0).any() or (np.diff(rows["id"]) <= 0).any():
            raise StateError("The snapshot's keyframes are not in order.")
        corners = _taken(state.tensors, self._config.corner, int(ends[-1]) if len(ends) else 0)
        held = _Stream(limit, dropped=dropped)
        for k, end in enumerate(ends):
            part = slice(end - rows["corners"][k], end)
            place = Place(
                int(rows["id"][k]), int(rows["seq"][k]),
                rows["c2w"][k].copy(), rows["intrinsics"][k].copy(),
                **{name: array[part].copy() for name, array in corners.items()},
            )  # fmt: skip
            try:
                _check(place, self._config)
            except ValueError as error:
                raise StateError(f"The snapshot's keyframe {place.id}: {error}.") from None
            held.places[place.id] = place
        if held.nbytes > limit:
            raise StateError("The snapshot holds more keyframes than its own limit allows.")
        self._streams[stream] = held

    def _stream(self, stream: str) -> _Stream:
        if stream not in self._streams:
            self._streams[stream] = _Stream(self._config.byte_budget)
        return self._streams[stream]

    def _make_room(self, held: _Stream) -> tuple[int, ...]:
        gone = []
        while held.nbytes > held.limit:
            gone.append(most_redundant(list(held.places.values())))
            del held.places[gone[-1]]
        held.dropped += len(gone)
        return tuple(gone)


def most_redundant(places: list[Place]) -> int:
    """Id of the place whose two most similar others are nearest, the newest ones spared."""
    at = np.array([p.c2w[:3, 3] for p in places])
    ahead = np.array([p.c2w[:3, 2] for p in places])
    depths = [np.nanmedian(p.points[:, 2]) for p in places if np.isfinite(p.points).any()]
    scale = float(np.median(depths)) if depths else 1.0
    apart = np.linalg.norm(at[:, None] - at[None], axis=2) / scale
    turned = np.arccos(np.clip(ahead @ ahead.T, -1, 1)) / _TURN
    distance = apart + turned + np.where(np.eye(len(places), dtype=bool), np.inf, 0)
    crowd = np.sort(distance, axis=1)[:, :2].sum(axis=1)
    return places[int(np.argmin(crowd[:-NEWEST]))].id


def _check(place: Place, config: KeyframeConfig) -> None:
    n = len(place.uv)
    if n > config.max_corners:
        raise ValueError(f"{n} corners, at most {config.max_corners} are kept")
    for name, (dtype, shape) in config.corner.items():
        array = getattr(place, name)
        if array.shape != (n, *shape) or array.dtype != np.dtype(dtype):
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
    if not is_rigid(place.c2w) or place.id < 0:
        raise ValueError("its pose is no rigid motion, or its id negative")
    if place.intrinsics.shape != (4,) or not np.isfinite(place.intrinsics).all():
        raise ValueError("its intrinsics are not four finite numbers")


def _taken(
    tensors: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[str, tuple[int, ...]]],
    rows: int | None,
) -> dict[str, np.ndarray]:
    """The arrays ``wanted``, each with ``rows`` rows (None: as many as the first)."""
    out: dict[str, np.ndarray] = {}
    for name, (dtype, shape) in wanted.items():
        array = tensors.get(name)
        if array is None:
            raise StateError(f"The snapshot has no array {name!r}.")
        if rows is None:
            rows = len(array) if array.ndim else 0
        if array.dtype != np.dtype(dtype) or array.shape != (rows, *shape):
            raise StateError(
                f"The snapshot's array {name!r} is {array.dtype} {list(array.shape)}, "
                f"not {np.dtype(dtype)} {[rows, *shape]}."
            )
        out[name] = array
    return out
