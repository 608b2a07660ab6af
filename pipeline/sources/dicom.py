"""DICOM files, above all multi-frame ultrasound, through pydicom; frames are decoded one by one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from retain.pipeline.errors import SourceError, SourceFault
from retain.pipeline.frame import MAX_SIDE, Frame, Image, MetaValue
from retain.pipeline.redact import redact
from retain.pipeline.sources.blocks import Window
from retain.pipeline.sources.common import (
    RisingTimes,
    Sampler,
    check_file,
    denied,
    integer,
    local_path,
    number,
    text,
)
from retain.pipeline.sources.dicom_pixels import IMAGE_MODULE, ToRgb
from retain.pipeline.sources.rgb import check_side
from retain.pipeline.sources.stored import is_stored, open_stored, shown
from retain.pipeline.stage import SourceInfo, StatValue

log = logging.getLogger(__name__)

_MICRO = Fraction(1, 1_000_000)
_DEFAULT_RATE = Fraction(25)
_DECODERS = {
    "JPEG Baseline": "pillow",
    "JPEG Extended": "pylibjpeg and pylibjpeg-libjpeg",
    "JPEG Lossless": "pylibjpeg and pylibjpeg-libjpeg",
    "JPEG-LS": "pyjpegls",
    "JPEG 2000": "pylibjpeg and pylibjpeg-openjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg and pylibjpeg-openjpeg",
    "RLE": "pydicom itself",
}
"""Start of a transfer syntax's name: the packages that decode it."""


