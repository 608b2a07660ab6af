"""``overlay.mp4``: the frames with their outlines, the curve so far, and the notice. H.264."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.apps.drawing import clock
from retain.apps.segment.words import NOTICE, area_text, doubt, percent, volume_text
from retain.apps.video import ToYuv
from retain.models.gdkvm.place import masks_on_frame, outlines
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Masks, Vitals

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLOURS = {"cavity": (98, 171, 255), "myocardium": (242, 171, 75), "atrium": (199, 155, 255)}
Label = NDArray[np.uint8]

FILL = 0.22
"""How much of a label's colour its pixels take."""

MIN_HEIGHT, MAX_HEIGHT, MAX_WIDTH, MIN_WIDTH = 480, 1080, 1920, 400
STRIP = 104
"""Pixels under the picture, for the notice, the numbers and the curve."""
SPARK_S = 6.0
TICKS = 90_000
"""Of the video's clock, per second: frames keep their own times."""
KEYFRAMES = 48

BACKGROUND, TEXT, FAINT = (17, 19, 24), (232, 234, 240), (140, 146, 160)
ALARM = (255, 143, 134)


class Overlay:
    """Writes the video frame by frame; its size is set by the first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container: Any = None
        self._stream: Any = None
        self._to_yuv = ToYuv()
        self._size = (0, 0)
        """Of the picture, (height, width), without the strip."""
        self._start_s = math.nan
        self._pts = -1
        self._spark: deque[tuple[float, float]] = deque()

    def add(self, frame: Frame, masks: Masks, label: Label, vitals: Vitals) -> None:
        """Append a frame. ``label``: uint8 [H, W], its labels."""
        if self._container is None:
            self._open(frame)
        if frame.discontinuity:
            self._spark.clear()
        self._spark.append((frame.seconds, vitals.area))
        while frame.seconds - self._spark[0][0] > SPARK_S:
            self._spark.popleft()
        picture = self._fitted(draw(frame.image, masks, label, self._scale(frame)))
        still = np.concatenate((picture, self._strip(frame, vitals)))
        video = self._to_yuv(still)
        self._pts = max(self._pts + 1, round((frame.seconds - self._start_s) * TICKS))
        video.pts, video.time_base = self._pts, Fraction(1, TICKS)
        self._container.mux(self._stream.encode(video))

    def close(self) -> None:
        """Finish the file. Safe to call twice."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def _open(self, frame: Frame) -> None:
        import av

        scale = self._scale(frame)
        width = max(MIN_WIDTH, frame.width * scale)
        self._size = 2 * round(frame.height * scale / 2), 2 * round(width / 2)
        self._start_s = frame.seconds
        options = {"preset": "veryfast", "crf": "20"}
        self._container = av.open(
            str(self._path), "w", format="mp4", options={"movflags": "+faststart"}
        )
        self._container.metadata["comment"] = NOTICE
        self._stream = stream = self._container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = (
            self._size[1],
            self._size[0] + STRIP,
            "yuv420p",
        )
        context = stream.codec_context
        context.time_base = stream.time_base = Fraction(1, TICKS)
        context.gop_size = KEYFRAMES
        # Players guess the matrix of untagged files by their size; so it is said.
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1

    def _scale(self, frame: Frame) -> float:
        """Small pictures are enlarged, huge ones shrunk; later ones fit into the first's place."""
        if self._size[0]:
            return min(self._size[0] / frame.height, self._size[1] / frame.width)
        grown = max(1.0, MIN_HEIGHT / frame.height)
        return min(grown, MAX_HEIGHT / frame.height, MAX_WIDTH / frame.width)

    def _fitted(self, picture: Image) -> Image:
        """``picture`` in the middle of a ground of the video's size."""
        height, width = self._size
        picture = picture[:height, :width]
        if picture.shape[:2] == (height, width):
            return picture
        ground = np.zeros((height, width, 3), np.uint8)
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        ground[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        return ground

    def _strip(self, frame: Frame, vitals: Vitals) -> Image:
        from PIL import Image, ImageDraw

        width = self._size[1]
        strip = Image.new("RGB", (width, STRIP), BACKGROUND)
        pen = ImageDraw.Draw(strip)
        _head(pen, width, frame.seconds, vitals)
        _numbers(pen, vitals)
        self._curve(pen, width)
        return np.asarray(strip)

    def _curve(self, pen: ImageDraw, width: int) -> None:
        """The last seconds of the area, a dot at its end."""
        left, right, top, bottom = 190, width - 18, 38, STRIP - 14
        pen.line((left, bottom, right, bottom), fill=(52, 57, 68))
        known = [area for _, area in self._spark if area == area]
        if not known:
            return
        low, high = min(known), max(known)
        end = self._spark[-1][0]
        for run in _runs(self._spark):
            points = [
                (
                    right - (end - seconds) / SPARK_S * (right - left),
                    bottom - 4 - (area - low) / max(high - low, 1e-9) * (bottom - 8 - top),
                )
                for seconds, area in run
            ]
            if len(points) > 1:
                pen.line(points, fill=COLOURS["cavity"], width=2, joint="curve")
            if run[-1][0] == end:
                x, y = points[-1]
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=TEXT)


