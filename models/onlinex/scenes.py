"""Training sequences from procedural rooms (``datasets.scene.room``).

A room costs a third of a second before its first picture (its light is baked) and each small
picture three milliseconds. So a pool of rooms is drawn once, kept on disk and mapped into memory:
of each a path of half steps, 1 to 4 cm and 0.5 to 3 degrees. A sequence takes every second or third
place of a path, forwards or backwards; the places it leaves out are views nobody has seen, to be
judged on. What a camera does to its pictures (exposure, white balance, noise) is drawn with the
sequence and is on the input alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.datasets.scene.room import Room
from retain.kernels.geometry import rigid
from retain.pipeline.errors import UsageError

Split = Literal["train", "test"]
Tell = Callable[[int, int], None]
_FIRST_SEED: dict[str, int] = {"train": 3_000_000, "test": 2_000_000}
"""Of a split's rooms; other rooms of the project have smaller ones."""
_FOV_DEG = (55.0, 75.0)
_STRIDES = (2, 3)
"""Half steps between frames: a camera's usual pace, and half as fast again."""
_GAIN, _DRIFT, _BALANCE = 0.12, 0.05, 0.04
"""Deviations of the logarithms: of a sequence's gain, its change, each colour's gain."""
_DARK, _BRIGHT = 1.2 / 255, 1.6 / 255
"""Noise of a dark pixel, and what a white one has more."""
_VERSION = 1
"""Of what a pool's files hold: one of another version is drawn anew."""


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """A pool of rooms. Raises UsageError for what cannot be drawn."""

    side: int = 64
    """Of the square pictures, pixels."""
    rooms: int = 256
    frames: int = 64
    """Full steps of a room's path; it has twice as many pictures, less one."""
    split: Split = "train"
    first: int = 0
    """Number of the first room within the split."""

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise UsageError(f"A split of rooms is train or test, not {self.split!r}.")
        if min(self.rooms, self.frames - 1) < 1 or self.side < 8:
            raise UsageError("A pool needs a room, two frames and 8 pixels at least.")

    @property
    def places(self) -> int:
        """Pictures of a room."""
        return 2 * self.frames - 1

    def seed(self, room: int) -> int:
        return _FIRST_SEED[self.split] + self.first + room


