"""Views on the wire: what is known of a shot's camera, counted in 16 bits, and back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.datasets.scene.lens import Depth, regrid, resize_image
from retain.datasets.scene.pictures import Size, resized
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.results import View

FINEST = 1e-4
"""Metres: no depth camera is better, and finer steps only make recordings larger."""


def view_of(shot: Shot, floor: float = FINEST) -> View:
    """What is known of a shot's camera.

    Depth is counted in the finest step of 1, 2 or 5 times a power of ten metres that reaches its
    farthest value and is no finer than ``floor``; what would round to 0 becomes one step.
    """
    one = shot.camera
    camera = (float(one.fx), float(one.fy), float(one.cx), float(one.cy))
    known: dict[str, Any] = {
        "c2w": shot.c2w,
        "labels": shot.labels,
        "codes": shot.codes,
        "names": shot.names,
    }
    if shot.depth is None:
        return View(camera, **known)
    depth, unit = counted(shot.depth, floor)
    return View(camera, depth, unit, **known)


def shot_of(frame: Frame, view: View) -> Shot:
    """The shot that a frame and its view are of; depth float32 in metres. Raises UsageError for
    depth or labels of another size, and numbers that are no camera."""
    size = frame.image.shape[:2]
    for name, plane in (("depth", view.depth), ("labels", view.labels)):
        if plane is not None and plane.shape != size:
            raise UsageError(
                f"Frame {frame.seq} has {list(size)} pixels but its {name} {list(plane.shape)}.",
                hint="Register depth and labels to the colour picture and give them its size.",
            )
    try:
        camera = Camera(*view.camera, frame.width, frame.height)
    except ValueError as error:
        raise UsageError(f"Frame {frame.seq} has no usable camera: {error}") from error
    depth = None
    if view.depth is not None:
        depth = view.depth.astype(np.float32) * np.float32(view.unit)
    return Shot(
        frame.seq, frame.seconds, frame.image, camera, depth, view.c2w,
        view.labels, view.codes, view.names,
    )  # fmt: skip


def resized_shot(shot: Shot, size: Size) -> Shot:
    """The shot in another size: pictures by areas, depth and labels by the nearest pixel."""
    camera = resized(shot.camera, size)
    return replace(
        shot,
        image=resize_image(shot.image, camera.width, camera.height),
        camera=camera,
        depth=None if shot.depth is None else regrid(shot.depth, shot.camera, camera),
        labels=None if shot.labels is None else regrid(shot.labels, shot.camera, camera),
    )


def counted(depth: Depth, floor: float = FINEST) -> tuple[NDArray[np.uint16], float]:
    """``depth`` in whole steps, and the step."""
    unit = step_for(float(depth.max(initial=0.0)), floor)
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
