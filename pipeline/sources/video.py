"""Video files and network streams through PyAV (FFmpeg): exact times, honest ends.

How damage is told from a normal end: see ``damage.py``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import MAX_SIDE, Frame, Image, MetaValue
from retain.pipeline.sources.blocks import Window
from retain.pipeline.sources.common import (
    RisingTimes,
    Sampler,
    check_file,
    integer,
    is_url,
    local_path,
    number,
    text,
)
from retain.pipeline.sources.damage import Tally
from retain.pipeline.sources.faults import explain
from retain.pipeline.sources.rgb import ToRgb, check_side, orientation
from retain.pipeline.sources.stored import is_stored, open_stored, shown
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

_TEXT_CODECS = frozenset(("ansi", "bintext", "xbin", "idf"))
"""FFmpeg draws text files as video; nobody who passes one means that."""
_DEFAULT_STEP_S = Fraction(1, 25)
_JUMP_S = 1
"""Seconds: a larger jump back in time is a clock that started anew, not pictures out of order."""


class VideoSource:
    """A video file, also in a shard or store (``stored.py``), or an rtsp, rtmp, http(s), udp, tcp
    or srt address.

    source    path or address
    stream    name of the stream in every Frame
    fps       at most so many frames per second of presentation time; 0 keeps every frame. Frames
              not kept are decoded but never converted
    limit     stop after so many frames; 0 reads to the end
    timeout   seconds that opening, and then each read, of an address may take
    threads   decoder threads
    max_side  pixels; larger pictures are refused with SourceFault.TOO_LARGE

    Frames carry the container's integer pts and time base. ``meta`` holds ``pixel_aspect`` (width
    by height of one pixel, as "128/117") where pixels are not square, and ``corrupt`` on pictures
    the decoder marks as damaged. Damage never looks like a normal end: every decodable frame is
    delivered, then SourceError(BROKEN) is raised.
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        threads: int = 1,
        max_side: int = 8192,
    ) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self.timeout = number("timeout", timeout, 0.1, 3600)
        self.threads = integer("threads", threads, 1, 64)
        self.max_side = integer("max_side", max_side, 1, MAX_SIDE)
        self.name = shown(self.source)
        self._stored = is_stored(self.source)
        self._url = is_url(self.source) and not self._stored
        """Whether FFmpeg makes a connection of its own."""
        self._file: Window | None = None
        self.sampler = Sampler(fps, limit)
        """Chooses the frames; whoever wraps this source may put another one here."""
        self._lock = threading.RLock()
        """Held while FFmpeg works; whoever closes never frees what another thread uses."""
        self._stop = False
        self._container: Any = None
        self._live = False
        self._tally = Tally()
        self._fault: SourceError | None = None
        self._times = RisingTimes(1, 1)
        self._delay: int | None = None

    def open(self) -> SourceInfo:
        """Connect and, for a file, decode the first frame. Raises SourceError."""
        if self._stored:
            self._file = open_stored(self.source, self.timeout)
        elif not self._url:
            check_file(local_path(self.source))
        with self._lock:
            started = time.monotonic()
            try:
                self._container = self._connect()
                self._video = self._pick_stream()
            except SourceError:
                self.close()
                raise
            except Exception as error:
                told = self._explain(error, time.monotonic() - started)
                self.close()
                raise told from None
            return self._describe()

    def _explain(self, error: Exception, waited: float, reading: bool = False) -> SourceError:
        head = None
        if self._file is not None:
            if self._file.fault is not None:
                return self._file.fault
            head = self._file.head(192)
        return explain(error, self.source, self.timeout, waited, reading, head)

    def _connect(self) -> Any:
        import av

        if self._file is not None:
            return av.open(self._file, metadata_errors="replace")
        if not self._url:  # "file:" keeps FFmpeg from reading a colon or a % in a name as syntax
            return av.open(f"file:{local_path(self.source)}", metadata_errors="replace")
        options = {"rtsp_transport": "tcp"} if self.source.lower().startswith("rtsp") else {}
        return av.open(
            self.source,
            options=options,
            timeout=(self.timeout, self.timeout),
            metadata_errors="replace",
        )

    def _pick_stream(self) -> Any:
        """The first real video stream, its decoder set up."""
        from av.stream import Disposition

        streams = self._container.streams
        videos = [s for s in streams.video if not s.disposition & Disposition.attached_pic]
        if not videos:
            kinds = sorted({s.type for s in streams})
            raise SourceError(
                SourceFault.NOT_VIDEO if kinds else SourceFault.EMPTY,
                f"{self.name!r} holds no video"
                + (f", only {' and '.join(kinds)}." if kinds else ": it has no streams at all."),
                hint="Give a file with pictures in it.",
            )
        video = videos[0]
        codec = video.codec_context
        if codec is None:
            raise SourceError(
                SourceFault.CODEC,
                f"{self.name!r} is coded in a way that this FFmpeg build cannot decode.",
                hint="Convert it, for example to H.264 in MP4.",
            )
        if codec.name in _TEXT_CODECS:
            raise SourceError(SourceFault.NOT_VIDEO, f"{self.name!r} is a text file, not a video.")
        check_side(codec.width, codec.height, self.max_side)
        codec.thread_count = self.threads
        codec.thread_type = "AUTO" if self.threads > 1 else "NONE"
        codec.options = {"max_pixels": str(self.max_side**2)}
        return video

    def _describe(self) -> SourceInfo:
        container, video = self._container, self._video
        self._format = container.format.name
        self._time_base: Fraction = video.time_base
        self._start = video.start_time or 0
        rate = video.average_rate or video.guessed_rate
        ticks = 1 / video.time_base
        step = round(ticks / rate) if rate else round(ticks * _DEFAULT_STEP_S)
        self._times = RisingTimes(step, round(ticks * _JUMP_S))
        if not self._url:
            self._tally.promise(container, video, *self._head())
        duration = video.duration * video.time_base if video.duration else 0
        if not duration and container.duration:
            duration = Fraction(container.duration, 1_000_000)
        scheme = self.source.partition("://")[0].lower()
        self._live = self._url and (scheme not in ("http", "https") or not duration)
        self._rgb = ToRgb(self.max_side)
        self._pictures = self._decode()
        self._first = None if self._url else self._prime()
        width, height = video.codec_context.width, video.codec_context.height
        aspect = video.sample_aspect_ratio or Fraction(1)
        if self._first is not None:
            width, height = self._first.width, self._first.height
            if orientation(self._first)[0]:
                width, height, aspect = height, width, 1 / aspect
        self._meta: dict[str, MetaValue] = {}
        if aspect != 1:
            self._meta["pixel_aspect"] = f"{aspect.numerator}/{aspect.denominator}"
        return SourceInfo(
            kind="live" if self._live else "finite",
            description=f"{self.name} ({video.codec_context.name} {width}x{height})",
            width=width,
            height=height,
            fps=float(rate or 0),
            declared_frames=video.frames,
            duration_s=float(duration),
        )

    def _head(self) -> tuple[bytes, int]:
        """The file's first bytes, and how many it has."""
        if self._file is not None:
            return self._file.head(4096), self._file.size
        with local_path(self.source).open("rb") as file:
            return file.read(4096), os.fstat(file.fileno()).st_size

    def _prime(self) -> Any:
        """The first picture, so that a file without one fails in ``open``."""
        first = next(self._pictures, None)
        if first is not None or self._stop:
            return first
        damage = self._tally.sentence(ended=not self.sampler.full)
        self.close()
        if self._file is not None and self._file.fault is not None:
            raise self._file.fault
        if damage:
            raise self._broken(damage)
        raise SourceError(
            SourceFault.EMPTY,
            f"{self.name!r} has a video stream, but not one frame in it.",
            hint="The recording stopped before its first picture; get the file again.",
        )

    def frames(self) -> Iterator[Frame]:
        """Frames with strictly rising pts. Raises SourceError when the stream breaks or stalls."""
        if self._stop:
            return
        if self._container is None:
            self.open()
        time_base = self._time_base
        try:
            while (picture := self._next()) is not None:
                pts = self._times.next(self._time_of(picture))
                if not self.sampler.keep(pts, time_base):
                    continue
                image = self._convert(picture)
                if image is None:
                    continue
                yield Frame(
                    self.stream,
                    self.sampler.kept - 1,
                    pts,
                    time_base,
                    image,
                    discontinuity=self._times.jumped,
                    meta={**self._meta, "corrupt": True} if picture.is_corrupt else self._meta,
                )
                if self.sampler.full:
                    break
            self._finish()
        finally:
            self.close()

    def _convert(self, picture: Any) -> Image | None:
        """RGB; None, and an error counted, for a damaged picture that swscale refuses."""
        import av

        try:
            return self._rgb(picture)
        except av.FFmpegError as error:
            log.debug("%s: frame %d: %s", self.name, self._tally.decoded, error.strerror)
            self._tally.errors += 1
            self.sampler.kept -= 1
            return None

    def _next(self) -> Any:
        first, self._first = self._first, None
        return first if first is not None else next(self._pictures, None)

    def _decode(self) -> Iterator[Any]:
        """Decoded pictures in presentation order; damage is noted and decoding goes on."""
        packets: Iterator[Any] | None = None
        draining = False
        while not draining:
            with self._lock:
                if self._stop:
                    return
                packets = packets or self._container.demux(self._video)
                packet = self._read(packets)
                draining = packet is None
                pictures = self._decode_packet(packet)
            for picture in pictures:
                self._tally.picture(picture)
                yield picture

    def _read(self, packets: Iterator[Any]) -> Any:
        """The next packet with content; None at the end or where reading fails."""
        import av

        started = time.monotonic()
        try:
            for packet in packets:
                self._tally.packet(packet)
                if self._url and time.monotonic() - started >= self.timeout:
                    # Reading has failed: this is what FFmpeg's parser still had. To ask for more
                    # would be to wait as long once again.
                    raise TimeoutError
                if packet.size:  # an empty one is a repeated picture (AVI) or the demuxer's end
                    return packet
        except (av.FFmpegError, OSError, SourceError) as error:
            self._fault = self._explain(error, time.monotonic() - started, reading=True)
            self._tally.reading_failed = True
        return None

    def _decode_packet(self, packet: Any) -> list[Any]:
        import av

        try:
            pictures: list[Any] = self._video.codec_context.decode(packet)
        except av.FFmpegError as error:
            self._tally.errors += 1
            log.debug("%s: packet %d: %s", self.name, self._tally.packets, error.strerror)
            return []
        return pictures

    def _time_of(self, picture: Any) -> int | None:
        """Presentation time in ticks.

        AVI stores no presentation times, and guesses go wrong with B-frames. Its decode times
        rise by one per picture, and pictures leave the decoder in presentation order, so the n-th
        decode time, less the decoder's delay, is the n-th picture's.
        """
        ticks: int | None = picture.pts
        if self._format == "avi":
            if self._delay is None:
                self._delay = (picture.dts or 0) - self._start
            last = self._times.last
            if picture.dts is not None:
                ticks = picture.dts - self._delay
            elif last is not None:  # the pictures the decoder still held when the file ended
                ticks = last + self._times.step
        return ticks

    def _finish(self) -> None:
        """Raise when the stream did not end well; say so in the log when only counts differ."""
        if self._stop:
            return
        fault = self._fault if self._url else self._file.fault if self._file is not None else None
        if fault is not None:
            fault.decoded = self.sampler.kept
            raise fault
        damage = self._tally.sentence(ended=not self.sampler.full)
        if damage and not self._live:
            raise self._broken(damage)
        tally = self._tally
        if tally.declared not in (0, tally.decoded) and not self.sampler.full:
            log.warning(
                "%s: the container declares %d frames, %d were decoded",
                self.name,
                tally.declared,
                tally.decoded,
            )

    def _broken(self, damage: str) -> SourceError:
        tally = self._tally
        of = f" of {tally.declared}" if tally.declared else ""
        return SourceError(
            SourceFault.BROKEN,
            f"{self.name!r} is damaged: {damage} ({tally.decoded}{of} frames decoded).",
            hint="Get the file again; what could be decoded was delivered.",
            decoded=self.sampler.kept,
        )

    def close(self) -> None:
        """Stop. A read under way in another thread ends within ``timeout`` and then frees all."""
        self._stop = True
        if self._lock.acquire(blocking=False):
            try:
                container, self._container = self._container, None
                if container is not None:
                    container.close()
                if self._file is not None:
                    self._file.close()
            finally:
                self._lock.release()

    def stats(self) -> Mapping[str, StatValue]:
        """Frames declared, decoded and delivered; packets; errors, corrupt, repaired times."""
        return {
            "declared": self._tally.declared,
            "decoded": self._tally.decoded,
            "delivered": self.sampler.kept,
            "packets": self._tally.packets,
            "decode_errors": self._tally.errors,
            "corrupt": self._tally.corrupt,
            "repaired_times": self._times.repaired,
        }
