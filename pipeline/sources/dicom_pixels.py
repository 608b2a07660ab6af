"""Stored DICOM values to RGB, by the chain of PS3.3 C.11: modality, window, polarity or palette."""

from __future__ import annotations

from typing import Any

import numpy as np

from retain.pipeline.frame import Image

IMAGE_MODULE = [
    *("PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("ModalityLUTSequence", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(
        f"{kind}PaletteColorLookupTable{part}"
        for kind in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{kind}PaletteColorLookupTableData" for kind in ("Red", "Green", "Blue")),
]
"""Elements of the header that ``ToRgb`` reads."""

_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Pydicom has turned the first two kinds of YBR into RGB, the JPEG 2000 decoder the others."""


class ToRgb:
    """Decoded frames of one file, [H, W] or [H, W, 3], to uint8 [H, W, 3] RGB, C-contiguous.

    Grey deeper than eight bits without a window is shown from the first frame's darkest to its
    brightest value, the same for the whole clip, so that brightness does not flicker. ``header``
    holds at least ``IMAGE_MODULE``. Calling raises ValueError for kinds of picture not known here.
    """

    def __init__(self, header: Any) -> None:
        self.header = header
        self._range: tuple[float, float] | None = None

    def __call__(self, pixels: np.ndarray) -> Image:
        header = self.header
        kind = header.PhotometricInterpretation
        if kind == "PALETTE COLOR":
            from pydicom.pixels import apply_color_lut

            colours = apply_color_lut(pixels, header)
            return _narrow(colours, 8 * colours.itemsize)
        if kind in ("MONOCHROME1", "MONOCHROME2") and pixels.ndim == 2:
            grey = self._grey(pixels)
            if kind == "MONOCHROME1":
                grey = 255 - grey
            return np.repeat(grey[:, :, None], 3, axis=2)
        if pixels.ndim == 3 and pixels.shape[2] == 3 and kind in _COLOUR:
            return _narrow(pixels, header.BitsStored)
        raise ValueError(f"photometric interpretation {kind} with shape {pixels.shape}")

    def _grey(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W]: modality look-up, then the VOI look-up or window, else the full range."""
        from pydicom.pixels import apply_modality_lut, apply_voi_lut

        header = self.header
        plain = header.get("RescaleSlope") is None and not header.get("ModalityLUTSequence")
        values = pixels if plain else apply_modality_lut(pixels, header)
        if header.get("VOILUTSequence"):
            bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
            return _scaled(apply_voi_lut(values, header, prefer_lut=True), 0, 2**bits - 1)
        if header.get("WindowCenter") is not None and header.get("WindowWidth") is not None:
            return _windowed(values, header)
        if plain and header.BitsStored <= 8 and not header.get("PixelRepresentation"):
            return _scaled(pixels, 0, 2**header.BitsStored - 1)
        if self._range is None:
            self._range = float(values.min()), float(values.max())
        return _scaled(values, *self._range)


def _narrow(colours: np.ndarray, bits: int) -> Image:
    """Keep the upper eight of ``bits``."""
    if bits > 8:
        colours = colours >> (bits - 8)
    return np.ascontiguousarray(colours, np.uint8)


def _windowed(values: np.ndarray, header: Any) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, the first window of several."""
    centre, width = (
        float(np.atleast_1d(header.get(tag))[0]) for tag in ("WindowCenter", "WindowWidth")
    )
    function = header.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        curve = 1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width))
        return np.rint(255 * curve).astype(np.uint8)
    if function == "LINEAR_EXACT":
        return _scaled(values, centre - width / 2, centre + width / 2)
    return _scaled(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    span = max(high - low, 1e-9)
    unit = (values.astype(np.float64) - low) / span
    scaled: np.ndarray = np.rint(255 * unit.clip(0, 1)).astype(np.uint8)
    return scaled
