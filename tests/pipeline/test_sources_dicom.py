"""DicomSource: real echo clips, exact times, every photometric interpretation, honest damage."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import media
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.sources.any import AnySource
from retain.pipeline.sources.dicom import DicomSource

ECHO = pydicom.data.get_testdata_file("examples_ybr_color.dcm", download=False)
LONG_ECHO = pydicom.data.get_testdata_file("color3d_jpeg_baseline.dcm", download=False)


def write_dicom(path: Path, pixels: np.ndarray | None, kind: str, **elements: Any) -> Path:
    """``pixels`` [N, H, W] or [N, H, W, 3], unsigned 8 or 16 bits."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.SOPClassUID = UltrasoundMultiFrameImageStorage
    file.PatientName = "Secret^Person"
    if pixels is not None:
        file.Rows, file.Columns = pixels.shape[1:3]
        file.NumberOfFrames = len(pixels)
        file.SamplesPerPixel = 3 if pixels.ndim == 4 else 1
        if pixels.ndim == 4:
            file.PlanarConfiguration = 0
        file.PhotometricInterpretation = kind
        file.BitsAllocated = file.BitsStored = 8 * pixels.itemsize
        file.HighBit = file.BitsStored - 1
        file.PixelRepresentation = 0
        file.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


def read(path: Path | str, **options: Any) -> list[Frame]:
    source = DicomSource(str(path), **options)
    source.open()
    return list(source.frames())


def test_a_real_echo_clip() -> None:
    assert ECHO is not None
    source = AnySource(str(ECHO))
    info = source.open()
    frames = list(source.frames())
    assert (info.declared_frames, info.width, info.height) == (30, 320, 240)
    assert len(frames) == 30
    assert [f.pts for f in frames] == [round(k * 33333) for k in range(30)]
    assert frames[0].time_base == Fraction(1, 1_000_000)
    assert frames[0].meta["manufacturer"] == "SonoSite, Inc."
    assert frames[0].meta["physical_delta_x"] == pytest.approx(0.05105, abs=1e-5)
    assert frames[0].meta["physical_unit"] == "cm"
    bounds = [frames[0].meta[f"region_{side}"] for side in ("x0", "y0", "x1", "y1")]
    assert bounds == [84, 31, 596, 415], "as written, for the 640x480 it once had"
    image = frames[0].image.astype(int)
    assert image[:8].mean() < 20, "the surround of an echo is dark"
    assert 5 < image.mean() < 60
    assert image.max() > 200
    assert np.ptp(image, axis=2).mean() < 12, "and the heart is grey"


@pytest.mark.skipif(LONG_ECHO is None, reason="the wheel pydicom-data is absent")
def test_a_long_echo_clip_sampled() -> None:
    frames = read(str(LONG_ECHO), fps=10)
    assert [f.pts for f in frames] == [33333 * k for k in range(0, 120, 3)]
    every = read(str(LONG_ECHO), limit=7)
    assert np.array_equal(frames[2].image, every[6].image)


GREY = np.arange(5 * 6 * 8, dtype=np.uint8).reshape(5, 6, 8)


def test_monochrome_and_its_inverse(tmp_path: Path) -> None:
    plain = read(write_dicom(tmp_path / "2.dcm", GREY, "MONOCHROME2", FrameTime="40"))
    inverse = read(write_dicom(tmp_path / "1.dcm", GREY, "MONOCHROME1", FrameTime="40"))
    for k in range(5):
        assert np.array_equal(plain[k].image[:, :, 1], GREY[k])
        assert np.array_equal(inverse[k].image, 255 - plain[k].image)


