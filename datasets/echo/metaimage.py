"""MetaImage (.mhd text header, .raw pixels) as the first release of CAMUS uses it."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.reading import DatasetError, Trouble

_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_LARGEST = 2**31
"""Bytes of pixels; a header that promises more is wrong, not a clip."""


def read_mhd(path: Path) -> tuple[NDArray[np.generic], tuple[float, float]]:
    """Pixels [T, H, W] of any type and the spacing (y, x) in mm.

    The header is in ``path``, the pixels in the file it names, in the same folder, plain or
    deflated. Raises DatasetError for anything else: pixels inside the header file, several
    channels, a size that does not match.
    """
    header = _header(path)
    try:
        sizes = [int(word) for word in _get(path, header, "DimSize").split()]
        spacing = [float(word) for word in header.get("ElementSpacing", "nan nan").split()]
    except ValueError:
        raise _broken(path, "DimSize or ElementSpacing are no numbers") from None
    kind = _get(path, header, "ElementType")
    if not 2 <= len(sizes) <= 3 or min(sizes) < 1 or len(spacing) < 2:
        raise _broken(path, f"it has the sizes {sizes} and the spacing {spacing}")
    if kind not in _TYPES or header.get("ElementNumberOfChannels", "1") != "1":
        raise _broken(path, f"its pixels are {kind}, not one of {', '.join(_TYPES)}")
    data = path.parent / _get(path, header, "ElementDataFile")
    if data.parent != path.parent or not data.is_file():
        raise DatasetError(
            path.name,
            Trouble.MISSING,
            f"the file with its pixels, {data.name!r}, is not beside it.",
        )
    msb = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if msb.lower() == "true" else "<")
    need = int(np.prod(sizes, dtype=object)) * dtype.itemsize
    if need > _LARGEST:
        raise _broken(path, f"it promises {need} bytes of pixels")
    raw = data.read_bytes()
    if header.get("CompressedData", "False").lower() == "true":
        try:
            raw = zlib.decompressobj().decompress(raw, need + 1)
        except zlib.error:
            raise _broken(path, f"{data.name} is not deflated as the header says") from None
    if len(raw) != need:
        raise _broken(path, f"{data.name} holds {len(raw)} bytes instead of {need}")
    pixels = np.frombuffer(raw, dtype).reshape(sizes[::-1])
    return pixels.reshape(-1, *pixels.shape[-2:]), (spacing[1], spacing[0])


def write_mhd(path: Path, pixels: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> None:
    """Writes uint8 [T, H, W] as ``path`` (.mhd) and a .raw beside it. Spacing is (y, x)."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(pixels.tobytes())
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": " ".join(str(size) for size in pixels.shape[::-1]),
        "ElementSpacing": f"{spacing_mm[1]:.9g} {spacing_mm[0]:.9g} 1",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "ElementType": "MET_UCHAR",
        "ElementDataFile": raw.name,
    }
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))


def _header(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise _broken(path, "it is no text") from None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _get(path: Path, header: dict[str, str], key: str) -> str:
    if key not in header:
        raise _broken(path, f"it has no {key}")
    return header[key]


def _broken(path: Path, what: str) -> DatasetError:
    return DatasetError(path.name, Trouble.BROKEN, f"not a MetaImage of a clip: {what}.")
