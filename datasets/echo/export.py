"""Clips written as CAMUS or EchoNet-Dynamic: to test the readers, and programs that expect these.

Faults can be planted by the clip's name, one of those that the real data sets, or copies of them,
are known for; the readers must name each.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.camus import SPLIT_FILES
from retain.datasets.echo.clip import CAVITY, EchoClip
from retain.datasets.echo.echonet import TRACING_COLUMNS
from retain.datasets.echo.metaimage import write_mhd
from retain.datasets.echo.tracings import Tracing, trace
from retain.pipeline.errors import MissingExtra, UsageError


class Fault(StrEnum):
    """What can be planted. Of CAMUS: the first group; of EchoNet-Dynamic: the second."""

    LABELS_255 = "labels 255"
    """The cavity is 255 in the masks, everything else 0."""
    NO_MASK = "no mask"
    NO_INFO = "no info"
    WRONG_INFO = "wrong info"
    """The Info names a frame beyond the last for end-systole."""
    CROPPED_MASK = "cropped mask"
    """The masks are one row short."""

    NO_TRACING = "no tracing"
    NO_VIDEO = "no video"
    """A tracing and no line in FileList.csv, no video."""
    LOST_VIDEO = "lost video"
    """A line in FileList.csv, but no video."""
    ODD_POINTS = "odd points"
    """Three chords of each tracing are missing."""
    NOT_NUMBERS = "not numbers"
    """The coordinates of one chord are empty."""
    FEW_POINTS = "few points"
    """One frame has no more than a long axis and a chord."""
    DUPLICATE = "duplicate"
    """Each row of one frame's tracing is there a second time, after the first."""
    RETRACED = "retraced"
    """One frame has a second tracing, shifted by five pixels."""
    BEYOND = "beyond"
    """A frame after the last is traced too."""
    SAME_ROW = "same row"
    """FileList.csv has the video twice."""

    ES_FIRST = "end-systole first"
    """Both: the frames are stored backwards."""
    TRUNCATED = "truncated"
    """Both: the file with the frames ends in the middle."""


_CAMUS = (*tuple(Fault)[:5], Fault.ES_FIRST, Fault.TRUNCATED)
_ECHONET = tuple(Fault)[5:]

_Write = Callable[[Path, NDArray[np.uint8], tuple[float, float]], Path]


def write_camus(
    root: Path,
    clips: Iterable[EchoClip],
    layout: Literal["nifti", "mhd"] = "nifti",
    faults: Mapping[str, Fault] | None = None,
) -> list[str]:
    """Writes clips below ``root`` as CAMUS; returns the name each has there, patient0001_4CH …

    Patients are numbered in order of their first clip; a clip without a view is written as 4CH.
    Clips must go from end-diastole to end-systole (``reading.ed_to_es``). Masks are written for
    the two phases, and for the whole sequence when each of its frames is labelled. ``mhd`` is the
    layout of the first release.
    """
    write: _Write = _write_nifti if layout == "nifti" else _write_mhd
    home = root / ("database_nifti" if layout == "nifti" else "training")
    (root / "database_split").mkdir(parents=True, exist_ok=True)
    numbers: dict[str, str] = {}
    splits: dict[str, list[str]] = {split: [] for split in SPLIT_FILES}
    names = []
    for clip in clips:
        fault = _fault(clip, faults, _CAMUS)
        if (clip.ed, clip.es) != (0, len(clip.frames) - 1):
            raise UsageError(f"{clip.name} does not go from end-diastole to end-systole.")
        patient = numbers.setdefault(clip.patient or clip.name, f"patient{len(numbers) + 1:04d}")
        if clip.split in splits and patient not in splits[clip.split]:
            splits[clip.split].append(patient)
        names.append(f"{patient}_{clip.view or '4CH'}")
        (home / patient).mkdir(parents=True, exist_ok=True)
        _write_camus_clip(home / patient, names[-1], clip, write, fault)
    for split, file in SPLIT_FILES.items():
        lines = "".join(f"{patient}\n" for patient in splits[split])
        (root / "database_split" / file).write_text(lines)
    return names


def write_echonet(
    root: Path, clips: Iterable[EchoClip], faults: Mapping[str, Fault] | None = None
) -> None:
    """Writes clips below ``root`` as EchoNet-Dynamic, with tracings of the two phases.

    Videos are Motion JPEG at the clip's rate, 50 frames a second where it has none; their size is
    the clips'. A clip's name becomes its file's.
    """
    (root / "Videos").mkdir(parents=True, exist_ok=True)
    files: list[list[object]] = []
    rows: list[list[object]] = []
    for clip in clips:
        fault = _fault(clip, faults, _ECHONET)
        frames, ed, es = clip.frames, clip.ed, clip.es
        last = len(frames) - 1
        if fault is Fault.ES_FIRST:
            frames, ed, es = frames[::-1], last - ed, last - es
        if fault is not Fault.NO_TRACING:
            for index, truth in sorted(((ed, clip.ed), (es, clip.es))):
                rows += _rows(clip, index, trace(clip.masks[truth] == CAVITY), fault, index == ed)
        if fault is Fault.BEYOND:
            rows += _rows(clip, last + 5, trace(clip.masks[clip.ed] == CAVITY), None, False)
        if fault is Fault.NO_VIDEO:
            continue
        fps = clip.fps if clip.fps > 0 else 50.0
        size = [clip.frames.shape[1], clip.frames.shape[2], round(fps, 3), len(frames)]
        line = [clip.name, clip.ef, clip.esv_ml, clip.edv_ml, *size, clip.split.upper()]
        files += [line] * (2 if fault is Fault.SAME_ROW else 1)
        if fault is not Fault.LOST_VIDEO:
            path = root / "Videos" / f"{clip.name}.avi"
            _write_avi(path, frames, fps)
            _truncate(path, fault)
    sizes = ["FrameHeight", "FrameWidth", "FPS", "NumberOfFrames"]
    _write_csv(root / "FileList.csv", ["FileName", "EF", "ESV", "EDV", *sizes, "Split"], files)
    _write_csv(root / "VolumeTracings.csv", list(TRACING_COLUMNS), rows)


