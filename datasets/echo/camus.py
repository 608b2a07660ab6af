"""CAMUS (Leclerc et al., TMI 2019): 500 patients, apical two- and four-chamber half sequences.

Both releases are read: NIfTI (``database_nifti/patient0001/patient0001_2CH_half_sequence.nii.gz``
and so on) and MetaImage (``patient0001_2CH_ED.mhd``, in a folder per patient or in ``frames`` and
``masks``). The data are not ours to pass on; get them from their authors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.clip import CAVITY, UNLABELLED, EchoClip
from retain.datasets.echo.metaimage import read_mhd
from retain.datasets.echo.reading import (
    DatasetError,
    Problems,
    Split,
    Trouble,
    check_split,
    ed_to_es,
    to_grey,
    to_labels,
    wrong_folder,
)
from retain.pipeline.errors import MissingExtra, UsageError

VIEWS = ("2CH", "4CH")
SPLIT_FILES: dict[Split, str] = {
    "train": "subgroup_training.txt",
    "val": "subgroup_validation.txt",
    "test": "subgroup_testing.txt",
}
EXPECTED = "database_nifti/patient0001/patient0001_4CH_half_sequence.nii.gz and the like"

_SUFFIXES = (".nii.gz", ".nii", ".mhd")
_SEQUENCES = ("half_sequence", "sequence")
_PATIENT = re.compile(r"(patient\d+)_(2CH|4CH)_")


class _Volume(NamedTuple):
    """One image file."""

    pixels: NDArray[Any]
    """[T, H, W]."""
    spacing: tuple[float, float]


class Camus:
    """The clips of a CAMUS folder.

    root  the folder that was downloaded, or the one with the patients' folders in it

    Raises UsageError when there are no patients in it. What is wrong with single items never stops
    the reading: ``problems`` lists it, and items that cannot be read at all are left out.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.problems = Problems()
        """Of the last ``clips``, in the order met."""
        self._files: dict[str, Path] = {}
        self._twice: set[str] = set()
        for name in (".", "database_nifti", "training", "testing"):
            self._add(self.root / name)
        found = {match.groups() for name in self._files if (match := _PATIENT.match(name))}
        self._items = sorted((str(patient), str(view)) for patient, view in found)
        if not self._items:
            raise wrong_folder(self.root, "CAMUS", EXPECTED)

    def _add(self, folder: Path) -> None:
        """The files of a folder of patients, but for patients of whom an earlier one has the same:
        the first release counts from patient0001 in training and, others, in testing."""
        patterns = ("patient*/patient*", "frames/patient*", "masks/patient*")
        found = {path.name: path for pattern in patterns for path in folder.glob(pattern)}
        twice = {name.split("_")[0] for name in found.keys() & self._files.keys()}
        self._twice |= twice
        self._files |= {n: path for n, path in found.items() if n.split("_")[0] not in twice}

    def clips(
        self, split: Split | None = None, views: tuple[str, ...] = VIEWS, strict: bool = False
    ) -> Iterator[EchoClip]:
        """Clips one by one, from end-diastole to end-systole, patients in order of their number.

        split   only these patients, by the official files; UsageError when they are missing
        strict  raise DatasetError at the first item that cannot be read

        A sequence with a mask for each frame comes whole; where only the two phases have masks,
        the frames between are unlabelled; without a sequence the clip is those two frames.
        """
        check_split(split)
        splits = self._splits(split)
        return self._clips(splits, split, views, strict)

    def _clips(
        self, splits: dict[str, str], split: str | None, views: tuple[str, ...], strict: bool
    ) -> Iterator[EchoClip]:
        self.problems.clear()
        if self._twice:
            what = (
                f"{len(self._twice)} patients are in two folders, such as {min(self._twice)}; the "
                "first is read (database_nifti, training, testing)."
            )
            self.problems.note("testing", Trouble.DUPLICATE, what)
        listed = {patient for patient, group in splits.items() if split in (None, group)}
        absent = sorted(listed - {patient for patient, _ in self._items})
        if absent:
            shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
            what = f"{len(absent)} of its patients have no files: {shown}."
            self.problems.lose(DatasetError("database_split", Trouble.MISSING, what))
        for patient, view in self._items:
            group = splits.get(patient, "")
            if view not in views or split not in (None, group):
                continue
            try:
                yield self._clip(patient, view, group)
            except DatasetError as error:
                if strict:
                    raise
                self.problems.lose(error)

    def _splits(self, wanted: str | None) -> dict[str, str]:
        """The split of each patient, from the official files where they are."""
        splits: dict[str, str] = {}
        for split, name in SPLIT_FILES.items():
            near = (self.root, self.root.parent)
            paths = [folder / "database_split" / name for folder in near]
            path = next((path for path in paths if path.is_file()), None)
            if path is None and split == wanted:
                raise UsageError(
                    f"{str(self.root)!r} has no database_split/{name}, so no split {split!r}.",
                    hint="Add the file, one patient a line, or leave the split out.",
                )
            for patient in path.read_text().split() if path else ():
                if splits.setdefault(patient, split) != split:
                    raise UsageError(
                        f"{patient} is in the splits {splits[patient]!r} and {split!r}: results on "
                        "one would have seen the other.",
                        hint="Correct the files in database_split.",
                    )
        return splits

    def _clip(self, patient: str, view: str, split: str) -> EchoClip:
        name = f"{patient}_{view}"
        info = self._info(name, view)
        frames, masks, sequence = self._pictures(name)
        if sequence:
            ed, es, notes = self._phases(name, info, len(frames.pixels))
        else:
            ed, es, notes = 0, 1, ()
        if masks is None:
            masks = self._phase_masks(name, frames, ed, es)
        cavity = (masks == CAVITY).sum(axis=(1, 2))
        if cavity[ed] <= cavity[es]:
            what = (
                f"its cavity is not larger at end-diastole ({cavity[ed]} pixels) than at "
                f"end-systole ({cavity[es]})."
            )
            notes += (self.problems.note(name, Trouble.PHASES, what),)
        clip = EchoClip(
            name=name,
            frames=to_grey(name, frames.pixels),
            masks=masks,
            spacing_mm=frames.spacing,
            fps=info.get("FrameRate", math.nan),
            patient=patient,
            view=view,
            ed=ed,
            es=es,
            ef=info.get("EF", info.get("LVef", math.nan)),
            edv_ml=info.get("LVedv", math.nan),
            esv_ml=info.get("LVesv", math.nan),
            split=split,
            notes=notes,
        )
        return ed_to_es(clip)

    def _pictures(self, name: str) -> tuple[_Volume, NDArray[np.uint8] | None, bool]:
        """Frames, their masks (None: only the phases have some), and whether it is a sequence."""
        for kind in _SEQUENCES:
            path = self._find(f"{name}_{kind}")
            if path is not None:
                frames = _read(path)
                truth = self._find(f"{name}_{kind}_gt")
                return frames, _masks(name, truth, frames) if truth else None, True
        pairs = [self._phase(name, phase) for phase in ("ED", "ES")]
        if pairs[0][0].pixels.shape != pairs[1][0].pixels.shape:
            raise DatasetError(name, Trouble.SIZE, "its ED and ES pictures differ in size.")
        frames = np.concatenate([volume.pixels for volume, _ in pairs])
        masks = np.concatenate([mask for _, mask in pairs])
        return _Volume(frames, pairs[0][0].spacing), masks, False

    def _phase(self, name: str, phase: str) -> tuple[_Volume, NDArray[np.uint8]]:
        """Picture and mask of one phase, [1, H, W] each."""
        volume = _read(self._need(f"{name}_{phase}"))
        if len(volume.pixels) != 1:
            raise DatasetError(name, Trouble.SIZE, f"{name}_{phase} is no single picture.")
        return volume, _masks(name, self._need(f"{name}_{phase}_gt"), volume)

    def _phase_masks(self, name: str, frames: _Volume, ed: int, es: int) -> NDArray[np.uint8]:
        """Masks of a sequence of which only the two phases are drawn."""
        masks = np.full(frames.pixels.shape, UNLABELLED, np.uint8)
        for phase, index in (("ED", ed), ("ES", es)):
            one = _Volume(frames.pixels[:1], frames.spacing)
            masks[index] = _masks(name, self._need(f"{name}_{phase}_gt"), one)[0]
        return masks

    def _info(self, name: str, view: str) -> dict[str, float]:
        """The numbers of Info_2CH.cfg or Info_4CH.cfg, "key: value" in lines; empty without one."""
        folder = next(path.parent for file, path in self._files.items() if file.startswith(name))
        path = folder / f"Info_{view}.cfg"
        numbers = {}
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
            key, _, value = line.partition(":")
            with suppress(ValueError):  # "Sex: F"
                numbers[key.strip()] = float(value)
        return numbers

    def _phases(
        self, name: str, info: dict[str, float], count: int
    ) -> tuple[int, int, tuple[str, ...]]:
        """ED and ES of a sequence of ``count`` frames, by its Info, and what is odd about it.

        The official sequences begin with one phase and end with the other; that is what an Info
        which says something impossible is replaced by.
        """
        if count < 2:
            raise DatasetError(name, Trouble.SIZE, "its sequence is a single frame.")
        ed, es = info.get("ED", math.nan), info.get("ES", math.nan)
        stated = info.get("NbFrame", count)
        if not (1 <= ed <= count and 1 <= es <= count and ed != es):
            what = f"its Info gives no ED and ES among {count} frames; the ends are taken."
            ed, es = (count, 1) if ed > es else (1, count)
        elif stated != count:
            what = f"its Info says {stated:g} frames; there are {count}."
        else:
            return int(ed) - 1, int(es) - 1, ()
        return int(ed) - 1, int(es) - 1, (self.problems.note(name, Trouble.INFO, what),)

    def _find(self, stem: str) -> Path | None:
        return next((self._files[stem + s] for s in _SUFFIXES if stem + s in self._files), None)

    def _need(self, stem: str) -> Path:
        path = self._find(stem)
        if path is None:
            raise DatasetError(
                stem.removesuffix("_gt")[:-3],
                Trouble.MISSING,
                f"there is no {stem}.nii.gz or .mhd.",
            )
        return path