@dataclass(frozen=True, slots=True)
class Views:
    """What cameras see; poses relative to the sequence's first camera, OpenCV axes, metres."""

    images: Tensor
    """float32 [B, T, 3, S, S], 0..1."""
    c2w: Tensor
    """float32 [B, T, 4, 4]."""
    depth: Tensor
    """float32 [B, T, S, S], along z."""
    labels: Tensor
    """uint8 [B, T, S, S]; see ``room_classes``."""

    def to(self, device: str | torch.device) -> Views:
        return Views(*(getattr(self, name).to(device) for name in Views.__slots__))


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences, all of B with T frames."""

    images: Tensor
    """float32 [B, T, 3, S, S], 0..1: what the network is given."""
    clean: Tensor
    """float32 [B, T, 3, S, S]: without exposure and noise."""
    K: Tensor
    """float32 [B, 3, 3], pixels; the centre of the first pixel is at 0.5."""
    c2w: Tensor
    """float32 [B, T, 4, 4], camera to first camera."""
    depth: Tensor
    """float32 [B, T, S, S] metres along z."""
    labels: Tensor
    """uint8 [B, T, S, S]."""
    between: Views
    """[B, T - 1, ...]: one view from between every two frames, clean."""

    @property
    def seen(self) -> Views:
        """The frames themselves, clean."""
        return Views(self.clean, self.c2w, self.depth, self.labels)

    def to(self, device: str | torch.device) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in Batch.__slots__))


class Pool:
    """Drawn rooms. ``arrays``: images uint8 [R, P, S, S, 3], depth float16 [R, P, S, S], labels
    uint8 [R, P, S, S], poses float64 [R, P, 4, 4] c2w, K float64 [R, 3, 3]."""

    def __init__(self, config: SceneConfig, arrays: dict[str, NDArray[Any]]) -> None:
        self.config, self._arrays = config, arrays

    def draw(self, batch: int, frames: int, seed: int, jitter: bool = True) -> Batch:
        """``batch`` sequences of ``frames`` from rooms, places, directions and paces drawn by
        ``seed``. Raises UsageError when no path is as long."""
        rng = np.random.default_rng([seed, 0x0711])
        rooms = rng.integers(self.config.rooms, size=batch)
        strides = rng.choice([s for s in _STRIDES if self._fits(frames, s)] or [0], size=batch)
        if not strides.all():
            raise UsageError(f"Paths of {self.config.frames} frames have no {frames} in a row.")
        spare = self.config.places - (frames - 1) * strides
        starts = rng.integers(spare)
        backwards = rng.random(batch) < 0.5
        starts = np.where(backwards, starts + (frames - 1) * strides, starts)
        steps = np.where(backwards, -strides, strides)
        # Of three half steps one of the two places between, of two the only one.
        offset = np.sign(steps)[:, None] * rng.integers(1, strides[:, None], (batch, frames - 1))
        made = self._sequences(rooms, starts, steps, frames, offset)
        if not jitter:
            return made
        images = _photographed(made.clean, torch.Generator().manual_seed(seed))
        return Batch(images, *(getattr(made, name) for name in Batch.__slots__[1:]))

    def whole(self, rooms: NDArray[np.integer], frames: int) -> Batch:
        """The first ``frames`` full steps of ``rooms`` [B], as they are."""
        steps = np.full(len(rooms), 2)
        offset = np.ones((len(rooms), frames - 1), int)
        return self._sequences(np.asarray(rooms), np.zeros(len(rooms), int), steps, frames, offset)

    def _fits(self, frames: int, stride: int) -> bool:
        return (frames - 1) * stride < self.config.places

    def _sequences(
        self,
        rooms: NDArray[np.integer],
        starts: NDArray[np.integer],
        steps: NDArray[np.integer],
        frames: int,
        offset: NDArray[np.integer],
    ) -> Batch:
        places = starts[:, None] + steps[:, None] * np.arange(frames)
        origin = rigid.inverse(self._arrays["poses"][rooms, starts])
        seen = self._views(rooms, places, origin)
        between = self._views(rooms, places[:, :-1] + offset, origin)
        K = torch.from_numpy(self._arrays["K"][rooms]).float()
        return Batch(seen.images, seen.images, K, seen.c2w, seen.depth, seen.labels, between)

    def _views(
        self, rooms: NDArray[np.integer], places: NDArray[np.integer], origin: NDArray[np.float64]
    ) -> Views:
        at = (rooms[:, None], places)
        images = torch.from_numpy(self._arrays["images"][at]).permute(0, 1, 4, 2, 3)
        c2w = origin[:, None] @ self._arrays["poses"][at]
        return Views(
            images.float() / 255,
            torch.from_numpy(c2w).float(),
            torch.from_numpy(self._arrays["depth"][at]).float(),
            torch.from_numpy(self._arrays["labels"][at]),
        )


def open_pool(
    config: SceneConfig,
    cache: Path | None = None,
    tell: Tell = lambda done, of: None,
    threads: int = 1,
) -> Pool:
    """The pool of ``config``: from ``cache``, where it is kept once drawn (25 kB a picture of 64
    pixels); None: drawn now, in memory. ``tell`` hears how many rooms are done."""
    if cache is None:
        arrays = {name: np.zeros(*spec) for name, spec in _layout(config).items()}
        _fill(config, arrays, tell, threads)
        return Pool(config, arrays)
    place = cache / f"rooms-{config.split}-{config.side}-{_key(config)}"
    if not place.exists():
        _make(config, place, tell, threads)
    return Pool(config, {name: np.load(place / f"{name}.npy", "r") for name in _layout(config)})


def draw(config: SceneConfig, batch: int, frames: int, seed: int) -> Batch:
    """Sequences of a pool that is drawn for them, in memory: for small ones."""
    return open_pool(config).draw(batch, frames, seed)


def _layout(config: SceneConfig) -> dict[str, tuple[tuple[int, ...], Any]]:
    many, side = (config.rooms, config.places), config.side
    return {
        "images": ((*many, side, side, 3), np.uint8),
        "depth": ((*many, side, side), np.float16),
        "labels": ((*many, side, side), np.uint8),
        "poses": ((*many, 4, 4), np.float64),
        "K": ((config.rooms, 3, 3), np.float64),
    }


def _key(config: SceneConfig) -> str:
    known = json.dumps([asdict(config), _VERSION], sort_keys=True)
    return hashlib.sha256(known.encode()).hexdigest()[:12]


def _make(config: SceneConfig, place: Path, tell: Tell, threads: int) -> None:
    """Drawn beside its place and moved there when whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        arrays: dict[str, Any] = {
            name: np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                partial / f"{name}.npy", "w+", dtype, shape
            )
            for name, (shape, dtype) in _layout(config).items()
        }
        _fill(config, arrays, tell, threads)
        for array in arrays.values():
            array.flush()
        del arrays
        if not place.exists():  # else someone was faster
            partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(config: SceneConfig, arrays: dict[str, NDArray[Any]], tell: Tell, threads: int) -> None:
    def one(number: int) -> None:
        room = drawn_room(config, number)
        for place in range(config.places):
            truth = room.truth(place)
            arrays["images"][number, place] = truth.image
            arrays["depth"][number, place] = truth.depth
            arrays["labels"][number, place] = truth.labels
        arrays["poses"][number] = room.poses
        arrays["K"][number] = room.camera.K

    if threads == 1:
        for number in range(config.rooms):
            one(number)
            tell(number + 1, config.rooms)
        return
    with ThreadPoolExecutor(threads) as workers:
        for number, _ in enumerate(workers.map(one, range(config.rooms))):
            tell(number + 1, config.rooms)