class DicomSource:
    """A DICOM file with one or more frames, also in a shard or store (``stored.py``).

    fps, limit, stream, timeout, max_side   as in VideoSource; frames not kept are not decoded

    pts is in microseconds, from FrameTimeVector, FrameTime, RecommendedDisplayFrameRate or CineRate
    (the first that is there; else 25 per second, and the log says so). ``meta``, where the file
    tells: ``manufacturer``, ``model``, ``heart_rate`` (1/min), and of the first two-dimensional
    ultrasound region ``physical_delta_x``, ``physical_delta_y`` and ``physical_unit`` (length per
    pixel) with its bounds ``region_x0``, ``region_y0``, ``region_x1``, ``region_y1``: they leave
    the picture where the clip was scaled after it was written, and then no length is right. Nothing
    that identifies a patient is read.
    """

    def __init__(
        self,
        source: str,
        stream: str = "main",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        max_side: int = 8192,
    ) -> None:
        self.source = text("source", source)
        self.stream = text("stream", stream)
        self.max_side = integer("max_side", max_side, 1, MAX_SIDE)
        self.timeout = number("timeout", timeout, 0.1, 3600)
        self.name = shown(self.source)
        self._file: Any = None
        """Its path, or what reads it from a shard or store."""
        self._sampler = Sampler(fps, limit)
        self._stop = False
        self._header: Any = None
        self._times = RisingTimes(1, 2**62)
        self._declared = 0
        self._decoded = 0

    def open(self) -> SourceInfo:
        """Read the header. Raises SourceError, also when nothing installed decodes the pixels."""
        self._close_file()
        self._file = self._opened()
        self._header = header = self._read_header()
        if not header.get("Rows") or not header.get("Columns"):
            raise SourceError(
                SourceFault.EMPTY,
                f"{self.name!r} is a DICOM file without pictures ({_kind(header)}).",
                hint="Choose an image or a multi-frame clip of the study.",
            )
        check_side(header.Columns, header.Rows, self.max_side)
        self._check_decoder(header)
        self._declared = max(1, int(header.get("NumberOfFrames") or 1))
        self._ticks = frame_times(header, self._declared, self.name)
        step = self._ticks[1] - self._ticks[0] if self._declared > 1 else 0
        return SourceInfo(
            kind="finite",
            description=f"{self.name} (DICOM {header.Columns}x{header.Rows})",
            width=header.Columns,
            height=header.Rows,
            fps=float(1 / (step * _MICRO)) if step > 0 else 0.0,
            declared_frames=self._declared,
            duration_s=float((self._ticks[-1] + step) * _MICRO),
        )

    def _opened(self) -> Any:
        if is_stored(self.source):
            return open_stored(self.source, self.timeout)
        path = local_path(self.source)
        check_file(path)
        return path

    def _close_file(self) -> None:
        if isinstance(self._file, Window):
            self._file.close()

    def _read_header(self) -> Any:
        import pydicom

        try:
            with warnings.catch_warnings(action="ignore"):
                header = pydicom.dcmread(self._file, stop_before_pixels=True, specific_tags=_WANTED)
                for name in _WANTED:  # values are parsed when first touched
                    header.get(name)
                int(header.get("NumberOfFrames") or 1)
                return header
        except PermissionError:
            raise denied(local_path(self.source)) from None
        except pydicom.errors.InvalidDicomError:
            raise SourceError(
                SourceFault.NOT_VIDEO,
                f"{self.name!r} is not a DICOM file.",
                hint="Its name ends as one, but the mark DICM is missing at byte 128.",
            ) from None
        except Exception as error:  # the parser meets damage with exceptions of every kind
            self._raise_fault()
            raise SourceError(
                SourceFault.BROKEN,
                f"The header of the DICOM file {self.name!r} is damaged ({type(error).__name__}).",
            ) from error

    def _check_decoder(self, header: Any) -> None:
        from pydicom.pixels import get_decoder

        syntax = header.file_meta.get("TransferSyntaxUID")
        if syntax is None:
            raise SourceError(
                SourceFault.BROKEN, f"The DICOM file {self.name!r} does not say how it is coded."
            )
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            usable = False
        else:
            # Pillow reads only eight of the twelve bits that JPEG Extended allows
            short = decoder.available_plugins == ("pillow",) and "JPEG Extended" in syntax.name
            usable = decoder.is_available and not (short and header.get("BitsStored", 8) > 8)
        if usable:
            return
        packages = next((p for start, p in _DECODERS.items() if syntax.name.startswith(start)), "")
        raise SourceError(
            SourceFault.CODEC,
            f"{self.name!r} is coded as {syntax.name} ({syntax}); nothing installed decodes that.",
            hint=f"Install {packages}."
            if packages
            else "Convert it, for example with dcmdjpeg or gdcmconv, or export it as MP4.",
        )

    def frames(self) -> Iterator[Frame]:
        """Raises SourceError(BROKEN) when the file holds fewer frames than it declares."""
        if self._header is None:
            self.open()
        meta = describe_device(self._header)
        wanted = []
        for place, ticks in enumerate(self._ticks):
            pts = self._times.next(ticks)
            if not self._sampler.full and self._sampler.keep(pts, _MICRO):
                wanted.append((place, pts))
        pixels = self._pixels([place for place, _ in wanted])
        try:
            for _, pts in wanted:
                if self._stop:
                    return
                image = next(pixels, None)
                if image is None:
                    raise self._broken("it ends too early")
                self._decoded += 1
                yield Frame(self.stream, self._decoded - 1, pts, _MICRO, image, meta=meta)
        finally:
            self._close_file()

    def _pixels(self, numbers: list[int]) -> Iterator[Image]:
        """RGB pictures of the frames with these numbers."""
        import pydicom
        from pydicom.pixels import iter_pixels

        # read from the file frame by frame; only a deflated one must be taken whole
        deflated = self._header.file_meta.TransferSyntaxUID.is_deflated
        whole = self._file
        if isinstance(whole, Window):
            whole.seek(0)
        if deflated:
            whole = pydicom.dcmread(whole)
        to_rgb = ToRgb(self._header)
        pictures = iter_pixels(whole, indices=numbers)
        while True:
            try:
                with warnings.catch_warnings(action="ignore"):
                    picture = next(pictures, None)
                    if picture is None:
                        return
                    image = to_rgb(picture)
            except MemoryError:
                raise
            except Exception as error:  # decoders meet damage with exceptions of every kind
                self._raise_fault()
                log.debug("%s: %s", self.name, redact(str(error)))
                raise self._broken(
                    f"its pixels cannot be decoded ({type(error).__name__})"
                ) from None
            yield image

    def _raise_fault(self) -> None:
        """The connection, not the file, may be what broke."""
        if isinstance(self._file, Window) and self._file.fault is not None:
            self._file.fault.decoded = self._decoded
            raise self._file.fault from None

    def _broken(self, why: str) -> SourceError:
        return SourceError(
            SourceFault.BROKEN,
            f"The DICOM file {self.name!r} is damaged: {why}"
            f" ({self._decoded} of {self._declared} frames decoded).",
            hint="Export it again; what could be decoded was delivered.",
            decoded=self._decoded,
        )

    def close(self) -> None:
        self._stop = True

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "declared": self._declared,
            "decoded": self._decoded,
            "delivered": self._decoded,
            "repaired_times": self._times.repaired,
        }


