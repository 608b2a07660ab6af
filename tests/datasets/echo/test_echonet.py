"""EchoNet-Dynamic written and read again, whole and with everything that is known to go wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from echo_clips import drawn
from numpy.typing import NDArray
from scipy import ndimage

from retain.datasets.echo.clip import CAVITY, UNLABELLED, EchoClip
from retain.datasets.echo.echonet import EchoNet
from retain.datasets.echo.export import Fault, write_echonet
from retain.datasets.echo.reading import DatasetError, Trouble
from retain.datasets.echo.tracings import fill, separate, trace
from retain.pipeline.errors import UsageError


def clips() -> list[EchoClip]:
    return [drawn("0XA"), drawn("0XB", frames=12), drawn("0XC", split="test")]


def write(root: Path, fault: Fault | None = None) -> EchoNet:
    """Three clips, the second with a fault."""
    write_echonet(root, clips(), {"0XB": fault} if fault else None)
    return EchoNet(root)


def outline_only(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks differ only in pixels within one of the border."""
    border = ndimage.binary_dilation(other) & ~ndimage.binary_erosion(other)
    return not ((one ^ other) & ~border).any()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    reader = write(tmp_path)
    for one, other in zip(reader.clips(), clips(), strict=True):
        assert one.frames.shape == other.frames.shape
        # Motion JPEG: flat areas within two grey levels, edges ring by more.
        assert np.abs(one.frames.astype(int) - other.frames).mean() < 2
        assert one.labelled.tolist() == [True, *[False] * (len(other.frames) - 2), True]
        for index in (one.ed, one.es):
            assert outline_only(one.masks[index] == CAVITY, other.masks[index] == CAVITY)
        assert (one.masks[1:-1] == UNLABELLED).all()
        assert math.isnan(one.spacing_mm[0])
        for name in ("name", "ed", "es", "fps", "ef", "edv_ml", "esv_ml", "view", "split"):
            assert getattr(one, name) == getattr(other, name)
    assert reader.problems == []


def test_splits_choose(tmp_path: Path) -> None:
    reader = write(tmp_path)
    assert [clip.name for clip in reader.clips("test")] == ["0XC"]
    assert [clip.name for clip in reader.clips("train")] == ["0XA", "0XB"]
    with pytest.raises(UsageError, match="split is one of"):
        reader.clips("TEST")  # type: ignore[arg-type]


def test_the_larger_tracing_is_end_diastole_whichever_comes_first(tmp_path: Path) -> None:
    reader = write(tmp_path, Fault.ES_FIRST)
    assert [(clip.ed, clip.es) for clip in reader.clips()] == [(0, 7), (11, 0), (0, 7)]
    assert reader.problems == []


@pytest.mark.parametrize(
    ("fault", "kinds", "labelled", "match"),
    [
        (Fault.NO_TRACING, [Trouble.NO_TRACING], 0, "none of its frames are traced"),
        (Fault.ODD_POINTS, [Trouble.POINTS] * 2, 2, "frame 0: 18 rows; 21 are usual"),
        (Fault.NOT_NUMBERS, [Trouble.POINTS], 2, "frame 0: 21 rows, 1 of them not numbers"),
        (Fault.FEW_POINTS, [Trouble.POINTS] * 2 + [Trouble.PHASES], 1, "too few chords"),
        (Fault.DUPLICATE, [Trouble.DUPLICATE], 2, "frame 0: 2 times the same tracing"),
        (Fault.RETRACED, [Trouble.DUPLICATE], 2, "frame 0: 2 times different tracings"),
        (Fault.BEYOND, [Trouble.SIZE], 2, "frame 16: it is traced, but the video has 12 frames"),
    ],
)
def test_what_is_odd_is_noted_and_the_clip_still_comes(
    tmp_path: Path, fault: Fault, kinds: list[Trouble], labelled: int, match: str
) -> None:
    reader = write(tmp_path, fault)
    clip = list(reader.clips())[1]
    assert clip.labelled.sum() == labelled
    assert [problem.kind for problem in reader.problems] == kinds
    assert {problem.item for problem in reader.problems} == {"0XB"}
    assert not any(problem.lost for problem in reader.problems)
    assert clip.notes == tuple(problem.what for problem in reader.problems)
    assert any(match in note for note in clip.notes)
    assert (clip.ed, clip.es) == ((0, 11) if labelled == 2 else (-1, -1))
    if labelled == 2:
        truth = clips()[1].masks
        for index in (0, 11):
            ours, theirs = clip.masks[index] == CAVITY, truth[index] == CAVITY
            # Three chords less leave out a seventh of the cavity.
            assert (ours & theirs).sum() > (
                0.8 if fault is Fault.ODD_POINTS else 0.95
            ) * theirs.sum()


