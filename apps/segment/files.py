"""The files of `retain segment` that other programs read: mask PNGs, NIfTI, CSV."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from retain.apps.segment.words import NOTICE
from retain.pipeline.results import Beat

if TYPE_CHECKING:
    from _csv import Writer

PALETTE = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
"""RGB of background, cavity, myocardium, atrium: DAVIS's first colours."""

CURVE = ("seq", "seconds", "area", "length", "volume", "unit", "flags", "notice")
BEATS = (*Beat.__struct_fields__, "unit", "method", "notice")
MOST_NIFTI = 32_767
"""Frames a NIfTI-1 file can count."""


class Table:
    """A CSV file with a header; numbers that are not known are empty cells."""

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer: Writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(columns)

    def add(self, *values: Any) -> None:
        self._writer.writerow([_cell(value) for value in values])

    def close(self) -> None:
        self._file.close()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if value == value else ""
    return " ".join(value) if isinstance(value, tuple) else value


def beat_row(beat: Beat, unit: str, method: str) -> tuple[Any, ...]:
    return (*msgspec.structs.astuple(beat), unit, method, NOTICE)


def write_mask(path: Path, label: NDArray[np.uint8]) -> None:
    """``label`` (uint8 [H, W], 0..3) as a palette PNG whose pixel values are the labels."""
    from PIL import Image, PngImagePlugin

    picture = Image.frombytes("P", label.shape[::-1], label.tobytes())
    picture.putpalette([part for colour in PALETTE for part in colour])
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", NOTICE)
    picture.save(path, pnginfo=told, compress_level=4)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W]: the labels of a file of ``write_mask``."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture, np.uint8)


def write_nifti(
    path: Path,
    masks: Path,
    spacing_mm: tuple[float, float] | None,
    frame_s: float,
) -> str:
    """All masks in the folder ``masks`` as one NIfTI-1 file [x, y, 1, t]; one frame in memory.

    Returns why there is none, in a sentence, or nothing: the package may be absent, the frames
    too many or of different sizes. ``spacing_mm`` is (y, x); voxels are 1 where it is unknown.
    """
    if importlib.util.find_spec("nibabel") is None:
        return "masks.nii.gz was left out: it needs nibabel (pip install 'retain[medical]')."
    import nibabel

    files = sorted(masks.iterdir(), key=lambda file: int(file.stem))
    if len(files) > MOST_NIFTI:
        return f"masks.nii.gz was left out: NIfTI counts to {MOST_NIFTI:,} frames."
    height, width = read_mask(files[0]).shape
    y, x = spacing_mm or (1.0, 1.0)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((width, height, 1, len(files)))
    header.set_zooms((x, y, 1.0, frame_s))
    header.set_xyzt_units("mm" if spacing_mm else "unknown", "sec")
    header.set_sform(np.diag((x, y, 1.0, 1.0)), code="scanner")
    header["descrip"] = NOTICE.encode()
    header["magic"], header["vox_offset"] = b"n+1", 352
    with gzip.open(path, "wb", compresslevel=4) as out:
        out.write(header.binaryblock + bytes(4))
        for file in files:
            label = read_mask(file)
            if label.shape != (height, width):
                break
            out.write(label.tobytes())
        else:
            return ""
    path.unlink()
    return "masks.nii.gz was left out: the frames are not all of one size."
