"""Pixels as bytes for the way between hosts. What arrives is checked before anything is decoded.

Only what our own encoder writes is read: baseline JPEG of three 8-bit components, PNG of 8-bit RGB
without extra chunks, or the bare bytes. So the size is known, and bounded, before a decoder that
allocates by it sees the data.
"""

from __future__ import annotations

import struct
from typing import Literal, get_args

import numpy as np

from retain.pipeline.errors import WireError
from retain.pipeline.frame import Image

Codec = Literal["jpeg", "png", "raw"]
CODECS: tuple[Codec, ...] = get_args(Codec)

MAX_PIXELS = 1 << 25
"""Pixels of one picture: 8K (7680x4320) and a little."""
MAX_BYTES = 3 * MAX_PIXELS + (1 << 20)
"""Bytes of one picture's pixels on the way. Noise can make PNG a little larger than the bare
bytes."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = struct.Struct(">I4sIIBBBBB")
_PNG_RGB8 = (8, 2, 0, 0, 0)
"""Bit depth, colour type, compression, filter, interlace."""
_SOI, _EOI, _SOF0, _SOS = 0xD8, 0xD9, 0xC0, 0xDA
_JPEG_SKIPPED = frozenset((0xDB, 0xC4, 0xDD, 0xE0))
"""Tables, restart interval and the JFIF header."""


def check_size(height: int, width: int) -> None:
    """Raises WireError when a picture has too many pixels to travel."""
    if height * width > MAX_PIXELS:
        raise WireError(
            f"A picture of {width}x{height} is over the limit of {MAX_PIXELS:,} pixels.",
            hint="Make it smaller before it is sent to another host.",
        )


def encode(image: Image, codec: Codec, quality: int) -> bytes | memoryview:
    """``image`` (uint8 [H, W, 3] RGB) as bytes; ``quality`` 1..100 is for jpeg."""
    import cv2

    check_size(*image.shape[:2])
    if codec == "raw":
        return image.data.cast("B")
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if codec == "jpeg":
        done, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    else:
        done, data = cv2.imencode(".png", bgr, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    if not done or len(data) > MAX_BYTES:
        raise WireError(f"A picture of {list(image.shape)} cannot be written as {codec}.")
    return np.asarray(data).reshape(-1).data


def decode(data: bytes, codec: Codec, height: int, width: int) -> Image:
    """The picture: uint8 [height, width, 3] RGB.

    Raises WireError unless ``data`` is exactly such a picture.
    """
    check_size(height, width)
    if codec == "raw":
        if len(data) != height * width * 3:
            raise WireError(f"Raw pixels of {width}x{height} came as {len(data):,} bytes.")
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    found = (_jpeg_size if codec == "jpeg" else _png_size)(data)
    if found != (height, width):
        raise WireError(f"A {codec} of {found[1]}x{found[0]} was announced as {width}x{height}.")
    return _decoded(data, codec, (height, width, 3))


def _decoded(data: bytes, codec: Codec, shape: tuple[int, int, int]) -> Image:
    import cv2

    try:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise WireError(f"A {codec} could not be decoded: {error.err}") from None
    if image is None or image.shape != shape or image.dtype != np.uint8:
        raise WireError(f"A {codec} could not be decoded.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _png_size(data: bytes) -> tuple[int, int]:
    """(height, width) of an 8-bit RGB PNG that holds IHDR, IDAT and IEND only."""
    start = len(_PNG_SIGNATURE)
    if data[:start] != _PNG_SIGNATURE or len(data) < start + 25:
        raise WireError("This is no PNG.")
    length, name, width, height, *kind = _PNG_HEADER.unpack_from(data, start)
    if (length, name) != (13, b"IHDR") or tuple(kind) != _PNG_RGB8:
        raise WireError("This PNG is not 8-bit RGB.")
    at = start + 12 + length
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if name == b"IEND" and at == len(data):
            return height, width
        if name != b"IDAT":
            break
    raise WireError("This PNG is cut short, or holds more than a picture.")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) of a complete baseline JPEG with three components, from its one frame
    header (ITU T.81, B.2.2)."""
    if data[:2] != bytes((0xFF, _SOI)) or data[-2:] != bytes((0xFF, _EOI)):
        raise WireError("This is no complete JPEG.")
    size, at = None, 2
    while at + 4 <= len(data):
        mark, marker, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF or length < 2 or at + 2 + length > len(data):
            break
        if marker == _SOS and size:
            return size
        if marker == _SOF0 and not size and length == 17:
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if (depth, components) != (8, 3):
                break
            size = height, width
        elif marker not in _JPEG_SKIPPED:
            break
        at += 2 + length
    raise WireError("This JPEG is not of the plain kind that is sent here.")