def test_window_and_rescale(tmp_path: Path) -> None:
    deep = np.linspace(0, 4095, 48).astype(np.uint16).reshape(1, 6, 8)
    path = write_dicom(
        *(tmp_path / "w.dcm", deep, "MONOCHROME2"),
        **{"WindowCenter": "1000", "WindowWidth": "400", "RescaleSlope": "1"},
        RescaleIntercept="-24",
    )
    image = read(path)[0].image[:, :, 0]
    value = deep[0].astype(float) - 24
    expected = ((value - 999.5) / 399 + 0.5).clip(0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(image - expected).max() <= 0.5


def test_sixteen_bits_without_a_window_keep_one_range(tmp_path: Path) -> None:
    deep = np.stack([np.linspace(100, 600, 48), np.linspace(100, 350, 48)]).astype(np.uint16)
    frames = read(write_dicom(tmp_path / "d.dcm", deep.reshape(2, 6, 8), "MONOCHROME2"))
    assert frames[0].image.min() == 0
    assert frames[0].image.max() == 255
    assert int(frames[1].image.max()) == pytest.approx(127, abs=1), "brightness does not flicker"


def test_colour_and_palette(tmp_path: Path) -> None:
    colour = np.stack([media.picture(k, 16, 12) for k in range(3)])
    frames = read(write_dicom(tmp_path / "rgb.dcm", colour, "RGB"))
    assert all(np.array_equal(f.image, c) for f, c in zip(frames, colour, strict=True))
    ramp = np.arange(256, dtype=np.uint16)
    luts = {"Red": ramp, "Green": 255 - ramp, "Blue": ramp // 2}
    elements: dict[str, Any] = {}
    for name, lut in luts.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (lut << 8).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "p.dcm", GREY, "PALETTE COLOR", **elements)
    expected = np.stack([lut[GREY[1]] for lut in luts.values()], axis=2)
    assert np.array_equal(read(path)[1].image, expected)


def test_ybr_full(tmp_path: Path) -> None:
    red = np.broadcast_to(np.array([76, 85, 255], np.uint8), (1, 4, 4, 3))
    image = read(write_dicom(tmp_path / "y.dcm", np.ascontiguousarray(red), "YBR_FULL"))[0].image
    assert image[0, 0] == pytest.approx((255, 0, 0), abs=3)


@pytest.mark.parametrize(
    ("elements", "times"),
    [
        ({"FrameTime": "33.3333"}, [0, 33333, 66667, 100000, 133333]),
        ({"FrameTimeVector": ["0", "10", "30.5", "10", "10"]}, [0, 10000, 40500, 50500, 60500]),
        ({"CineRate": "50"}, [0, 20000, 40000, 60000, 80000]),
        (
            {"RecommendedDisplayFrameRate": "20", "CineRate": "50"},
            [0, 50000, 100000, 150000, 200000],
        ),
        ({}, [0, 40000, 80000, 120000, 160000]),
        ({"FrameTime": "0"}, [0, 40000, 80000, 120000, 160000]),
    ],
)
def test_frame_times(tmp_path: Path, elements: dict[str, Any], times: list[int]) -> None:
    path = write_dicom(tmp_path / "t.dcm", GREY, "MONOCHROME2", **elements)
    assert [f.pts for f in read(path)] == times


def test_nothing_about_the_patient_leaks(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", GREY, "MONOCHROME2", HeartRate="72", Manufacturer="M")
    source = DicomSource(str(path))
    info = source.open()
    frame = next(source.frames())
    assert frame.meta == {"manufacturer": "M", "heart_rate": 72.0}
    assert "Secret" not in repr(info) + repr(dict(source.stats()))


def test_one_frame(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "one.dcm", GREY[:1], "MONOCHROME2")
    source = DicomSource(str(path))
    assert source.open().declared_frames == 1
    assert [f.pts for f in source.frames()] == [0]


def test_faults(tmp_path: Path) -> None:
    cases = {
        SourceFault.EMPTY: write_dicom(tmp_path / "report.dcm", None, ""),
        SourceFault.NOT_VIDEO: tmp_path / "text.dcm",
        SourceFault.TOO_LARGE: write_dicom(
            tmp_path / "wide.dcm", np.zeros((1, 1, 9000), np.uint8), "MONOCHROME2"
        ),
    }
    cases[SourceFault.NOT_VIDEO].write_text("hello " * 40)
    for fault, path in cases.items():
        with pytest.raises(SourceError) as caught:
            DicomSource(str(path)).open()
        assert caught.value.fault == fault


def test_a_truncated_clip_is_broken_after_its_last_frame(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "whole.dcm", np.repeat(GREY, 8, axis=0), "MONOCHROME2")
    for path in (
        media.cut(tmp_path / "a.dcm", whole, 0.6),
        media.cut(tmp_path / "b.dcm", Path(str(ECHO)), 0.6),
    ):
        source = DicomSource(str(path))
        frames: list[Frame] = []
        with pytest.raises(SourceError, match="is damaged") as caught:
            frames.extend(_all(source))
        assert caught.value.fault == SourceFault.BROKEN
        assert caught.value.decoded == len(frames)


def _all(source: DicomSource) -> Iterator[Frame]:
    source.open()
    return source.frames()


def test_a_syntax_without_a_decoder_names_the_package(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "ls.dcm", GREY, "MONOCHROME2")
    data = path.read_bytes()
    # JPEG-LS has no decoder among our dependencies; the value keeps its even length
    old, new = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.80"
    at = data.index(old)
    data = data[: at - 2] + len(new).to_bytes(2, "little") + new + data[at + len(old) :]
    group = data.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    length = int.from_bytes(data[group : group + 4], "little") + len(new) - len(old)
    path.write_bytes(data[:group] + length.to_bytes(4, "little") + data[group + 4 :])
    with pytest.raises(SourceError, match="JPEG-LS Lossless .* Install pyjpegls") as caught:
        DicomSource(str(path)).open()
    assert caught.value.fault == SourceFault.CODEC
