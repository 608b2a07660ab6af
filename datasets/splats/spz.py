"""The .spz of Niantic (github.com/nianticlabs/spz, MIT): a fifth of .ply or less, for phones.

One gzip stream: a header of 16 bytes, then attribute after attribute: places as 24-bit fixed
point, opacities, colours (coefficients of degree 0 times 0.15), logarithms of scales in steps of
1/16, rotations. Versions 2 and 3 differ in these: x, y, z of the quaternion in a byte each, or the
three smallest parts in ten bits each. Axes are x right, y up, z back. Version 3 is written.
"""

from __future__ import annotations

import gzip
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.splats import parts
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.errors import UsageError
from retain.pipeline.files import write_whole

log = logging.getLogger(__name__)

MAGIC = 0x5053474E
HEADER = struct.Struct("<IIIBBBB")
"""Magic, version, count, degree of harmonics, bits of a place's fraction, flags, nothing."""
NBYTES = 20
"""Bytes of a Gaussian before compression."""
MOST = 10_000_000
"""Gaussians that the format's own reader takes."""
FRACTION = 12
"""Bits: steps of a quarter of a millimetre, 2 km around the origin; fewer for farther scenes."""
_COLOUR = 0.15
_HARMONICS = {0: 0, 1: 9, 2: 24, 3: 45, 4: 72}
_EXTENDED = 2
_LARGEST_PLACE = 2**23 - 1


def write(path: str | Path, gaussians: Gaussians) -> None:
    """Language codes are left out. Raises OSError; ValueError for numbers that are not finite;
    UsageError for more than ``MOST`` Gaussians, or places beyond 8000 km."""
    g = parts.turned(parts.checked(gaussians), axis=0)
    if len(g) > MOST:
        raise UsageError(f"A .spz holds at most {MOST} Gaussians, not {len(g)}.", hint="Use .ply.")
    farthest = float(np.abs(g.means).max(initial=0))
    room = int(np.floor(np.log2(_LARGEST_PLACE / max(farthest, 1e-3))))
    if room < 0:
        raise UsageError(
            f"A .spz holds places up to {_LARGEST_PLACE} m, not {farthest:g} m.", hint="Use .ply."
        )
    fraction = min(FRACTION, room)
    places = np.rint(g.means.astype(np.float64) * 2**fraction).astype("<i4")
    columns = (
        places.view(np.uint8).reshape(-1, 4)[:, :3],
        _bytes(255 * g.opacities),
        _bytes(255 * (_COLOUR * parts.dc(g.colors) + 0.5)),
        _bytes(16 * (parts.log_scales(g.scales) + 10)),
        _smallest_three(g.quats).astype("<u4"),
    )
    header = HEADER.pack(MAGIC, 3, len(g), 0, fraction, 0, 0)
    body = b"".join(np.ascontiguousarray(column).tobytes() for column in columns)
    write_whole(path, gzip.compress(header + body, 6, mtime=0))


