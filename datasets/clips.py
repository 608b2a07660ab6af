"""Random access to the frames of a video file, for datasets that sample clips.

decord is fast at this and not to be trusted alone: on some files its frame count, times or pictures
are wrong without an error (B-frames in AVI, rotation, damaged packets). So it is used only where
its count and times agree with the container's and its first picture with PyAV's; otherwise PyAV
does the work, and the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Image
from retain.pipeline.sources.common import check_file
from retain.pipeline.sources.video import VideoSource

log = logging.getLogger(__name__)

_PICTURE_TOLERANCE = 3.0
"""Mean absolute difference in grey levels; another chroma filter stays below, another picture or
colour matrix does not."""


class Clip:
    """Frames of one video file by number. Use as a context manager, or call ``close``.

    path      a video file
    verify    decode the whole file once while opening, and raise SourceError(BROKEN) when it is
              damaged. Without it decord may hand out a neighbour for a picture it could not decode

    ``len(clip)`` counts the frames that the container holds; ``times`` has one entry for each, in
    ticks of ``time_base``, strictly rising; ``backend`` is ``"decord"`` or ``"pyav"``. Opening
    raises SourceError as VideoSource does.
    """

    def __init__(self, path: str | Path, verify: bool = False) -> None:
        self.path = Path(path)
        check_file(self.path)
        with closing(VideoSource(str(self.path))) as source:
            self.info = source.open()
            first = next(source.frames())
        self.time_base: Fraction = first.time_base
        self._shape = first.image.shape
        self.times: NDArray[np.int64] = _times(self.path)
        """int64 [N]: presentation times in ticks of ``time_base``."""
        self._decord = self._trusted(first.image)
        if verify:
            _verify(self.path)

    @property
    def backend(self) -> Literal["decord", "pyav"]:
        return "pyav" if self._decord is None else "decord"

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Frames with these numbers, uint8 [T, H, W, 3] RGB, in the order asked for.

        Numbers may repeat. Raises IndexError for one outside 0..len-1, and SourceError when damage
        left no picture for one, or the size changes between them.
        """
        wanted = [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < len(self):
                raise IndexError(f"frame {index} of {self.path.name}: it has 0..{len(self) - 1}")
        if not wanted:
            return np.empty((0, *self._shape), np.uint8)
        if self._decord is not None:
            try:
                batch: NDArray[np.uint8] = self._decord.get_batch(wanted).asnumpy()
                return batch
            except Exception as error:  # decord raises exceptions of several kinds
                self._distrust(f"decord failed while reading ({type(error).__name__})")
        return self._with_pyav(wanted)

    def _with_pyav(self, wanted: Sequence[int]) -> NDArray[np.uint8]:
        """Decode from the start up to the last frame wanted: slow, but every picture is right."""
        numbers = {int(self.times[index]): index for index in wanted}
        found: dict[int, Image] = {}
        last = int(self.times[max(wanted)])
        broken: SourceError | None = None
        with closing(VideoSource(str(self.path))) as source:
            try:
                for frame in source.frames():
                    if frame.pts in numbers:
                        found[numbers[frame.pts]] = frame.image
                    if frame.pts >= last:
                        break
            except SourceError as error:
                broken = error
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(self.path)!r} has no picture for frame {missing[0]}"
                f"{'' if broken is None else ': ' + broken.what}",
                hint="Leave this file out, or get it again.",
            )
        if len({image.shape for image in found.values()}) > 1:
            raise SourceError(
                SourceFault.BROKEN,
                f"{str(self.path)!r} changes its size within the frames asked for.",
                hint="Ask for frames of one size at a time.",
            )
        return np.stack([found[index] for index in wanted])

    def _trusted(self, first: Image) -> Any:
        """A decord reader that passed the checks, or None."""
        try:
            import decord
        except (ImportError, OSError):  # no wheel for this platform
            self._distrust("decord is not installed")
            return None
        try:
            reader = decord.VideoReader(str(self.path), ctx=decord.cpu(0), num_threads=1)
            count = len(reader)
            if count != len(self):
                self._distrust(f"decord counts {count} frames, the container {len(self)}")
                return None
            starts = np.asarray(reader.get_frame_timestamp(range(count)), np.float64)[:, 0]
            picture = reader[0].asnumpy()
        except Exception as error:  # decord raises exceptions of several kinds
            self._distrust(f"decord cannot read it ({type(error).__name__})")
            return None
        if not self._same_times(starts):
            self._distrust("decord's times differ from the container's")
            return None
        if picture.shape != first.shape or (
            np.abs(picture.astype(np.int16) - first).mean() > _PICTURE_TOLERANCE
        ):
            self._distrust("decord's first picture differs from PyAV's")
            return None
        return reader

    def _same_times(self, starts: NDArray[np.float64]) -> bool:
        """Whether frame n begins when the container says, to a quarter of the shortest interval."""
        seconds = (self.times - self.times[0]) * float(self.time_base)
        shortest = float(np.diff(seconds).min()) if len(seconds) > 1 else 1.0
        return bool(np.all(np.abs(starts - starts[0] - seconds) <= shortest / 4))

    def _distrust(self, why: str) -> None:
        self._decord = None
        log.warning("%s: %s; reading with PyAV instead, which is slower", self.path, why)

    def close(self) -> None:
        self._decord = None

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _times(path: Path) -> NDArray[np.int64]:
    """Presentation times of all frames, from the container's packets without decoding them.

    Where the packets do not tell (AVI, raw streams, broken clocks) the file is decoded once.
    """
    import av

    times: list[int | None] = []
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        declared = container.streams.video[0].frames
        try:
            if container.format.name != "avi":
                times = list(_packet_times(container))
        except av.FFmpegError as error:
            log.warning("%s: reading stops early (%s)", path, error.strerror)
            times = []
    known = sorted(pts for pts in times if pts is not None)
    if times and len(times) == (declared or len(times)) and len(set(known)) == len(times):
        return np.array(known, np.int64)
    return _decoded_times(path)


def _packet_times(container: Any) -> Iterator[int | None]:
    for packet in container.demux(video=0):
        if packet.size and not packet.is_discard:
            yield packet.pts


def _decoded_times(path: Path) -> NDArray[np.int64]:
    times: list[int] = []
    with closing(VideoSource(str(path))) as source:
        try:
            for frame in source.frames():
                times.append(frame.pts)
        except SourceError as error:
            log.warning("%s", error)
    return np.array(times, np.int64)


def _verify(path: Path) -> None:
    """Decode everything, converting next to nothing. Raises SourceError(BROKEN) on damage."""
    with closing(VideoSource(str(path), fps=0.001)) as source:
        for _ in source.frames():
            pass
