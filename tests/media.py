"""Files of every kind a person may point at, made on the spot: healthy, odd and broken.

Pictures are chosen so that a test can tell frames apart: frame k of ``pictures`` has a bright bar
whose column encodes k.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image as Pil

from retain.pipeline.errors import SourceFault

Pictures = Iterable[np.ndarray]


def picture(k: int, width: int = 64, height: int = 48) -> np.ndarray:
    """uint8 [H, W, 3] RGB: a colour gradient and a white bar whose place encodes k."""
    y, x = np.mgrid[:height, :width]
    image = np.stack(
        [x * 200 // max(width - 1, 1), y * 200 // max(height - 1, 1), np.full_like(x, 90)], axis=2
    ).astype(np.uint8)
    bar = 4 * (k % max(width // 4, 1))
    image[:, bar : bar + 4] = 255
    return image


def bar_of(image: np.ndarray) -> int:
    """The k that ``picture`` drew into ``image``, modulo a quarter of the width."""
    return int(np.argmax(image.astype(int).sum(axis=(0, 2)))) // 4


def write_video(
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    pts: list[int] | None = None,
    time_base: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    aspect: Fraction | None = None,
    container: str | None = None,
    draw: Callable[[int], np.ndarray] | None = None,
    source_format: str = "rgb24",
) -> Path:
    """Encode ``count`` pictures. ``pts`` are in ticks of ``time_base`` (default 1/rate)."""
    width, height = size
    draw = draw or (lambda k: picture(k, width, height))
    base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(rate), options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = base
        # On several threads a busy machine makes another file, and damage hits another place.
        stream.codec_context.thread_count = 1
        stream.time_base = base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        out.start_encoding()
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw(k)), source_format)
            frame.pts, frame.time_base = (pts[k] if pts else k), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le" if path.suffix == ".wav" else "aac", rate=44100)
        samples = np.zeros((1, 44100), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def cut(path: Path, whole: Path, share: float = 0.5) -> Path:
    """The first part of ``whole``."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def scramble(path: Path, whole: Path, length: int = 600, at: float = 0.5) -> Path:
    """``whole`` with noise in the middle."""
    data = bytearray(whole.read_bytes())
    start = int(len(data) * at)
    data[start : start + length] = random.Random(0).randbytes(length)
    path.write_bytes(data)
    return path


