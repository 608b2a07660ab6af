"""CAMUS written and read again, whole and with everything that is known to go wrong."""

from __future__ import annotations

import builtins
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from echo_clips import drawn

from retain.datasets.echo.camus import Camus
from retain.datasets.echo.clip import CAVITY, UNLABELLED, EchoClip
from retain.datasets.echo.echonet import EchoNet
from retain.datasets.echo.export import Fault, write_camus, write_echonet
from retain.datasets.echo.metaimage import read_mhd, write_mhd
from retain.datasets.echo.reading import DatasetError, Trouble, ed_to_es, to_grey, to_labels
from retain.pipeline.errors import MissingExtra, UsageError

pytest.importorskip("nibabel")

LAYOUTS = ("nifti", "mhd")


def clips() -> list[EchoClip]:
    """Two patients, the first with both views."""
    return [
        drawn("a", patient="p", view="2CH"),
        drawn("b", patient="p", view="4CH", frames=12),
        drawn("c", patient="q", split="test"),
    ]


def same(read: EchoClip, written: EchoClip) -> None:
    assert (read.frames == written.frames).all()
    assert (read.masks == written.masks).all()
    assert read.spacing_mm == pytest.approx(written.spacing_mm, rel=1e-6)  # float32 in NIfTI
    assert (read.ed, read.es) == (written.ed, written.es)
    for name in ("fps", "ef", "edv_ml", "esv_ml", "view", "split"):
        assert getattr(read, name) == getattr(written, name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read(tmp_path: Path, layout: str) -> None:
    names = write_camus(tmp_path, clips(), layout)
    assert names == ["patient0001_2CH", "patient0001_4CH", "patient0002_4CH"]
    reader = Camus(tmp_path)
    read = list(reader.clips())
    assert [clip.name for clip in read] == names
    assert [clip.patient for clip in read] == ["patient0001", "patient0001", "patient0002"]
    for one, other in zip(read, clips(), strict=True):
        same(one, other)
        assert not one.flipped
        assert one.notes == ()
    assert reader.problems == []


def test_splits_and_views_choose(tmp_path: Path) -> None:
    write_camus(tmp_path, clips())
    reader = Camus(tmp_path)
    assert [clip.patient for clip in reader.clips("test")] == ["patient0002"]
    assert [clip.name for clip in reader.clips("train", views=("2CH",))] == ["patient0001_2CH"]
    assert list(reader.clips("val")) == []
    with pytest.raises(UsageError, match="split is one of train, val, test"):
        reader.clips("training")  # type: ignore[arg-type]


def test_clips_come_one_by_one(tmp_path: Path) -> None:
    write_camus(tmp_path, clips())
    reading = iter(Camus(tmp_path).clips())
    next(reading)
    for path in (tmp_path / "database_nifti" / "patient0002").iterdir():
        path.unlink()
    next(reading)
    with pytest.raises(StopIteration):
        next(reading)


def test_the_folder_with_the_patients_will_do(tmp_path: Path) -> None:
    write_camus(tmp_path, clips())
    reader = Camus(tmp_path / "database_nifti")
    assert len(list(reader.clips())) == 3
    assert len(list(reader.clips("test"))) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_end_systole_first_is_turned_around(tmp_path: Path, layout: str) -> None:
    write_camus(tmp_path, clips(), layout, {"b": Fault.ES_FIRST})
    reader = Camus(tmp_path)
    for one, other in zip(reader.clips(), clips(), strict=True):
        same(one, other)
        assert one.flipped == (other.name == "b")
    assert reader.problems == []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        (Fault.LABELS_255, Trouble.LABELS, "values 0, 255.*If 255 is the cavity, save it as 1"),
        (Fault.NO_MASK, Trouble.MISSING, "no patient0001_4CH_ED_gt.nii.gz or .mhd"),
        (Fault.CROPPED_MASK, Trouble.SIZE, "is 12×95×112, its pictures are 12×96×112"),
        (Fault.TRUNCATED, Trouble.BROKEN, "cannot be read|bytes instead of"),
    ],
)
def test_what_costs_a_clip_is_told_and_costs_no_other(
    tmp_path: Path, layout: str, fault: Fault, kind: Trouble, match: str
) -> None:
    write_camus(tmp_path, clips(), layout, {"b": fault})
    reader = Camus(tmp_path)
    assert [clip.name for clip in reader.clips()] == ["patient0001_2CH", "patient0002_4CH"]
    (problem,) = reader.problems
    assert problem.item.startswith("patient0001_4CH")
    assert problem.kind is kind
    assert problem.lost
    with pytest.raises(DatasetError, match=match):
        list(reader.clips(strict=True))