def _masks(name: str, path: Path, frames: _Volume) -> NDArray[np.uint8]:
    volume = _read(path)
    if volume.pixels.shape != frames.pixels.shape:
        raise DatasetError(
            name,
            Trouble.SIZE,
            f"{path.name} is {_shape(volume)}, its pictures are {_shape(frames)} (T, H, W).",
        )
    return to_labels(name, volume.pixels)


def _shape(volume: _Volume) -> str:
    return "×".join(str(size) for size in volume.pixels.shape)


def _read(path: Path) -> _Volume:
    if path.suffix == ".mhd":
        return _Volume(*read_mhd(path))
    try:
        import nibabel
    except ImportError:
        raise MissingExtra("nibabel", "medical", "Reading CAMUS's NIfTI files") from None
    try:
        image = nibabel.load(path)
        pixels = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel lets many kinds through: zlib, struct, OSError, its own
        what = f"{path.name} cannot be read ({type(error).__name__})."
        raise DatasetError(path.name, Trouble.BROKEN, what, hint="Get it again.") from error
    pixels = pixels.reshape([n for i, n in enumerate(pixels.shape) if i < 2 or n > 1])
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise DatasetError(path.name, Trouble.SIZE, f"{path.name} has {pixels.ndim} dimensions.")
    # NIfTI counts x, y, t; the affine is not looked at: echo pictures are stored as displayed.
    pixels = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 1, 0)
    x, y = (float(size) for size in image.header.get_zooms()[:2])
    return _Volume(np.ascontiguousarray(pixels), (y, x))
