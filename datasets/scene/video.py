"""Videos and pictures with nothing beside them: a scene without depth and poses."""

from __future__ import annotations

import math
from pathlib import Path

from retain.datasets.clips import Clip
from retain.datasets.scene.base import Shot
from retain.datasets.scene.lens import Lens, resize_image
from retain.datasets.scene.pictures import (
    RATE,
    Entry,
    PictureScene,
    Size,
    check_shape,
    check_size,
    resized,
)
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import MAX_SIDE, Image
from retain.pipeline.sources.images import list_images, read_image

Numbers = tuple[float, float, float, float]
"""fx, fy, cx, cy."""
FIELD = 60.0
"""Degrees across: about what phones and webcams see."""


class VideoScene:
    """The frames of a video file.

    camera   fx, fy, cx, cy in pixels of the stored frames; None: assumed from ``field``
    field    degrees that the longer side of the picture spans

    Raises SourceError as Clip does.
    """

    metric = False

    def __init__(
        self,
        path: str | Path,
        size: Size = (0, 0),
        camera: Numbers | None = None,
        field: float = FIELD,
    ) -> None:
        self._clip = Clip(path)
        self._size = check_size(size)
        self._camera = plain_camera(self._clip.info.width, self._clip.info.height, camera, field)
        self._name = Path(path).name
        self.notes = () if camera else (assumed(self._camera, field),)

    @property
    def description(self) -> str:
        return f"video {self._name!r}, {len(self)} pictures"

    def __len__(self) -> int:
        return len(self._clip)

    def __getitem__(self, index: int) -> Shot:
        index = range(len(self))[index]
        camera = resized(self._camera, self._size)
        image = resize_image(self._clip.frames([index])[0], camera.width, camera.height)
        seconds = float(self._clip.times[index] * self._clip.time_base)
        return Shot(index, seconds, image, camera)


class PlainPictures(PictureScene):
    """The pictures of a folder or pattern, all of one size, in natural order, upright (nothing has
    been calibrated on their pixels). ``camera`` and ``field`` as in VideoScene. Raises SourceError
    as ``list_images`` does."""

    def __init__(
        self,
        where: str,
        size: Size = (0, 0),
        camera: Numbers | None = None,
        field: float = FIELD,
    ) -> None:
        images = list_images(where)
        height, width, _ = read_image(images[0], MAX_SIDE).shape
        known = plain_camera(width, height, camera, field)
        super().__init__(
            f"pictures of {where!r}",
            [Entry(seq, seq / RATE, image, Lens(known)) for seq, image in enumerate(images)],
            notes=() if camera else (assumed(known, field),),
            metric=False,
            size=size,
        )

    def _image(self, entry: Entry) -> Image:
        image = read_image(entry.image, MAX_SIDE)
        check_shape(entry.image, image.shape[1], image.shape[0], entry.lens.camera)
        return image


def plain_camera(
    width: int,
    height: int,
    given: Numbers | None = None,
    field: float = FIELD,
) -> Camera:
    """The camera of pictures of which only so much is known. Raises UsageError for numbers that
    are none."""
    if given is not None:
        try:
            return Camera(*given, width, height)
        except ValueError as error:
            raise UsageError(f"The camera does not fit: {error}") from None
    focal = max(width, height) / 2 / math.tan(math.radians(field) / 2)
    return Camera(focal, focal, width / 2, height / 2, width, height)


def assumed(camera: Camera, field: float) -> str:
    """What ``plain_camera`` made up, in a sentence."""
    return (
        f"The camera is not known; a field of view of {field:g} degrees is assumed, a focal length "
        f"of {camera.fx:.0f} pixels at {camera.width}x{camera.height}."
    )
