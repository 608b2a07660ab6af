"""Pictures as a video that any browser plays: H.264, yuv420p, index first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from retain.pipeline.frame import Image


class ToYuv:
    """Pictures uint8 [H, W, 3] RGB, even sides, to frames that an encoder takes.

    One scaler for all of a video: it is set up once. The frame it reads is the picture itself;
    PyAV's ``from_ndarray`` copies it in twice the time that the conversion takes.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._scaler = VideoReformatter()

    def __call__(self, image: Image) -> Any:
        import av
        from av.video.reformatter import Colorspace

        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format="rgb24")
        return self._scaler.reformat(
            picture, format="yuv420p", dst_colorspace=Colorspace.ITU709, threads=1
        )


class Video:
    """Pictures of one size, ``fps`` a second. See ``video``."""

    def __init__(self, container: Any, fps: int) -> None:
        self._container, self._fps, self._to_yuv = container, fps, ToYuv()
        self._stream: Any = None
        self.frames = 0

    def add(self, image: Image, times: int = 1) -> None:
        """Show ``image`` (uint8 [H, W, 3] RGB; odd sides lose a line) for so many frames."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._stream is None:
            self._stream = _stream(self._container, self._fps, width, height)
        picture = self._to_yuv(image[:height, :width])
        for _ in range(times):
            picture.pts, picture.time_base = self.frames, Fraction(1, self._fps)
            self._container.mux(self._stream.encode(picture))
            self.frames += 1

    def finish(self) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def video(path: str | Path, fps: int) -> Iterator[Video]:
    """Write the file ``path`` (mp4); it is whole when the block ends."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        written = Video(container, fps)
        yield written
        written.finish()


def _stream(container: Any, fps: int, width: int, height: int) -> Any:
    stream = container.add_stream("libx264", rate=fps, options={"preset": "superfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    # Players guess the matrix of untagged files by their size; so it is said.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1
    return stream


class TimedVideo:
    """A video whose pictures keep their own times. All are of the first one's size."""

    TICKS = 90_000
    """Of its clock, per second."""
    _KEYFRAMES = 48

    def __init__(self, path: str | Path, comment: str = "") -> None:
        self._path, self._comment = path, comment
        self._container: Any = None
        self._stream: Any = None
        self._to_yuv = ToYuv()
        self._start_s, self._pts = 0.0, -1

    def add(self, image: Image, seconds: float) -> None:
        """Show ``image`` (uint8 [H, W, 3] RGB, even sides) from a presentation time on. A time that
        does not rise is moved a tick past the one before."""
        if self._container is None:
            self._open(image, seconds)
        picture = self._to_yuv(image)
        self._pts = max(self._pts + 1, round((seconds - self._start_s) * self.TICKS))
        picture.pts, picture.time_base = self._pts, Fraction(1, self.TICKS)
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file. Safe to call twice."""
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def _open(self, image: Image, seconds: float) -> None:
        import av

        flags = {"movflags": "+faststart"}
        self._container = av.open(str(self._path), "w", format="mp4", options=flags)
        self._container.metadata["comment"] = self._comment
        self._stream = _stream(self._container, 30, image.shape[1], image.shape[0])
        context = self._stream.codec_context
        context.time_base = self._stream.time_base = Fraction(1, self.TICKS)
        context.gop_size = self._KEYFRAMES
        self._start_s = seconds
