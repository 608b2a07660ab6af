"""glTF binary with KHR_gaussian_splatting, as ratified by Khronos.

One primitive of points with float32 attributes: place, rotation (xyzw), scale, opacity and the
coefficient of degree 0. Scales are linear: drafts before 2026 stored logarithms, the ratified text
says "linear" and forbids negative ones (see docs/splat-formats.md). COLOR_0 is what a viewer
without the extension draws points in. Axes are glTF's: y up, z forward, x left, metres; as other
converters from .ply have it too.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retain.datasets.splats import parts
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.errors import UsageError
from retain.pipeline.files import write_whole

EXTENSION = "KHR_gaussian_splatting"
NBYTES = 60
"""Bytes of a Gaussian, beside about 2 kB of description."""
MAX_JSON = 16 << 20
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UBYTE = 5126, 5121
_SIDES = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
_PROPERTIES = {
    "kernel": "ellipse",
    "colorSpace": "srgb_rec709_display",
    "projection": "perspective",
    "sortingMethod": "cameraDistance",
}
_ROTATION, _SCALE, _OPACITY, _DC = (
    f"{EXTENSION}:{name}" for name in ("ROTATION", "SCALE", "OPACITY", "SH_DEGREE_0_COEF_0")
)


def write(path: str | Path, gaussians: Gaussians) -> None:
    """Language codes are left out. Raises OSError; ValueError for numbers that are not finite;
    UsageError for no Gaussians at all, which glTF cannot hold."""
    if not len(gaussians):
        raise UsageError("The scene is empty, and a .glb cannot hold an empty scene.")
    g = parts.turned(parts.checked(gaussians), axis=2)
    attributes: dict[str, NDArray[Any]] = {
        "POSITION": g.means,
        _ROTATION: np.roll(g.quats, -1, axis=1),
        _SCALE: g.scales,
        _OPACITY: g.opacities,
        _DC: parts.dc(g.colors),
        "COLOR_0": _fallback(g),
    }
    views, accessors, body = [], [], bytearray()
    for k, array in enumerate(attributes.values()):
        raw = np.ascontiguousarray(array).tobytes()
        views.append(
            {"buffer": 0, "byteOffset": len(body), "byteLength": len(raw), "target": 34962}
        )
        sides = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.size // len(g)]
        accessor = {"bufferView": k, "componentType": _FLOAT, "count": len(g), "type": sides}
        if array.dtype == np.uint8:
            accessor |= {"componentType": _UBYTE, "normalized": True}
        accessors.append(accessor)
        body += raw
    accessors[0] |= {"min": g.means.min(axis=0).tolist(), "max": g.means.max(axis=0).tolist()}
    primitive = {
        "attributes": {name: k for k, name in enumerate(attributes)},
        "mode": 0,
        "extensions": {EXTENSION: _PROPERTIES},
    }
    write_whole(path, _container(_document(primitive, accessors, views, len(body)), bytes(body)))


def read(path: str | Path) -> Gaussians:
    """One primitive of Gaussians in float32, as ``write`` and most exporters make it.

    Raises SourceError for a file that is missing, cut off, has none or several of them, stores
    them in another way, or has negative (logarithmic) scales.
    """
    document, body = _opened(path)
    try:
        primitives = [
            primitive
            for mesh in document.get("meshes", [])
            for primitive in mesh["primitives"]
            if EXTENSION in primitive.get("extensions", {})
        ]
        if len(primitives) != 1:
            raise parts.refused(path, f"has {len(primitives)} sets of Gaussians; one is read")
        _simple(path, document, primitives[0])
        attributes = primitives[0]["attributes"]
        arrays = {
            name: _array(path, document, body, attributes[name], sides)
            for name, sides in (
                ("POSITION", "VEC3"), (_ROTATION, "VEC4"), (_SCALE, "VEC3"),
                (_OPACITY, "SCALAR"), (_DC, "VEC3"),
            )
        }  # fmt: skip
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise parts.refused(
            path, f"is a .glb with a description that is wrong: {error!r}"
        ) from None
    if len({len(array) for array in arrays.values()}) != 1:
        raise parts.refused(path, "has attributes of different lengths")
    if (arrays[_SCALE] < 0).any():
        raise parts.refused(
            path,
            "has negative scales",
            hint="Drafts of the extension stored logarithms: write it anew with a newer program.",
        )
    return parts.turned(
        parts.read_in(
            path,
            arrays["POSITION"],
            np.roll(arrays[_ROTATION], 1, axis=1),
            arrays[_SCALE],
            arrays[_OPACITY][:, 0],
            parts.rgb(arrays[_DC]),
        ),
        axis=2,
    )


def _fallback(g: Gaussians) -> NDArray[np.uint8]:
    """COLOR_0 [N, 4], which glTF holds in linear light; decoded as sRGB (IEC 61966-2-1)."""
    c = g.colors.astype(np.float64)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.rint(255 * np.column_stack([linear, g.opacities])), np.uint8)


def _document(primitive: Any, accessors: Any, views: Any, nbytes: int) -> dict[str, Any]:
    return {
        "asset": {"version": "2.0", "generator": "retain"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": nbytes}],
    }


def _container(document: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    body += b"\0" * (-len(body) % 4)
    size = 12 + 8 + len(text) + 8 + len(body)
    return b"".join(
        (
            struct.pack("<III", _MAGIC, 2, size),
            struct.pack("<II", len(text), _JSON), text,
            struct.pack("<II", len(body), _BIN), body,
        )
    )  # fmt: skip


def _opened(path: str | Path) -> tuple[dict[str, Any], bytes]:
    """The description and the binary part."""
    data = parts.content(path)
    if len(data) < 20 or struct.unpack_from("<II", data) != (_MAGIC, 2):
        raise parts.refused(path, "is no .glb file of version 2")
    size, length, kind = struct.unpack_from("<III", data, 8)
    if size > len(data) or length > min(MAX_JSON, size - 20):
        raise parts.refused(path, f"is cut off: {size} bytes were written, {len(data)} are there")
    try:
        document = json.loads(data[20 : 20 + length]) if kind == _JSON else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise parts.refused(path, "is a .glb without a description that can be read")
    place = 20 + length
    if place + 8 > size:
        return document, b""
    length, kind = struct.unpack_from("<II", data, place)
    if kind != _BIN or length > size - place - 8:
        raise parts.refused(path, "is a .glb whose second part is cut off or of another kind")
    return document, data[place + 8 : place + 8 + length]


def _simple(path: str | Path, document: dict[str, Any], primitive: dict[str, Any]) -> None:
    """Raises SourceError for what would be read wrong: moved nodes, other kernels, compression."""
    moved = {"matrix", "translation", "rotation", "scale"}
    described = primitive["extensions"][EXTENSION]
    if any(moved & set(node) for node in document.get("nodes", [])):
        raise parts.refused(path, "moves its Gaussians by a node, which is not read")
    if described.get("extensions"):
        raise parts.refused(path, f"stores them with {', '.join(described['extensions'])}")
    for name in ("kernel", "colorSpace"):
        if described.get(name) != _PROPERTIES[name]:
            raise parts.refused(path, f"has the {name} {described.get(name)!r}, which is not read")


def _array(
    path: str | Path, document: dict[str, Any], body: bytes, number: int, sides: str
) -> parts.Floats:
    """float32 [N, sides] of an accessor."""
    accessor = document["accessors"][number]
    view = document["bufferViews"][accessor["bufferView"]]
    width, count = _SIDES[sides], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", 4 * width)
    if accessor["componentType"] != _FLOAT or accessor["type"] != sides or view["buffer"] != 0:
        raise parts.refused(path, "does not store its Gaussians as float32 inside the file")
    wrong = min(count, start) < 0 or stride < 4 * width or "sparse" in accessor
    if wrong or start + max(count - 1, 0) * stride + 4 * width * bool(count) > len(body):
        raise parts.refused(path, "has an accessor that reaches outside of its data")
    array = np.ndarray((count, width), "<f4", body, start, (stride, 4))
    return array.astype(np.float32)