def drawn_room(config: SceneConfig, number: int) -> Room:
    """Room ``number`` of a pool, its path of half steps."""
    seed = config.seed(number)
    fov = float(np.random.default_rng([seed, 0xF0F]).uniform(*_FOV_DEG))
    room = Room(seed, config.frames, config.side, config.side, kind=None, fov_deg=fov)
    room.plan  # noqa: B018  (furnished around the path as it was, before places are added to it)
    room.poses = halved(room.poses)
    return room


def halved(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2 N - 1, 4, 4] of poses [N, 4, 4]: the one half-way between every two is added."""
    out = np.empty((2 * len(poses) - 1, 4, 4))
    out[::2] = poses
    for i, (a, b) in enumerate(pairwise(poses)):
        out[2 * i + 1] = a @ rigid.exp(rigid.log(rigid.inverse(a) @ b) / 2)
    return out


def _photographed(clean: Tensor, generator: torch.Generator) -> Tensor:
    """``clean`` [B, T, 3, S, S] as a camera would take it: gains that drift along the sequence,
    then noise. Values are of display gamma 2, so a gain counts by its root."""
    batch, frames = clean.shape[:2]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    along = torch.linspace(-0.5, 0.5, frames)[None, :, None]
    gain = _GAIN * normal(batch, 1, 1) + _DRIFT * normal(batch, 1, 1) * along
    gain = gain + _BALANCE * normal(batch, 1, 3)
    level = (clean * torch.exp(gain / 2)[..., None, None]).clamp(0, 1)
    noise = torch.randn(clean.shape, generator=generator)
    return (level + noise * (_DARK + _BRIGHT * level.sqrt())).clamp(0, 1)