@pytest.mark.parametrize("fault", [Fault.NO_INFO, Fault.WRONG_INFO])
def test_an_info_that_does_not_help_is_noted(tmp_path: Path, fault: Fault) -> None:
    write_camus(tmp_path, clips(), faults={"b": fault})
    reader = Camus(tmp_path)
    clip = list(reader.clips())[1]
    assert (clip.frames == clips()[1].frames).all()
    (problem,) = reader.problems
    assert (problem.item, problem.kind, problem.lost) == ("patient0001_4CH", Trouble.INFO, False)
    assert clip.notes == (problem.what,)
    assert math.isnan(clip.ef) == (fault is Fault.NO_INFO)


def test_phases_that_their_masks_contradict_are_noted(tmp_path: Path) -> None:
    clip = clips()[0]
    backwards = replace(clip, frames=clip.frames[::-1], masks=clip.masks[::-1])
    write_camus(tmp_path, [backwards])
    reader = Camus(tmp_path)
    (read,) = reader.clips()
    assert not read.flipped
    assert [problem.kind for problem in reader.problems] == [Trouble.PHASES]
    assert "not larger at end-diastole" in read.notes[0]


def test_a_sequence_with_two_masks_leaves_the_rest_unlabelled(tmp_path: Path) -> None:
    clip = clips()[0]
    masks = clip.masks.copy()
    masks[1:-1] = UNLABELLED
    write_camus(tmp_path, [replace(clip, masks=masks)])
    (read,) = Camus(tmp_path).clips()
    assert (read.masks == masks).all()
    assert read.labelled.sum() == 2


@pytest.mark.parametrize("flat", [False, True])
def test_pictures_of_the_two_phases_alone_make_a_clip(tmp_path: Path, flat: bool) -> None:
    """Also as one user of the first release has them: in ``frames`` and ``masks``."""
    write_camus(tmp_path, clips(), "mhd")
    for path in list(tmp_path.glob("training/*/*")):
        if "half_sequence" in path.name:
            path.unlink()
        elif flat and path.suffix == ".mhd":
            folder = tmp_path / ("masks" if "_gt" in path.name else "frames")
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
            path.with_suffix(".raw").rename(folder / path.with_suffix(".raw").name)
    reader = Camus(tmp_path)
    for one, other in zip(reader.clips(), clips(), strict=True):
        assert (one.frames == other.frames[[0, -1]]).all()
        assert (one.masks == other.masks[[0, -1]]).all()
        assert (one.ed, one.es) == (0, 1)
        assert one.ef == other.ef or flat
    assert reader.problems == []


def test_testing_patients_of_the_first_release_do_not_take_the_place_of_training_ones(
    tmp_path: Path,
) -> None:
    """Both are numbered from 1; testing has pictures alone."""
    write_camus(tmp_path, clips(), "mhd")
    other = tmp_path / "other"
    write_camus(other, [drawn("z", patient="p", view="2CH", frames=7)], "mhd")
    (tmp_path / "testing").mkdir()
    (other / "training" / "patient0001").rename(tmp_path / "testing" / "patient0001")
    for path in (tmp_path / "testing").glob("*/*_gt*"):
        path.unlink()
    reader = Camus(tmp_path)
    for one, written in zip(reader.clips(), clips(), strict=True):
        same(one, written)
    assert ["two folders" in problem.what for problem in reader.problems] == [True]


def test_another_folder_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist.*CAMUS is a folder with"):
        Camus(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="expected database_nifti/patient0001.*found nothing"):
        Camus(tmp_path)
    write_echonet(tmp_path, [])
    with pytest.raises(UsageError, match="found FileList.csv, Videos/, VolumeTracings.csv"):
        Camus(tmp_path)
    (tmp_path / "Videos").rmdir()
    with pytest.raises(UsageError, match="expected FileList.csv, VolumeTracings.csv and Videos"):
        EchoNet(tmp_path)


