"""EchoNet-Dynamic (Ouyang et al., Nature 2020): 10,030 apical four-chamber videos, 112×112.

``FileList.csv`` names the videos with their EF, volumes and split; ``VolumeTracings.csv`` holds the
left ventricle's outline in two frames of most; ``Videos`` the AVI files. The data are not ours to
pass on; get them from their authors.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.clip import CAVITY, UNLABELLED, EchoClip
from retain.datasets.echo.reading import (
    DatasetError,
    Problems,
    Split,
    Trouble,
    check_split,
    wrong_folder,
)
from retain.datasets.echo.tracings import CHORDS, Tracing, fill, separate
from retain.pipeline.errors import SourceError, UsageError
from retain.pipeline.sources.video import VideoSource

FILE_COLUMNS = ("FileName", "EF", "ESV", "EDV", "Split")
TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
EXPECTED = "FileList.csv, VolumeTracings.csv and Videos/*.avi"


class _Row(NamedTuple):
    """One line of FileList.csv."""

    name: str
    split: str
    ef: float
    edv: float
    esv: float
    fps: float


class EchoNet:
    """The videos of an EchoNet-Dynamic folder.

    root  the folder with FileList.csv in it

    Raises UsageError when it is another folder or its tables have other columns. What is wrong
    with single items never stops the reading: ``problems`` lists it, and videos that cannot be
    read are left out.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.problems = Problems()
        """Of the last ``clips``, in the order met."""
        for name in ("FileList.csv", "VolumeTracings.csv", "Videos"):
            if not (self.root / name).exists():
                raise wrong_folder(self.root, "EchoNet-Dynamic", EXPECTED)
        self._check_columns("FileList.csv", FILE_COLUMNS)
        self._check_columns("VolumeTracings.csv", TRACING_COLUMNS)

    def clips(self, split: Split | None = None, strict: bool = False) -> Iterator[EchoClip]:
        """Whole videos one by one, in the order of FileList.csv, as they were recorded.

        split   only these
        strict  raise DatasetError at the first video that cannot be read

        End-diastole is the traced frame with the larger area, whichever comes first in time (see
        ``reading.ed_to_es`` for the part between). Frames without a tracing are unlabelled, and so
        is a whole video without one. Tracings without a video are told at the end.
        """
        check_split(split)
        return self._clips(split, strict)

    def _clips(self, split: str | None, strict: bool) -> Iterator[EchoClip]:
        self.problems.clear()
        tracings = self._tracings()
        listed: set[str] = set()
        for row in self._rows():
            if row.name in listed:
                self.problems.note(row.name, Trouble.DUPLICATE, "FileList.csv has it twice.")
                continue
            listed.add(row.name)
            if split not in (None, row.split):
                continue
            try:
                yield self._clip(row, tracings.get(row.name, {}))
            except DatasetError as error:
                if strict:
                    raise
                self.problems.lose(error)
        for name in sorted(set(tracings) - listed):
            what = "VolumeTracings.csv has a tracing of it; FileList.csv has no such video."
            self.problems.lose(DatasetError(name, Trouble.NO_VIDEO, what))

    def _check_columns(self, name: str, expected: tuple[str, ...]) -> None:
        with (self.root / name).open(newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        missing = [column for column in expected if column not in header]
        if missing:
            raise UsageError(
                f"{name} in {str(self.root)!r} has no column {missing[0]!r}; "
                f"its columns are {', '.join(header) or 'none'}.",
                hint=f"Expected: {', '.join(expected)}.",
            )

    def _table(self, name: str) -> Iterator[dict[str, str]]:
        with (self.root / name).open(newline="", encoding="utf-8-sig") as file:
            yield from csv.DictReader(file)

    def _rows(self) -> Iterator[_Row]:
        for line in self._table("FileList.csv"):
            name = _stem(line["FileName"])
            numbers = [_number(line.get(column)) for column in ("EF", "EDV", "ESV", "FPS")]
            if math.isnan(numbers[0]):
                self.problems.note(name, Trouble.INFO, "FileList.csv gives it no EF.")
            yield _Row(name, (line["Split"] or "").strip().lower(), *numbers)

    def _tracings(self) -> dict[str, dict[int, Tracing]]:
        """The rows of VolumeTracings.csv by video and frame, in their order."""
        rows: dict[str, dict[int, list[list[float]]]] = {}
        for line in self._table("VolumeTracings.csv"):
            name, frame = _stem(line["FileName"]), _number(line["Frame"])
            if math.isnan(frame):
                self.problems.note(name, Trouble.POINTS, "a row of its tracing names no frame.")
                continue
            ends = [_number(line[column]) for column in ("X1", "Y1", "X2", "Y2")]
            rows.setdefault(name, {}).setdefault(int(frame), []).append(ends)
        return {
            name: {frame: np.array(segments) for frame, segments in frames.items()}
            for name, frames in rows.items()
        }

    def _clip(self, row: _Row, tracings: Mapping[int, Tracing]) -> EchoClip:
        frames, fps = self._video(row.name)
        masks = np.full(frames.shape, UNLABELLED, np.uint8)
        notes: list[str] = []
        areas: dict[int, int] = {}
        for frame in sorted(tracings):
            cavity = self._cavity(row.name, frame, tracings[frame], frames.shape, notes)
            if cavity is not None:
                masks[frame] = np.where(cavity, CAVITY, 0)
                areas[frame] = int(cavity.sum())
        if len(areas) != 2:
            kind = Trouble.PHASES if areas else Trouble.NO_TRACING
            what = f"{len(areas) or 'none'} of its frames {'is' if len(areas) == 1 else 'are'} "
            notes.append(self.problems.note(row.name, kind, what + "traced; two are usual."))
        elif len(set(areas.values())) == 1:
            what = "its two tracings have the same area; the first is taken for end-diastole."
            notes.append(self.problems.note(row.name, Trouble.PHASES, what))
        ed, es = -1, -1
        if len(areas) > 1:
            ed = max(areas, key=lambda frame: areas[frame])
            es = min((frame for frame in areas if frame != ed), key=lambda frame: areas[frame])
        return EchoClip(
            name=row.name,
            frames=frames,
            masks=masks,
            spacing_mm=(math.nan, math.nan),
            fps=row.fps if row.fps > 0 else fps,
            patient=row.name,
            view="4CH",
            ed=ed,
            es=es,
            ef=row.ef,
            edv_ml=row.edv,
            esv_ml=row.esv,
            split=row.split,
            notes=tuple(notes),
        )

    def _cavity(
        self,
        name: str,
        frame: int,
        rows: Tracing,
        shape: tuple[int, ...],
        notes: list[str],
    ) -> NDArray[np.bool_] | None:
        """The mask of one traced frame; None when its tracing cannot be used."""

        def note(kind: Trouble, what: str) -> None:
            notes.append(self.problems.note(name, kind, f"frame {frame}: {what}"))

        if not 0 <= frame < shape[0]:
            note(Trouble.SIZE, f"it is traced, but the video has {shape[0]} frames.")
            return None
        tracings = separate(rows)
        if len(tracings) > 1:
            same = all(np.array_equal(tracings[0], other) for other in tracings[1:])
            what = "the same tracing" if same else "different tracings"
            note(Trouble.DUPLICATE, f"{len(tracings)} times {what}; the first is taken.")
        tracing = tracings[0]
        whole = np.asarray(np.isfinite(tracing).all(axis=1))
        if len(tracing) != 1 + CHORDS or not whole.all():
            bad = f", {int((~whole).sum())} of them not numbers" * bool((~whole).any())
            note(Trouble.POINTS, f"{len(tracing)} rows{bad}; {1 + CHORDS} are usual.")
        if not whole[0] or whole[1:].sum() < 3:
            note(Trouble.POINTS, "too few chords to draw the cavity; it stays unlabelled.")
            return None
        cavity = fill(tracing[whole], shape[1], shape[2])
        if not cavity.any():
            note(Trouble.POINTS, "its outline lies outside the picture; it stays unlabelled.")
            return None
        return cavity

    def _video(self, name: str) -> tuple[NDArray[np.uint8], float]:
        """uint8 [T, H, W] and frames per second of one video."""
        path = self.root / "Videos" / f"{name}.avi"
        if not path.is_file():
            raise DatasetError(name, Trouble.MISSING, f"there is no Videos/{path.name}.")
        try:
            with closing(VideoSource(str(path))) as source:
                seconds, pictures = [], []
                for frame in source.frames():
                    pictures.append(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY))
                    seconds.append(float(frame.pts * frame.time_base))
        except SourceError as error:
            raise DatasetError(name, Trouble.BROKEN, error.what, hint="Get it again.") from error
        if len({picture.shape for picture in pictures}) != 1:
            raise DatasetError(name, Trouble.SIZE, "its pictures change their size.")
        lasted = seconds[-1] - seconds[0]
        return np.stack(pictures), (len(pictures) - 1) / lasted if lasted > 0 else math.nan


def _stem(name: str) -> str:
    return name.strip().removesuffix(".avi")


def _number(word: str | None) -> float:
    try:
        return float(word or "nan")
    except ValueError:
        return math.nan