def _fault(
    clip: EchoClip, faults: Mapping[str, Fault] | None, known: tuple[Fault, ...]
) -> Fault | None:
    fault = (faults or {}).get(clip.name)
    if fault is not None and fault not in known:
        raise UsageError(
            f"{str(fault)!r} cannot be planted here.", hint=f"Known: {', '.join(known)}."
        )
    return fault


def _write_camus_clip(
    folder: Path, name: str, clip: EchoClip, write: _Write, fault: Fault | None
) -> None:
    ordered = slice(None, None, -1 if fault is Fault.ES_FIRST else 1)
    frames, masks, labelled = clip.frames[ordered], clip.masks[ordered], clip.labelled[ordered]
    if fault is Fault.LABELS_255:
        masks = np.where(masks == CAVITY, 255, 0).astype(np.uint8)
    if fault is Fault.CROPPED_MASK:
        masks = masks[:, 1:]
    ed, es = (len(frames) - 1, 0) if fault is Fault.ES_FIRST else (0, len(frames) - 1)
    sequence = write(folder / f"{name}_half_sequence", frames, clip.spacing_mm)
    _truncate(sequence, fault)
    if labelled.all() and fault is not Fault.NO_MASK:
        write(folder / f"{name}_half_sequence_gt", masks, clip.spacing_mm)
    for phase, index in (("ED", ed), ("ES", es)):
        write(folder / f"{name}_{phase}", frames[index : index + 1], clip.spacing_mm)
        if fault is not Fault.NO_MASK:
            write(folder / f"{name}_{phase}_gt", masks[index : index + 1], clip.spacing_mm)
    wrong = 100 if fault is Fault.WRONG_INFO else 0
    info = {
        "ED": ed + 1,
        "ES": es + 1 + wrong,
        "NbFrame": len(frames),
        "ImageQuality": "Good",
        "EF": clip.ef,
        "LVedv": clip.edv_ml,
        "LVesv": clip.esv_ml,
        "FrameRate": clip.fps,
    }
    known = {k: v for k, v in info.items() if not (isinstance(v, float) and math.isnan(v))}
    if fault is not Fault.NO_INFO:
        path = folder / f"Info_{name.rpartition('_')[2]}.cfg"
        path.write_text("".join(f"{key}: {value}\n" for key, value in known.items()))


def _rows(
    clip: EchoClip, index: int, tracing: Tracing, fault: Fault | None, first: bool
) -> list[list[object]]:
    """The rows of VolumeTracings.csv for one frame. ``first``: the one a fault is planted in."""
    if fault is Fault.ODD_POINTS:
        tracing = tracing[:-3]
    rows: list[list[object]] = tracing.round(4).tolist()
    if first and fault is Fault.FEW_POINTS:
        rows = rows[:2]
    elif first and fault is Fault.NOT_NUMBERS:
        rows[5] = ["", "", "", ""]
    elif first and fault is Fault.DUPLICATE:
        rows = rows * 2
    elif first and fault is Fault.RETRACED:
        rows += (tracing + 5).round(4).tolist()
    return [[f"{clip.name}.avi", *ends, index] for ends in rows]


def _write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _write_mhd(path: Path, pixels: NDArray[np.uint8], spacing: tuple[float, float]) -> Path:
    write_mhd(path.with_name(path.name + ".mhd"), pixels, spacing)
    return path.with_name(path.name + ".raw")


def _write_nifti(path: Path, pixels: NDArray[np.uint8], spacing: tuple[float, float]) -> Path:
    try:
        import nibabel
    except ImportError:
        raise MissingExtra("nibabel", "medical", "Writing NIfTI files") from None
    y, x = spacing if all(math.isfinite(size) for size in spacing) else (1.0, 1.0)
    data = pixels.transpose(2, 1, 0)
    image = nibabel.Nifti1Image(data[:, :, 0] if len(pixels) == 1 else data, np.diag((x, y, 1, 1)))
    path = path.with_name(path.name + ".nii.gz")
    nibabel.save(image, path)
    return path


def _write_avi(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    height, width = frames.shape[1:]
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), code, fps, (width, height), isColor=True)
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()


def _truncate(path: Path, fault: Fault | None) -> None:
    if fault is Fault.TRUNCATED:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