_WANTED: list[Any] = [
    *IMAGE_MODULE,
    "SOPClassUID",
    "Modality",
    "NumberOfFrames",
    "FrameTime",
    "FrameTimeVector",
    "RecommendedDisplayFrameRate",
    "CineRate",
    "Manufacturer",
    "ManufacturerModelName",
    "HeartRate",
    "SequenceOfUltrasoundRegions",
]


def frame_times(header: Any, count: int, name: str) -> list[int]:
    """Microseconds of each of ``count`` frames, the first at 0 (DICOM PS3.3 C.7.6.5)."""
    vector = header.get("FrameTimeVector")
    if vector and count > 1 and len(vector) >= count:
        total, ticks = Fraction(0), []
        for number, increment in enumerate(list(vector)[:count]):
            total += _exact(increment) * 1000 if number else 0
            ticks.append(round(total))
        return ticks
    interval = _exact(header.get("FrameTime")) * 1000
    for key in ("RecommendedDisplayFrameRate", "CineRate"):
        rate = _exact(header.get(key))
        if interval <= 0 and rate > 0:
            interval = 1_000_000 / rate
    if interval <= 0:
        if count > 1:
            log.warning("%s states no frame rate; %d per second is assumed", name, _DEFAULT_RATE)
        interval = 1_000_000 / _DEFAULT_RATE
    return [round(number * interval) for number in range(count)]


def _exact(value: Any) -> Fraction:
    """A DICOM number as written; 0 when absent or nonsense."""
    try:
        return Fraction(getattr(value, "original_string", None) or str(value))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def describe_device(header: Any) -> Mapping[str, MetaValue]:
    """What a reader of the picture may need, and nothing about the patient."""
    meta: dict[str, MetaValue] = {}
    for key, tag in (("manufacturer", "Manufacturer"), ("model", "ManufacturerModelName")):
        if header.get(tag):
            meta[key] = str(header.get(tag))
    if header.get("HeartRate"):
        meta["heart_rate"] = float(header.HeartRate)
    for region in header.get("SequenceOfUltrasoundRegions") or ():
        if region.get("RegionSpatialFormat") == 1 and region.get("PhysicalDeltaX"):
            meta["physical_delta_x"] = abs(float(region.PhysicalDeltaX))
            meta["physical_delta_y"] = abs(float(region.get("PhysicalDeltaY") or 0))
            units = region.get("PhysicalUnitsXDirection")
            meta["physical_unit"] = {3: "cm", 4: "s", 5: "Hz"}.get(units, "unknown")
            meta |= _bounds(region)
            break
    return meta


def _bounds(region: Any) -> dict[str, MetaValue]:
    """Where the region lies in the picture, pixels, ends exclusive; empty when it is not told."""
    corners = [region.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    if None in corners:
        return {}
    x0, y0, x1, y1 = map(int, corners)
    return {"region_x0": x0, "region_y0": y0, "region_x1": x1 + 1, "region_y1": y1 + 1}


def _kind(header: Any) -> str:
    uid = header.get("SOPClassUID")
    return str(getattr(uid, "name", "") or header.get("Modality") or "of an unknown kind")
