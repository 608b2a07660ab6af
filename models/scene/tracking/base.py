"""What a tracker says of each shot. RGB-D, monocular and given poses fit the same interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.kernels.geometry.camera import Camera
from retain.pipeline.results import Tracking

if TYPE_CHECKING:
    from retain.models.scene.tracking.dense import Dense

Pose = NDArray[np.float64]
"""[4, 4] camera to world, OpenCV axes, metres."""


class Rendered(Protocol):
    """The map as a camera sees it; what ``retain.kernels.rasterize.render`` gives."""

    @property
    def color(self) -> NDArray[np.float32]:
        """[H, W, 3], RGB, 0..1."""
        ...

    @property
    def depth(self) -> NDArray[np.float32]:
        """[H, W] metres, 0 where nothing is."""
        ...

    @property
    def alpha(self) -> NDArray[np.float32]:
        """[H, W], 0..1: how much of the pixel the map covers."""
        ...


Fit = Literal["keyframe", "map"]
"""What poses are fitted to, densely; see RgbdTracker."""

Model = Callable[[Camera, Pose], Rendered]
"""Draws the stable map for a camera at a pose."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where the camera of one shot was."""

    state: Tracking
    reason: str
    """Why, in a few words, when the shot is not tracked (or its pose is doubtful); else empty."""
    c2w: Pose
    """Of a lost shot: the last known pose."""
    inliers: int
    """Points of the keyframes found again where the pose puts them. Of given poses: 0."""
    keyframe: bool
    """Whether to make a keyframe of this shot. Its id is the number of keyframes before it."""
    correction: Mapping[int, Pose] | None = None
    """After a loop closure: keyframe id to corrected ``c2w``, for all that the tracker still holds,
    in order of id, this shot's own keyframe included. What belongs to a keyframe that is not among
    them moves with the one of the nearest id that is. ``c2w`` above is corrected already."""
    loop: int | None = None
    """Id of the old keyframe that this shot was recognised to show."""


class Tracker(Protocol):
    """Keyframe ids count from 0 in the order of creation, for the life of the tracker."""

    def track(self, shot: Shot, model: Model | None = None) -> Tracked:
        """Shots come in order; ``model`` draws the map as it stands before this shot."""
        ...

    def reset(self) -> None:
        """Begin anew, as on a new stream."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """All that ``restore`` needs, beside the memory of keyframes, to go on bit for bit."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Raises StateError when ``state`` is not of this kind of tracker."""
        ...


@runtime_checkable
class Spares(Protocol):
    """A tracker that can do without any one keyframe, since it knows where the camera is."""

    def spare(self) -> None:
        """The next shot is not to become a keyframe."""
        ...


@runtime_checkable
class Skips(Protocol):
    """A tracker that makes depth, and cannot do without a keyframe when it is due."""

    def skip(self) -> None:
        """The newest keyframe is not for the map: it needs no depth."""
        ...


@runtime_checkable
class MakesDepth(Protocol):
    """A tracker that works out the depth of keyframes itself."""

    unit: float
    """Length that counts as a metre, once the tracker has begun."""

    def dense(self, *, last: bool = False) -> list[Dense]:
        """Keyframes whose depth has become known since the last call, in order of id; ``last``: the
        stream is over, so those that wait for neighbours do with the ones they have."""
        ...