def test_split_files_are_checked(tmp_path: Path) -> None:
    write_camus(tmp_path, clips())
    testing = tmp_path / "database_split" / "subgroup_testing.txt"
    testing.write_text("patient0002\npatient0007\n")
    reader = Camus(tmp_path)
    assert len(list(reader.clips("test"))) == 1
    assert [(p.item, p.kind) for p in reader.problems] == [("database_split", Trouble.MISSING)]
    assert "patient0007" in reader.problems[0].what
    testing.write_text("patient0001\n")
    with pytest.raises(UsageError, match="patient0001 is in the splits 'train' and 'test'"):
        reader.clips()
    testing.unlink()
    assert {clip.split for clip in reader.clips()} == {"train", ""}
    with pytest.raises(UsageError, match="has no database_split/subgroup_testing.txt"):
        reader.clips("test")


def test_without_nibabel_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_camus(tmp_path, clips())
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name == "nibabel":
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"'nibabel'.*retain\[medical\]"):
        list(Camus(tmp_path).clips())
    with pytest.raises(MissingExtra, match=r"retain\[medical\]"):
        write_camus(tmp_path, clips())


@pytest.mark.parametrize(("kind", "dtype"), [("MET_FLOAT", "<f4"), ("MET_SHORT", ">i2")])
@pytest.mark.parametrize("deflated", [False, True])
def test_metaimages_of_other_kinds(tmp_path: Path, kind: str, dtype: str, deflated: bool) -> None:
    pixels = np.arange(60).reshape(3, 4, 5)
    path = tmp_path / "a.mhd"
    write_mhd(path, pixels.astype(np.uint8), (0.3, 0.15))
    header = path.read_text().replace("MET_UCHAR", kind)
    header = header.replace("OrderMSB = False", f"OrderMSB = {dtype[0] == '>'}")
    path.write_text(header.replace("CompressedData = False", f"CompressedData = {deflated}"))
    raw = pixels.astype(dtype).tobytes()
    path.with_suffix(".raw").write_bytes(zlib.compress(raw) if deflated else raw)
    read, spacing = read_mhd(path)
    assert (read == pixels).all()
    assert spacing == (0.3, 0.15)
    assert (to_grey("a", read) == pixels).all()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("DimSize = 5 4 3", "DimSize = 5 4", "holds 60 bytes instead of 20"),
        ("DimSize = 5 4 3", "DimSize = five", "are no numbers"),
        ("DimSize = 5 4 3\n", "", "has no DimSize"),
        ("DimSize = 5 4 3", "DimSize = 99999 99999 99999", "promises"),
        ("MET_UCHAR", "MET_LONG_LONG", "MET_LONG_LONG, not one of"),
        ("= a.raw", "= LOCAL", "'LOCAL', is not beside it"),
        ("= a.raw", "= ../a.raw", "is not beside it"),
        ("CompressedData = False", "CompressedData = True", "is not deflated"),
        ("ElementSpacing = ", "ElementSpacing = 1\nOther = ", "the spacing \\[1.0\\]"),
    ],
)
def test_metaimages_that_are_none(tmp_path: Path, old: str, new: str, match: str) -> None:
    path = tmp_path / "a.mhd"
    write_mhd(path, np.arange(60, dtype=np.uint8).reshape(3, 4, 5), (0.3, 0.15))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=match):
        read_mhd(path)


def test_pixels_and_labels_are_never_guessed() -> None:
    assert to_labels("a", np.array([0.0, 3.0])).tolist() == [0, 3]
    for odd in ([0, 4], [0.5, 1], [-1, 0], [np.nan, 0], [256, 1]):
        with pytest.raises(DatasetError, match="labels are 0 background"):
            to_labels("a", np.array(odd))
    for odd in ([0, 256], [-1, 0], [0, np.nan]):
        with pytest.raises(DatasetError, match="Grey levels 0 to 255 are expected"):
            to_grey("a", np.array(odd))


def test_the_part_between_the_phases() -> None:
    clip = drawn(frames=10)
    part = ed_to_es(replace(clip, ed=7, es=2))
    assert (part.frames == clip.frames[7:1:-1]).all()
    assert (part.masks == clip.masks[7:1:-1]).all()
    assert (part.ed, part.es, part.flipped) == (0, 5, True)
    assert (ed_to_es(replace(clip, ed=3, es=0)).masks == clip.masks[3::-1]).all()
    assert not ed_to_es(replace(clip, ed=1, es=4)).flipped
    assert (part.masks[0] == CAVITY).any()
    with pytest.raises(ValueError, match="unknown"):
        ed_to_es(replace(clip, es=-1))
