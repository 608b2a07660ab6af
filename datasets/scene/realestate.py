"""RealEstate10K (Zhou et al., SIGGRAPH 2018): camera paths of videos, from structure from motion.

A path is a text file: the video's address, then 19 numbers a line: time in microseconds, fx fy cx
cy as parts of the picture's width and height, two zeros, and world to camera in 3 rows of 4. The
pictures are the user's to get: a folder of the file's name beside it, with ``TIME.png`` (or .jpg)
for each line, or a video of that name. The length of one unit is arbitrary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retain.datasets.clips import Clip
from retain.datasets.scene.lens import Lens
from retain.datasets.scene.pictures import (
    Entry,
    PictureScene,
    Size,
    check_shape,
    numbered,
    picture_size,
    pose,
    reading,
)
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Image
from retain.pipeline.sources.common import check_file

_VIDEOS = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_MOST_S = 1 / 30
"""How far the picture of a video may be from the time of its line."""


class RealEstate(PictureScene):
    """A path and its pictures. ``Shot.seq`` is the place of the line in the file."""

    KEYS = ("*.txt",)

    def __init__(self, path: str | Path, size: Size = (0, 0)) -> None:
        path = Path(path)
        lines = _lines(path)
        self._clip: Clip | None = None
        folder = path.with_suffix("")
        video = next((v for end in _VIDEOS if (v := path.with_suffix(end)).is_file()), None)
        if folder.is_dir():
            images = numbered(folder, r"(\d+)\.(?:png|jpe?g)")
            pictures = [images.get(int(line[0])) for line in lines]
            first = next((picture for picture in pictures if picture is not None), None)
            shape = (1, 1) if first is None else picture_size(first)
        elif video is not None:
            self._clip = Clip(video)
            shape = self._clip.info.width, self._clip.info.height
            self._places = _nearest(self._clip, lines)
            pictures = [None if place < 0 else video for place in self._places]
        else:
            raise SourceError(
                SourceFault.NOT_FOUND,
                f"The pictures of {str(path)!r} are not there: neither a folder {folder.name!r} "
                f"nor a video of that name ({', '.join(_VIDEOS)}).",
                hint="The data set holds camera paths only; its videos are to be got from where "
                "its first line says.",
            )
        with reading(path):
            entries = [
                _entry(seq, line, picture, shape)
                for seq, (line, picture) in enumerate(zip(lines, pictures, strict=True))
                if picture is not None
            ]
        lost = len(lines) - len(entries)
        super().__init__(
            f"RealEstate10K path {path.stem!r}",
            entries,
            notes=[f"{lost} of {len(lines)} lines have no picture."] * bool(lost),
            metric=False,
            size=size,
        )

    @staticmethod
    def recognises(path: Path) -> bool:
        if path.suffix != ".txt" or not path.is_file():
            return False
        with path.open("rb") as file:
            address, line = file.readline(512), file.readline(1024)
        return address.startswith(b"http") and len(line.split()) == 19

    def _image(self, entry: Entry) -> Image:
        if self._clip is None:
            return super()._image(entry)
        image: Image = self._clip.frames([self._places[entry.seq]])[0]
        check_shape(entry.image, image.shape[1], image.shape[0], entry.lens.camera)
        return image


def _lines(path: Path) -> list[list[float]]:
    check_file(path)
    with reading(path):
        rows = [line.split() for line in path.read_text().splitlines()[1:] if line.strip()]
        for number, row in enumerate(rows, 2):
            if len(row) != 19:
                raise ValueError(f"line {number} has {len(row)} numbers, not 19")
        lines = sorted([float(word) for word in row] for row in rows)
        if not np.isfinite([line[0] for line in lines]).all():
            raise ValueError("a time is not finite")
        return lines


def _entry(seq: int, line: Sequence[float], picture: Path, shape: Size) -> Entry:
    micros, fx, fy, cx, cy = line[:5]
    width, height = shape
    camera = Camera(fx * width, fy * height, cx * width, cy * height, width, height)
    w2c = pose(line[7:])
    c2w = None if w2c is None else rigid.inverse(w2c)
    return Entry(seq, micros / 1e6, picture, Lens(camera), c2w=c2w)


def _nearest(clip: Clip, lines: Sequence[Sequence[float]]) -> list[int]:
    """Number of the picture of ``clip`` for each line; -1 where none is near its time."""
    seconds = np.asarray(clip.times * float(clip.time_base), np.float64)
    places = []
    for line in lines:
        gaps = np.abs(seconds - line[0] / 1e6)
        places.append(int(gaps.argmin()) if len(gaps) and gaps.min() <= _MOST_S else -1)
    return places
