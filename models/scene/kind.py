"""What a stream is, and how that and other odds and ends are written into a map's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.kernels.geometry.camera import Camera
from retain.memory.gaussian.config import GaussianConfig
from retain.pipeline.errors import StateError


@dataclass(frozen=True, slots=True)
class Kind:
    """What a stream gives beside its pictures, known from its first frame."""

    camera: Camera
    given: bool
    """Poses are the source's."""
    depth: bool
    codes: bool
    unit: float = 1.0
    """Length that counts as a metre: poses that come without depth have a unit of their own, which
    turns out when their map begins."""

    @staticmethod
    def of(shot: Shot, *, given: bool) -> Kind:
        return Kind(shot.camera, given, shot.depth is not None, shot.codes is not None)


def kind_in(notes: Mapping[str, np.ndarray], path: str) -> Kind:
    """What the notes of a saved state say of its stream."""
    try:
        fx, fy, cx, cy = map(float, notes["camera"])
        width, height = map(int, notes["size"])
        camera = Camera(fx, fy, cx, cy, width, height)
        given, depth, codes = map(bool, notes["kind"])
        (unit,) = map(float, notes["unit"])
    except (KeyError, ValueError, TypeError) as error:
        raise StateError(f"{path} holds no map of a scene: {error}.") from error
    if not 0 < unit < np.inf:
        raise StateError(f"{path} holds a map whose unit is {unit}.")
    return Kind(camera, given, depth, codes, unit)


def map_config(kind: Kind, budget_bytes: int, cell: float) -> GaussianConfig:
    """Of the map of such a stream; ``cell`` in metres."""
    plain = GaussianConfig()
    return GaussianConfig(
        byte_budget=budget_bytes,
        cell=cell * kind.unit,
        codes=kind.codes,
        confirmations=2 if kind.depth else 3,
        agree=(plain.agree[0], plain.agree[1] * kind.unit),
        front=(plain.front[0], plain.front[1] * kind.unit),
    )


def lens_of(camera: Camera) -> NDArray[np.float64]:
    """[4]: fx, fy, cx, cy."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float64)


def with_lens(camera: Camera, lens: NDArray[np.float64]) -> Camera:
    """A camera with pictures of the same size."""
    fx, fy, cx, cy = map(float, lens)
    return Camera(fx, fy, cx, cy, camera.width, camera.height)


def plain(value: np.ndarray) -> np.ndarray:
    """Truth values as bytes: memory files have no type for them."""
    return value.astype(np.uint8) if value.dtype == bool else value


def words(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The state of a random generator as bytes for a snapshot."""
    state = rng.bit_generator.state
    text = json.dumps(state, sort_keys=True)
    return np.frombuffer(text.encode(), np.uint8).copy()