@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        (Fault.LOST_VIDEO, Trouble.MISSING, "there is no Videos/0XB.avi"),
        (Fault.TRUNCATED, Trouble.BROKEN, "0XB.avi"),
    ],
)
def test_a_video_that_cannot_be_read_costs_no_other(
    tmp_path: Path, fault: Fault, kind: Trouble, match: str
) -> None:
    reader = write(tmp_path, fault)
    assert [clip.name for clip in reader.clips()] == ["0XA", "0XC"]
    assert [(p.item, p.kind, p.lost) for p in reader.problems] == [("0XB", kind, True)]
    with pytest.raises(DatasetError, match=match):
        list(reader.clips(strict=True))


def test_a_tracing_without_a_video_is_told_once(tmp_path: Path) -> None:
    reader = write(tmp_path, Fault.NO_VIDEO)
    for _ in range(2):
        assert [clip.name for clip in reader.clips()] == ["0XA", "0XC"]
        assert [(p.item, p.kind) for p in reader.problems] == [("0XB", Trouble.NO_VIDEO)]


def test_a_video_listed_twice_comes_once(tmp_path: Path) -> None:
    reader = write(tmp_path, Fault.SAME_ROW)
    assert [clip.name for clip in reader.clips()] == ["0XA", "0XB", "0XC"]
    assert [(p.item, p.kind) for p in reader.problems] == [("0XB", Trouble.DUPLICATE)]


def test_more_than_two_traced_frames_are_all_kept(tmp_path: Path) -> None:
    reader = write(tmp_path)
    table = tmp_path / "VolumeTracings.csv"
    rows = table.read_text().splitlines()
    third = [
        row.rpartition(",")[0] + ",4"
        for row in rows
        if row.startswith("0XA") and row.endswith(",7")
    ]
    # A larger cavity than at the end, a smaller one than at the start.
    table.write_text("\n".join(rows + third) + "\n")
    clip = next(reader.clips())
    assert clip.labelled.nonzero()[0].tolist() == [0, 4, 7]
    assert clip.ed == 0
    assert clip.notes == ("3 of its frames are traced; two are usual.",)


def test_tables_of_another_kind_are_told_by_their_columns(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "VolumeTracings.csv"
    table.write_text(table.read_text().replace("X1", "X"))
    with pytest.raises(
        UsageError, match="VolumeTracings.csv in .* has no column 'X1'.*FileName, X,"
    ):
        EchoNet(tmp_path)
    table.write_text("")
    with pytest.raises(UsageError, match="its columns are none"):
        EchoNet(tmp_path)


def test_a_missing_rate_is_the_videos_own(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "FileList.csv"
    table.write_text(table.read_text().replace(",40.0,", ",,").replace(",55.5,", ",unknown,"))
    reader = EchoNet(tmp_path)
    clip = next(reader.clips())
    assert clip.fps == pytest.approx(40, rel=0.01)
    assert math.isnan(clip.ef)
    assert reader.problems[0].kind is Trouble.INFO


def test_the_filler_includes_the_outline() -> None:
    """OpenCV's convention: a 4×4 outline from 2 to 5 holds 16 pixels, not 9."""
    chords = [[2, y, 5, y] for y in (2, 3, 4, 5)]
    tracing = np.array([[3.5, 2, 3.5, 5], *chords], float)
    mask = fill(tracing, 8, 8)
    assert mask.sum() == 16
    assert mask[2:6, 2:6].all()
    assert (fill(tracing + 0.4, 8, 8) == mask).all()  # rounded to the nearest pixel
    assert fill(tracing + np.array([1e12, 0, 1e12, 0]), 8, 8).sum() == 0


def test_crossing_chords_are_filled_without_an_error() -> None:
    tracing = np.array([[4, 0, 4, 8], [1, 1, 7, 1], [7, 4, 1, 4], [1, 7, 7, 7]], float)
    assert 0 < fill(tracing, 9, 9).sum() < 81


@pytest.mark.parametrize("rows", [21, 42, 63, 20, 40, 1])
def test_tracings_of_one_frame_are_told_apart_by_their_length(rows: int) -> None:
    parts = separate(np.zeros((rows, 4)))
    assert [len(part) for part in parts] == ([21] * (rows // 21) if rows % 21 == 0 else [rows])


@pytest.mark.parametrize("index", [0, 7])
def test_a_traced_mask_is_filled_to_itself(index: int) -> None:
    mask = drawn().masks[index] == CAVITY
    tracing = trace(mask)
    assert tracing.shape == (21, 4)
    assert outline_only(fill(tracing, *mask.shape), mask)
    apex, base = tracing[0, :2], tracing[0, 2:]
    assert apex[1] < base[1]
    middles = (tracing[1:, :2] + tracing[1:, 2:]) / 2
    assert (np.diff(middles[:, 1]) > 0).all()  # from the apex to the base