def read(path: str | Path) -> Gaussians:
    """Versions 2 and 3; harmonics above degree 0 are left out, with a note in the log.

    Raises SourceError for a file that is missing, cut off, of another version or no .spz.
    """
    data = parts.content(path)
    if data[:4] == struct.pack("<I", MAGIC):
        raise parts.refused(
            path, "is a .spz of version 4 or later", hint="Versions 2 and 3 are read."
        )
    head = _inflated(path, data, HEADER.size, whole=False)
    magic, version, count, degree, fraction, flags, _ = HEADER.unpack(head)
    if magic != MAGIC:
        raise parts.refused(path, "is no .spz file")
    if version not in (2, 3) or degree not in _HARMONICS or fraction > 24 or flags & _EXTENDED:
        raise parts.refused(
            path,
            f"is a .spz of version {version} with harmonics of degree {degree} and flags {flags}",
            hint="Versions 2 and 3 without extensions are read.",
        )
    sides = (9, 1, 3, 3, 4 if version == 3 else 3)
    need = HEADER.size + count * (sum(sides) + _HARMONICS[degree])
    if count > MOST or need > parts.LARGEST:
        raise parts.refused(path, f"promises {count} Gaussians; the most is {MOST}")
    body = _inflated(path, data, need, whole=True)[HEADER.size :]
    if degree:
        log.warning("%s: colours that depend on the direction are left out.", path)
    ends = np.cumsum([count * side for side in sides])
    raw = np.split(np.frombuffer(body, np.uint8, ends[-1]), ends[:-1])
    places, opacities, colors, scales, turns = (
        column.reshape(count, side) for column, side in zip(raw, sides, strict=True)
    )
    coefficients = ((colors / 255 - 0.5) / _COLOUR).astype(np.float32)
    return parts.turned(
        parts.read_in(
            path,
            (_fixed(places) / 2.0**fraction).astype(np.float32),
            _from_smallest_three(turns) if version == 3 else _from_first_three(turns),
            np.exp(scales.astype(np.float32) / 16 - 10),
            opacities[:, 0].astype(np.float32) / np.float32(255),
            parts.rgb(coefficients),
        ),
        axis=0,
    )


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _fixed(raw: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Signed 24-bit numbers [N, 3] of their bytes [N, 9]."""
    whole = np.zeros((*raw.shape[:1], 3, 4), np.uint8)
    whole[..., 1:] = raw.reshape(-1, 3, 3)  # in the upper bytes, so that shifting brings the sign
    return np.asarray(whole.view("<i4")[..., 0] >> 8)


def _smallest_three(quats: parts.Floats) -> NDArray[np.uint32]:
    """Of wxyz: two bits say which of x, y, z, w is largest (and positive), ten each are the others,
    first one highest: sign and 511 steps to sqrt(1/2)."""
    q = np.roll(quats, -1, axis=1)
    largest = np.abs(q).argmax(axis=1)
    q = np.where(np.take_along_axis(q, largest[:, None], 1) < 0, -q, q)
    magnitude = np.minimum(np.abs(q) * (511 * np.sqrt(2)) + 0.5, 511).astype(np.uint32)
    ten = magnitude | ((q < 0).astype(np.uint32) << np.uint32(9))
    code = largest.astype(np.uint32)
    for k in range(4):
        code = np.where(largest == k, code, (code << np.uint32(10)) | ten[:, k])
    return np.asarray(code)


def _from_smallest_three(raw: NDArray[np.uint8]) -> parts.Floats:
    code = np.ascontiguousarray(raw).view("<u4")[:, 0]
    largest = code >> np.uint32(30)
    q = np.zeros((len(code), 4), np.float32)
    for k in (3, 2, 1, 0):
        here = largest != k
        value = (code & np.uint32(511)) * np.float32(np.sqrt(0.5) / 511)
        value = np.where(code & np.uint32(512), -value, value)
        q[:, k] = np.where(here, value, 0)
        code = np.where(here, code >> np.uint32(10), code)
    rest = np.sqrt(np.maximum(0, 1 - (q * q).sum(axis=1)))
    np.put_along_axis(q, largest[:, None].astype(np.int64), rest[:, None], 1)
    return np.roll(q, 1, axis=1)


def _from_first_three(raw: NDArray[np.uint8]) -> parts.Floats:
    xyz = raw.astype(np.float32) / np.float32(127.5) - np.float32(1)
    w = np.sqrt(np.maximum(0, 1 - (xyz * xyz).sum(axis=1, keepdims=True)))
    return np.concatenate([w, xyz], axis=1)


def _inflated(path: str | Path, data: bytes, need: int, *, whole: bool) -> bytes:
    """The first ``need`` bytes and never more, whatever the file would grow to. ``whole``: there
    must be no others, and the checksum must be right."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        out = inflater.decompress(data, need)
        more = inflater.decompress(inflater.unconsumed_tail, 1) if whole else b""
    except zlib.error:
        raise parts.refused(path, "is no .spz file, or damaged") from None
    if len(out) < need or (whole and not more and not inflater.eof):
        raise parts.refused(path, "is cut off")
    if more:
        raise parts.refused(path, "holds more than it promises")
    return out
