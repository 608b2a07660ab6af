"""`retain segment` from a file to a folder, with an ellipse that beats in place of the network."""

from __future__ import annotations

import contextlib
import csv
import gzip
import importlib.util
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
import segment_parts as parts
from command_parts import Retain, Said
from PIL import Image

from retain.apps.segment import run as job
from retain.apps.segment.files import PALETTE, read_mask, write_mask
from retain.apps.segment.words import NOTICE
from retain.datasets.echo.volumes import largest_part

FRAMES, RATE = 75, 25
"""Three seconds: two beats of 0.8 s that neither end of the clip cuts off."""


def grey(k: int) -> np.ndarray:
    rng = np.random.default_rng(k)
    return np.repeat(rng.integers(0, 60, (96, 128, 1), np.uint8), 3, axis=2)


@pytest.fixture
def segment(retain: Retain, monkeypatch: pytest.MonkeyPatch) -> Retain:
    """Run `retain segment`, without a network."""
    monkeypatch.setattr(job, "STAGE", "segment_parts:Ellipses")

    def run(*words: object, runner: str = "inline") -> Said:
        return retain("segment", "--no-page", "--runner", runner, *words)

    return run


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return media.write_video(
        folder / "apical.avi", FRAMES, codec="mpeg4", size=(128, 96), rate=RATE, draw=grey
    )


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clip, with half a millimetre to the pixel."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    region = Dataset()
    region.RegionSpatialFormat, region.PhysicalUnitsXDirection = 1, 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SOPClassUID = UltrasoundMultiFrameImageStorage
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
    pixels = np.stack([grey(k) for k in range(FRAMES)])
    _, file.Rows, file.Columns, file.SamplesPerPixel = pixels.shape
    file.NumberOfFrames, file.FrameTime, file.PlanarConfiguration = FRAMES, 1000 / RATE, 0
    file.PhotometricInterpretation = "RGB"
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.PixelData = pixels.tobytes()
    file.SequenceOfUltrasoundRegions = [region]
    path = tmp_path_factory.mktemp("dicom") / "apical.dcm"
    file.save_as(path, enforce_file_format=True)
    return path


@dataclass(frozen=True)
class Result:
    """A run's folder, exit code and what it said."""

    out: Path
    code: int
    said: str


def result_of(source: Path, out: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "STAGE", "segment_parts:Ellipses")
        said = io.StringIO()
        options = job.SegmentOptions(source=str(source), out=out, page=False, runner="inline")
        with contextlib.redirect_stdout(said):
            done = job.segment(options, job.tell)
    return Result(out, done.exit_code, said.getvalue())


