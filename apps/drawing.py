"""Small pictures and words that the page and the report share."""

from __future__ import annotations

import base64
import math

import numpy as np

from retain.pipeline.frame import Image
from retain.pipeline.results import Reason

REASONS: dict[Reason, str] = {
    "score": "the picture changed enough",
    "query": "a question came with it",
    "warm-up": "the stream was still being learnt",
    "hard-trigger": "a hard cut",
    "max-gap": "nothing had been kept for long",
    "duplicate": "the same as the frame before",
    "quiet": "too little changed",
}
"""Why the router decided as it did, in words."""


def shrink(image: Image, width: int) -> Image:
    """``image`` (uint8 [H, W, 3]) at most ``width`` wide, as a copy; never enlarged.

    Large pictures are thinned to at most twice the size first, so the cost hardly depends on the
    resolution (well under 1 ms); a preview shows nothing of that little aliasing.
    """
    import cv2

    height = max(1, round(image.shape[0] * width / image.shape[1]))
    if image.shape[1] <= width:
        return image.copy()
    step = math.ceil(image.shape[1] / (2 * width))
    thinned = np.ascontiguousarray(image[::step, ::step])
    small = cv2.resize(thinned, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


def at_most(image: Image, side: int) -> Image:
    """``image`` (uint8 [H, W, 3]) with no side longer than ``side``, each pixel the mean of what it
    covers; as it is where it fits."""
    import cv2

    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = [max(1, round(length * scale)) for length in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: Image, quality: int = 80) -> bytes:
    """``image`` (uint8 [H, W, 3] RGB) as JPEG."""
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV refuses JPEG only for shapes that Frame does not allow"
    return bytes(data.tobytes())


def data_uri(data: bytes, kind: str = "image/jpeg") -> str:
    """``data`` as an address that needs no request."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def clock(seconds: float) -> str:
    """Stream time for people: ``1:02:03.4``, ``2:03.4``.

    >>> clock(123.44), clock(3725.0), clock(-1.5), clock(59.99)
    ('2:03.4', '1:02:05.0', '-0:01.5', '1:00.0')
    """
    if not math.isfinite(seconds):
        return "–"
    tenths = round(abs(seconds) * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if seconds < 0 else ""
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{sign}{hours}:{minutes:02d}:{rest}" if hours else f"{sign}{minutes}:{rest}"


def size(nbytes: float) -> str:
    """Bytes for people.

    >>> size(900), size(1536), size(16 << 20), size(119_000)
    ('900 B', '1.5 KiB', '16.0 MiB', '116 KiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024 or unit == "GiB":
            break
        nbytes /= 1024
    return f"{nbytes:.{1 if unit != 'B' and nbytes < 100 else 0}f} {unit}"


def number(value: float, digits: int = 0) -> str:
    """A number for people, with thin thousands; a dash for none.

    >>> number(1234567, 0), number(0.1234, 3), number(float("nan"))
    ('1,234,567', '0.123', '–')
    """
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def score(value: float) -> str:
    """A score with about three digits that matter: scores span decades from stream to stream.

    >>> score(1.234), score(0.1234), score(0.00312), score(float("nan"))
    ('1.23', '0.123', '0.00312', '–')
    """
    large = abs(value)
    return number(value, 2 if large >= 1 else 3 if large >= 0.1 else 4 if large >= 0.01 else 5)
