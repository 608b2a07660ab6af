"""Ultrasound-like fans of known geometry, with what machines burn in around them."""

from __future__ import annotations

import cv2
import numpy as np

from retain.datasets.echo.sector import Sector
from retain.pipeline.frame import Image


def tissue(sector: Sector, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Grey float [height, width]: speckle along beams, a dark cavity, depth-dependent gain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] + 0.5
    dx, dy = x - sector.apex[0], y - sector.apex[1]
    depth, angle = np.hypot(dx, dy) / sector.radius, np.arctan2(dx, dy)
    beams = rng.rayleigh(1.0, (128, 128)).astype(np.float32)
    beams = cv2.GaussianBlur(beams, (0, 0), 1.2)
    span = sector.right - sector.left
    speckle = cv2.remap(
        beams,
        ((angle - sector.left) / span * 127).astype(np.float32),
        (depth * 127).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
    axis = (sector.left + sector.right) / 2
    cavity = ((depth - 0.5) / 0.25) ** 2 + ((angle - axis) / (0.25 * span)) ** 2 < 1
    wall = 40 + 50 * np.cos(6 * depth) ** 2 + 20 * np.sin(5 * angle + seed)
    return np.where(cavity, 6.0, wall) * speckle


def frame(
    sector: Sector,
    height: int = 240,
    width: int = 320,
    *,
    seed: int = 0,
    gain: float = 1.0,
    marks: bool = False,
    quality: int = 0,
    shadow: float = 0.0,
) -> Image:
    """One frame. ``quality`` > 0 sends it through JPEG, ``shadow`` darkens the left flank."""
    grey = tissue(sector, height, width, seed) * gain
    if shadow:
        x = np.arange(width)[None] + 0.5 - sector.apex[0]
        y = np.arange(height)[:, None] + 0.5 - sector.apex[1]
        grey = grey * np.where(np.arctan2(x, y) < 0.6 * sector.left, 1 - shadow, 1)
    grey = np.where(sector.mask(height, width), grey, 0)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if marks:
        burn_in(image)
    if quality:
        _, coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR)[:, :, ::-1]
    return np.ascontiguousarray(image)


def burn_in(image: Image) -> None:
    """Text, a ruler, a grey and a colour bar, a logo and an ECG, at the picture's borders."""
    height, width = image.shape[:2]
    size, bright = height / 480, (230, 230, 230)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for line, words in enumerate(("Adult Echo", "TIS0.9 MI 1.3", "X5-1", "46Hz")):
        place = (round(4 * size), round((20 + 18 * line) * size))
        cv2.putText(image, words, place, font, 0.5 * size, bright, 1, cv2.LINE_AA)
    for tick in range(17):
        y = round(height * (0.05 + 0.055 * tick))
        cv2.line(image, (width - round(12 * size), y), (width - round(6 * size), y), bright, 1)
    ramp = np.linspace(255, 0, height // 4).astype(np.uint8)[:, None, None]
    right = width - round(34 * size)
    image[8 : 8 + len(ramp), right : right + round(10 * size)] = ramp
    cv2.circle(image, (round(width * 0.62), round(10 * size)), round(6 * size), (60, 220, 190), -1)
    x = np.arange(width // 20, width - width // 20)
    wave = height * (0.97 - 0.02 * (np.sin(x / width * 30) > 0.97))
    line = np.stack((x, wave), 1).astype(np.int32)
    cv2.polylines(image, [line], False, (90, 230, 90), 1)