@pytest.fixture(scope="module")
def plain(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The AVI, segmented."""
    return result_of(clip, tmp_path_factory.mktemp("plain") / "out")


@pytest.fixture(scope="module")
def scaled(dicom: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The DICOM file, segmented: in millimetres."""
    return result_of(dicom, tmp_path_factory.mktemp("scaled") / "out")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(folder: str | Path = "out") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return found


def test_what_a_run_leaves(plain: Result) -> None:
    assert plain.code == 0
    made = {path.name for path in plain.out.iterdir()} - {"masks.nii.gz"}
    assert made == {
        "masks", "curve.csv", "beats.csv", "overlay.mp4", "results.jsonl", "summary.json",
        "report.html",
    }  # fmt: skip
    assert f"EF {parts.EF:.0f} %, median of 2 beats" in plain.said
    assert "area-length, one view" in plain.said
    assert "size of a pixel is unknown" in plain.said
    assert NOTICE in plain.said
    assert [path.name for path in plain.out.parent.iterdir()] == ["out"]


def test_masks_are_indexed_pictures_of_labels(plain: Result) -> None:
    files = sorted((plain.out / "masks").iterdir())
    assert [file.name for file in files] == [f"{k:06d}.png" for k in range(FRAMES)]
    with Image.open(files[0]) as picture:
        assert picture.mode == "P"
        assert picture.size == (128, 96)
        assert picture.getpalette()[:12] == [part for colour in PALETTE for part in colour]
        assert picture.text["Comment"] == NOTICE  # type: ignore[attr-defined]
        assert set(np.unique(np.asarray(picture))) == {0, 1}
    areas = [float(row["area"]) for row in table(plain.out / "curve.csv")]
    for file, area in zip(files, areas, strict=True):
        assert largest_part(read_mask(file) == 1).sum() == area, "the curve is of these masks"


def test_every_label_survives_the_file(tmp_path: Path) -> None:
    label = np.arange(12, dtype=np.uint8).reshape(3, 4) % 4
    write_mask(tmp_path / "m.png", label)
    assert (read_mask(tmp_path / "m.png") == label).all()


def test_curve_and_beats_are_tables(scaled: Result) -> None:
    assert scaled.code == 0
    curve, beats = table(scaled.out / "curve.csv"), table(scaled.out / "beats.csv")
    assert [int(row["seq"]) for row in curve] == list(range(FRAMES))
    assert float(curve[-1]["seconds"]) == pytest.approx((FRAMES - 1) / RATE)
    assert {row["unit"] for row in curve + beats} == {"mm"}
    assert {row["notice"] for row in curve + beats} == {NOTICE}
    assert len(beats) == 2
    for beat in beats:
        ed, es = curve[int(beat["ed_seq"])], curve[int(beat["es_seq"])]
        assert (beat["edv"], beat["esv"]) == (ed["volume"], es["volume"])
        assert float(beat["ef"]) == pytest.approx(parts.EF, abs=2)
    told = summary(scaled.out)
    assert told["unit"] == "mm"
    assert told["spacing_mm"] == [0.5, 0.5]
    assert told["ef_percent"] == pytest.approx(parts.EF, abs=2)
    assert "area-length" in told["ef_method"]
    assert told["notice"] == NOTICE
    assert told["complete"] is True


def test_lines_hold_every_number_and_beats_once(plain: Result) -> None:
    records = lines(plain.out / "results.jsonl")
    assert len(records) == FRAMES
    assert {record["notice"] for record in records} == {NOTICE}
    assert {*records[0]["results"]} == {"masks", "vitals"}
    with_beats = [r for r in records if r["results"]["vitals"].get("beats")]
    assert [len(r["results"]["vitals"]["beats"]) for r in with_beats] == [1, 2]


def test_the_overlay_plays_and_keeps_time(plain: Result) -> None:
    data = (plain.out / "overlay.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(plain.out / "overlay.mp4")) as file:
        video = file.streams.video[0]
        assert video.codec_context.name == "h264"
        assert video.codec_context.pix_fmt == "yuv420p"
        assert video.height > 480 > video.width * 0.7, "small clips are enlarged"
        frames = list(file.decode(video))
    times = [float(frame.pts * frame.time_base) for frame in frames]
    assert times == pytest.approx([k / RATE for k in range(FRAMES)], abs=1e-3)
    first = frames[0].to_ndarray(format="rgb24").astype(int)
    middle = first[250:262, 314:326].mean(axis=(0, 1))
    assert middle[2] > middle[0] + 15, "the cavity is tinted"


def test_nifti_holds_the_masks(scaled: Result) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(scaled.out / "masks.nii.gz")
    assert image.shape == (128, 96, 1, FRAMES)
    assert image.header.get_zooms() == pytest.approx((0.5, 0.5, 1.0, 1 / RATE))
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header["descrip"].item().decode() == NOTICE
    data = np.asarray(image.dataobj)
    for seq in (0, 40):
        assert (read_mask(scaled.out / f"masks/{seq:06d}.png") == data[:, :, 0, seq].T).all()


def test_without_nibabel_it_says_which_extra(
    segment: Retain, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "nibabel" else find(name)
    )
    said = segment(clip, "--out", "out")
    assert said.code == 0
    assert said.out.count("retain[medical]") == 1
    assert "retain[medical]" in Path("out/report.html").read_text()
    assert not Path("out/masks.nii.gz").exists()


def test_the_report_stands_alone_and_says_what_matters(scaled: Result) -> None:
    text = (scaled.out / "report.html").read_text()
    assert not re.search(r"https?://|url\(|@import", text)
    assert text.count("<script") == 1
    assert text.count(NOTICE) >= 2
    assert text.count("data:image/jpeg") == 8, "ED, ES and six more"
    assert f"<dd>{parts.EF:.0f} %" in text
    assert "area-length, one view" in text
    assert "A pixel is 0.5 mm high" in text
    assert text.count('class="ed"') == text.count('class="es"') == 2
    assert "No frame was flagged" in text
    assert "retain segment" in text
    assert "ellipse" in text, "what the segmenting stage says of its weights"


def test_both_runners_give_the_same(segment: Retain, clip: Path) -> None:
    for runner in ("inline", "local"):
        said = segment(clip, "--out", runner, runner=runner)
        assert said.code == 0, said.err
    for name in ("curve.csv", "beats.csv", "results.jsonl", "masks/000037.png"):
        assert Path("inline", name).read_bytes() == Path("local", name).read_bytes(), name


def test_a_picture_without_a_fan_is_one_sentence(segment: Retain, clip: Path) -> None:
    for words in ("broken", "fanless"):
        said = segment(clip, "--out", "out", "--weights", words)
        assert said.code == 1
        assert "No ultrasound fan was found" in said.err
        assert said.out == ""
        assert "Traceback" not in said.err
        assert list(Path().iterdir()) == []


def test_doubts_are_shown_everywhere(segment: Retain, clip: Path) -> None:
    said = segment(clip, "--out", "out", "--weights", "flagged")
    assert said.code == 0
    assert "doubtful, 37 of 75 frames: The fan shows colour Doppler" in said.out
    told = summary()
    assert told["doubtful_frames"] == 37
    assert told["doubtful"] is True
    assert "median of 2 beats; doubtful" in said.out
    assert told["flags"] == {"colour-doppler": 37}
    report = Path("out/report.html").read_text()
    assert "37 of 75 frames are doubtful" in report
    assert "doubtful; median of 2 beats" in report
    assert "colour Doppler" in report
    assert [row["flags"] for row in table(Path("out/curve.csv"))][:2] == ["", "colour-doppler"]


def test_nothing_found_and_nothing_moving_give_no_ef(segment: Retain, clip: Path) -> None:
    for words in ("none", "still"):
        said = segment(clip, "--out", words, "--weights", words, "--limit", 40)
        assert said.code == 0
        assert "no EF" in said.out
        assert summary(words)["ef_percent"] is None
        assert "Not one beat was found" in Path(words, "report.html").read_text()
    assert summary("none")["flags"] == {"no-cavity": 40}


def test_half_a_beat_is_measured_and_called_so(segment: Retain, clip: Path) -> None:
    said = segment(clip, "--out", "out", "--limit", 11)
    assert "no whole beat" in said.out
    assert summary()["ef_percent"] == pytest.approx(parts.EF, abs=2)
    assert "no whole beat" in table(Path("out/beats.csv"))[0]["method"]


def test_one_picture(segment: Retain, tmp_path: Path) -> None:
    Image.fromarray(grey(0)).save(tmp_path / "one.png")
    said = segment(tmp_path / "one.png", "--out", "out")
    assert said.code == 0, said.err
    assert "no EF" in said.out
    assert summary()["frames"] == 1


def test_pictures_of_several_sizes(segment: Retain, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for k in range(12):
        Image.fromarray(grey(k)[:, : 128 - 32 * (k > 5)]).save(folder / f"{k:02d}.png")
    said = segment(folder, "--out", "out")
    assert said.code == 0, said.err
    if importlib.util.find_spec("nibabel"):
        assert "not all of one size" in said.out
    with av.open("out/overlay.mp4") as file:
        assert sum(1 for _ in file.decode(file.streams.video[0])) == 12


def test_a_damaged_clip_gives_what_there_is(segment: Retain, tmp_path: Path) -> None:
    whole = media.write_video(tmp_path / "w.mp4", 60, options={"g": "10"}, draw=media.noisy)
    source = media.cut(tmp_path / "cut.mp4", media.faststart(tmp_path / "f.mp4", whole))
    said = segment(source, "--out", "out")
    assert said.code == 1
    assert "is damaged" in said.err
    assert summary()["complete"] is False
    assert 0 < summary()["frames"] < 60


def test_seconds_end_it(segment: Retain, clip: Path) -> None:
    said = segment(clip, "--out", "out", "--seconds", 1)
    assert said.code == 0, said.err
    assert summary()["complete"] is True
    assert summary()["frames"] < FRAMES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "disk"), "disks"),
        (("--structures", "wall"), "cavity"),
        (("--out", "."), "there already"),
        (("--limit", "-1"), "--limit"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    segment: Retain, clip: Path, arguments: tuple[str, ...], words: str
) -> None:
    said = segment(clip, *arguments)
    assert said.code == 2
    assert words in said.err
    assert list(Path().iterdir()) == []


def test_help_names_the_limits(segment: Retain) -> None:
    said = segment("--help")
    assert said.code == 0
    assert "Not for diagnosis" in " ".join(said.out.split())
    assert "--method" in said.out


def test_masks_are_compressed_once(scaled: Result) -> None:
    """The NIfTI file is written in one stream; what it holds ends where its header says."""
    pytest.importorskip("nibabel")
    with gzip.open(scaled.out / "masks.nii.gz") as file:
        assert len(file.read()) == 352 + 128 * 96 * FRAMES