def turn(path: Path, whole: Path, matrix: tuple[int, int, int, int]) -> Path:
    """An MP4 whose track header holds the display matrix a, b, c, d (in units of 1)."""
    data = bytearray(whole.read_bytes())
    box = data.index(b"tkhd")
    start = box + 4 + 4 + 20 + 16  # version and flags; times, id, duration; layer ... volume
    a, b, c, d = (value << 16 for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def healthy(folder: Path) -> dict[str, tuple[Path, int, tuple[int, int]]]:
    """name -> (file, number of frames, (height, width))."""
    plain = write_video(folder / "plain.mp4", options={"g": "10", "bf": "2"})
    lossless = {"codec": "ffv1", "count": 5}
    return {
        "b-frames": (plain, 30, (48, 64)),
        "no suffix": (_copy(folder / "plain", plain), 30, (48, 64)),
        "colon in name": (_copy(folder / "a:b %d.mp4", plain), 30, (48, 64)),
        "avi with b-frames": (
            write_video(folder / "b.avi", codec="mpeg4", options={"bf": "2", "g": "10"}),
            30,
            (48, 64),
        ),
        "h264 avi": (write_video(folder / "h.avi", options={"bf": "2"}), 30, (48, 64)),
        "avi with gaps": (
            write_video(folder / "gaps.avi", 6, codec="mpeg4", pts=[0, 1, 5, 6, 20, 21]),
            6,
            (48, 64),
        ),
        "trimmed": (trim(folder / "trim.mp4", plain, 15), 15, (48, 64)),
        "variable rate": (
            write_video(folder / "vfr.mp4", 6, pts=[0, 1, 5, 6, 20, 21], options={"bf": "0"}),
            6,
            (48, 64),
        ),
        "webm": (write_video(folder / "v.webm", 12, codec="libvpx-vp9"), 12, (48, 64)),
        "transport stream": (write_video(folder / "t.ts"), 30, (48, 64)),
        "raw h264": (write_video(folder / "raw.h264", container="h264"), 30, (48, 64)),
        "gif": (
            write_video(folder / "a.gif", 5, codec="gif", pix_fmt="rgb8", rate=10),
            5,
            (48, 64),
        ),
        "1x1": (
            write_video(folder / "one.mkv", size=(1, 1), pix_fmt="bgr0", **lossless),
            5,
            (1, 1),
        ),
        "odd size": (write_video(folder / "odd.mkv", size=(33, 17), **lossless), 5, (17, 33)),
        "10 bit": (
            write_video(folder / "ten.mkv", pix_fmt="yuv420p10le", **lossless),
            5,
            (48, 64),
        ),
        "grey": (write_video(folder / "grey.mkv", pix_fmt="gray", **lossless), 5, (48, 64)),
        "grey 16": (write_video(folder / "g16.mkv", pix_fmt="gray16le", **lossless), 5, (48, 64)),
        "alpha": (write_video(folder / "alpha.mkv", pix_fmt="yuva420p", **lossless), 5, (48, 64)),
        "rotated": (turn(folder / "r.mp4", plain, (0, 1, -1, 0)), 30, (64, 48)),
        "wide pixels": (
            write_video(folder / "sar.mp4", aspect=Fraction(4, 3)),
            30,
            (48, 64),
        ),
    }


def broken(folder: Path) -> dict[str, tuple[Path, SourceFault]]:
    """name -> (file, what VideoSource must say)."""
    mp4 = write_video(folder / "whole.mp4", 60, options={"g": "15", "bf": "2"})
    fast = write_video(
        folder / "fast.mp4", 60, container="mp4", options={"g": "15"}, draw=noisy, size=(64, 48)
    )
    front = faststart(folder / "front.mp4", fast)
    avi = write_video(folder / "whole.avi", 60, codec="mpeg4", draw=noisy, options={"b": "2000000"})
    mkv = write_video(folder / "whole.mkv", 60, draw=noisy)
    made: dict[str, tuple[Path, SourceFault]] = {
        "missing": (folder / "absent.mp4", SourceFault.NOT_FOUND),
        "empty": (_write(folder / "empty.mp4", b""), SourceFault.EMPTY),
        "text": (_write(folder / "note.txt", b"hello world\n" * 40), SourceFault.NOT_VIDEO),
        "text as mp4": (_write(folder / "note.mp4", b"hello\n" * 40), SourceFault.NOT_VIDEO),
        "noise": (
            _write(folder / "noise.mp4", random.Random(1).randbytes(5000)),
            SourceFault.NOT_VIDEO,
        ),
        "folder": (_folder(folder / "clips.mp4"), SourceFault.NOT_VIDEO),
        "audio only": (write_audio(folder / "sound.mp4"), SourceFault.NOT_VIDEO),
        "wav": (write_audio(folder / "sound.wav"), SourceFault.NOT_VIDEO),
        "zero frames mp4": (write_video(folder / "zero.mp4", 0), SourceFault.EMPTY),
        "zero frames avi": (write_video(folder / "zero.avi", 0), SourceFault.EMPTY),
        "zero frames mkv": (write_video(folder / "zero.mkv", 0), SourceFault.EMPTY),
        "cut mp4": (cut(folder / "cut.mp4", mp4), SourceFault.BROKEN),
        "cut mp4, index first": (cut(folder / "cutf.mp4", front, 0.6), SourceFault.BROKEN),
        "cut avi": (cut(folder / "cut.avi", avi), SourceFault.BROKEN),
        "cut mkv": (cut(folder / "cut.mkv", mkv), SourceFault.BROKEN),
        "scrambled mp4": (scramble(folder / "bad.mp4", fast, 900), SourceFault.BROKEN),
        "scrambled avi": (scramble(folder / "bad.avi", avi), SourceFault.BROKEN),
        "scrambled mkv": (scramble(folder / "bad.mkv", mkv, at=0.35), SourceFault.BROKEN),
        "huge": (
            write_video(folder / "huge.mkv", 1, codec="ffv1", size=(8200, 2)),
            SourceFault.TOO_LARGE,
        ),
    }
    return made


def noisy(k: int) -> np.ndarray:
    """Hard to compress, so that a file has room for damage."""
    rng = np.random.default_rng(k)
    return picture(k) // 2 + rng.integers(0, 100, (48, 64, 3), np.uint8)


def faststart(path: Path, whole: Path) -> Path:
    """The same streams, index before data."""
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return path


def trim(path: Path, whole: Path, frames: int) -> Path:
    """Drop pictures at the front without decoding: an edit list hides those before the cut."""
    with av.open(str(whole)) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= frames * 512
                packet.dts -= frames * 512
                packet.stream = stream
                out.mux(packet)
    return path


def write_images(folder: Path) -> Path:
    """Every flavour of still image, named so that natural order is not alphabetical order."""
    folder.mkdir()
    base = picture(0)
    Pil.fromarray(base).save(folder / "im1.png")
    Pil.fromarray(base).convert("L").save(folder / "im2.png")
    alpha = np.dstack([base, np.full(base.shape[:2], 7, np.uint8)])
    Pil.fromarray(alpha).save(folder / "im3.png")
    Pil.fromarray(base[:, :, 0].astype(np.uint16) * 257).save(folder / "im4.png")
    Pil.fromarray(base).convert("P").save(folder / "im9.png")
    Pil.fromarray(base).convert("CMYK").save(folder / "im10.jpg")
    exif = Pil.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Pil.fromarray(np.rot90(base).copy()).save(folder / "im11.jpg", exif=exif, quality=95)
    Pil.fromarray(base[:17, :33]).save(folder / "im12.bmp")
    (folder / "notes.txt").write_text("not an image")
    return folder


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _copy(path: Path, whole: Path) -> Path:
    return _write(path, whole.read_bytes())


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
