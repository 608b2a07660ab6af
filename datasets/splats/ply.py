"""The .ply of 3D Gaussian splatting (Kerbl et al. 2023): what every viewer opens.

One row of float32 each: x y z, nx ny nz (zeros), f_dc_0..2, opacity (logit), scale_0..2
(logarithm), rot_0..3 (wxyz). The normals cost 12 of 68 bytes and say nothing, but the viewer of
the original work reads rows by their place, not by name. Axes stay as they are.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from retain.datasets.splats import parts
from retain.kernels.rasterize.gaussians import Gaussians
from retain.pipeline.files import write_whole

log = logging.getLogger(__name__)

COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
NBYTES = 4 * len(COLUMNS)
"""Bytes of a Gaussian."""
MAX_HEADER = 1 << 16
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"), **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "<i2"), **dict.fromkeys(("ushort", "uint16"), "<u2"),
    **dict.fromkeys(("int", "int32"), "<i4"), **dict.fromkeys(("uint", "uint32"), "<u4"),
    **dict.fromkeys(("float", "float32"), "<f4"), **dict.fromkeys(("double", "float64"), "<f8"),
}  # fmt: skip


def write(path: str | Path, gaussians: Gaussians) -> None:
    """Language codes are left out. Raises OSError; ValueError for numbers that are not finite."""
    g = parts.checked(gaussians)
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(g)}"]
    header += [f"property float {name}" for name in COLUMNS] + ["end_header", ""]
    columns = (
        g.means, np.zeros_like(g.means), parts.dc(g.colors), parts.logit(g.opacities)[:, None],
        parts.log_scales(g.scales), g.quats,
    )  # fmt: skip
    rows = np.concatenate(columns, axis=1).astype("<f4")
    write_whole(path, "\n".join(header).encode() + rows.tobytes())


def read(path: str | Path) -> Gaussians:
    """Columns are found by name, in any order; harmonics above degree 0 are left out, with a note
    in the log.

    Raises SourceError for a file that is missing, cut off or no such .ply.
    """
    data = parts.content(path)
    count, fields, start = _header(path, data)
    row = np.dtype(fields)
    if count * row.itemsize > len(data) - start:
        raise parts.refused(
            path,
            f"is cut off: {count} Gaussians are {count * row.itemsize} bytes, "
            f"and {len(data) - start} are there",
        )
    names = row.names or ()
    missing = [name for name in COLUMNS if name not in names and name not in ("nx", "ny", "nz")]
    if missing:
        packed = "packed_position" in names
        raise parts.refused(
            path,
            "is a compressed .ply" if packed else f"has no {', '.join(missing)}",
            hint="Save it uncompressed." if packed else "It is a .ply, but not of Gaussians.",
        )
    if any(name.startswith("f_rest_") for name in names):
        log.warning("%s: colours that depend on the direction are left out.", path)
    rows = np.frombuffer(data, row, count, start)

    def columns(*names: str) -> parts.Floats:
        return np.stack([rows[name].astype(np.float32) for name in names], axis=1)

    with np.errstate(over="ignore"):
        return parts.read_in(
            path,
            columns("x", "y", "z"),
            columns("rot_0", "rot_1", "rot_2", "rot_3"),
            np.exp(columns("scale_0", "scale_1", "scale_2")),
            parts.sigmoid(columns("opacity")[:, 0]),
            parts.rgb(columns("f_dc_0", "f_dc_1", "f_dc_2")),
        )


def _header(path: str | Path, data: bytes) -> tuple[int, list[tuple[str, str]], int]:
    """Number of rows, their fields, where they begin."""
    start = data.find(b"end_header\n", 0, MAX_HEADER) + len(b"end_header\n")
    if not data.startswith(b"ply\n") or start < len(b"end_header\n"):
        raise parts.refused(path, "is no .ply file, or its header is cut off")
    lines = [line.split() for line in data[:start].decode("ascii", "replace").splitlines()]
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise parts.refused(path, "is not a binary little-endian .ply")
    count, fields, element = -1, list[tuple[str, str]](), ""
    for line in lines:
        match line:
            case ["element", "vertex", number] if not element:
                element = "vertex"
                count = int(number) if number.isdecimal() and len(number) < 16 else -1
            case ["element", name, *_]:
                if not element:
                    raise parts.refused(path, f"begins with {name!r}, not with its Gaussians")
                element = name
            case ["property", kind, name] if element == "vertex" and kind in _TYPES:
                fields.append((name, _TYPES[kind]))
            case ["property", *rest] if element == "vertex":
                raise parts.refused(path, f"has a property {' '.join(rest)!r}, which is not known")
    if count < 0 or not fields or len({name for name, _ in fields}) < len(fields):
        raise parts.refused(path, "has a header without Gaussians, or with a column twice")
    return count, fields, start