def draw(image: Image, masks: Masks, label: Label, scale: float = 1.0) -> Image:
    """``image`` (uint8 [H, W, 3]) times ``scale``, with its labels tinted and outlined.

    ``label``: uint8 [H, W], the labels of the frame as it is.
    """
    height, width = image.shape[:2]
    size = max(2, round(height * scale)), max(2, round(width * scale))
    picture = image.copy()
    if size != (height, width):
        way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        picture = np.asarray(cv2.resize(image, size[::-1], interpolation=way), np.uint8)
        label = masks_on_frame(masks, *size, (height, width))
    thick = max(1, round(size[0] / 360))
    for value, name in enumerate(masks.labels, 1):
        x, y, wide, tall = cv2.boundingRect((label == value).view(np.uint8))
        if not wide:
            continue
        part, colour = picture[y : y + tall, x : x + wide], COLOURS.get(name, TEXT)
        ground = np.full_like(part, colour)
        tinted = cv2.addWeighted(part, 1 - FILL, ground, FILL, 0)
        cv2.copyTo(tinted, (label[y : y + tall, x : x + wide] == value).view(np.uint8), part)
        cv2.polylines(picture, outlines(label, value), True, colour, thick, cv2.LINE_AA)
    return picture


def poster(path: Path, ticks: int) -> NDArray[np.uint8] | None:
    """The frame of an overlay video at a time of ``Overlay.add``; None when it cannot be read."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = stream.start_time or 0
        assert stream.time_base is not None
        at = start + round(ticks / TICKS / stream.time_base)
        container.seek(at, stream=stream)
        last = None
        for last in container.decode(stream):
            if last.pts is not None and last.pts >= at:
                break
        return None if last is None else np.asarray(last.to_ndarray(format="rgb24"), np.uint8)


def _head(pen: ImageDraw, width: int, seconds: float, vitals: Vitals) -> None:
    """The notice, the first doubt and the time."""
    from PIL import ImageFont

    font = ImageFont.load_default(14)
    pen.rectangle((0, 0, width, 26), fill=(40, 26, 26))
    pen.text((12, 13), NOTICE, ALARM, font, anchor="lm")
    pen.text((width - 12, 13), clock(seconds), FAINT, font, anchor="rm")
    if vitals.flags:
        left = 12 + pen.textlength(NOTICE, font)
        room = width - 24 - pen.textlength(clock(seconds), font) - left
        text = f"  ·  doubtful: {doubt(vitals.flags[0])}"
        while pen.textlength(text, font) > room and len(text) > 1:
            text = f"{text[:-2]}…"
        pen.text((left, 13), text, TEXT, font, anchor="lm")


def _numbers(pen: ImageDraw, vitals: Vitals) -> None:
    from PIL import ImageFont

    large, small = ImageFont.load_default(20), ImageFont.load_default(13)
    text = area_text(vitals.area, vitals.unit).replace("–", "-")
    unit, found, _ = text.partition("²")  # the font has no raised two
    pen.text((12, 48), unit, TEXT, large, anchor="lm")
    if found:
        pen.text((13 + pen.textlength(unit, large), 42), "2", TEXT, small, anchor="lm")
    pen.text(
        (12, 67), volume_text(vitals.volume, vitals.unit).strip("–"), FAINT, small, anchor="lm"
    )
    beats = f" · {len(vitals.beats)} beats" if len(vitals.beats) > 1 else ""
    ef = f"EF {percent(vitals.ef)}{beats}" if vitals.beats else "EF: no whole beat yet"
    pen.text((12, 87), ef, TEXT, small, anchor="lm")


def _runs(
    points: Sequence[tuple[float, float]] | deque[tuple[float, float]],
) -> Iterator[list[tuple[float, float]]]:
    """Stretches where the area is known."""
    run: list[tuple[float, float]] = []
    for point in points:
        if point[1] == point[1]:
            run.append(point)
        elif run:
            yield run
            run = []
    if run:
        yield run
