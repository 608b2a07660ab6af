"""From tissue to picture: beams, speckle, log compression, scan conversion, finish."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.grid import APEX, RADIUS
from retain.datasets.echo.phantom_heart import Heart, Pose
from retain.datasets.echo.phantom_motion import Floats, Walls, origins
from retain.datasets.echo.phantom_paint import CANVAS, Plane, smooth_noise
from retain.datasets.echo.phantom_speckle import (
    axial_kernel,
    envelope,
    lateral_kernels,
    piece,
)

ROWS, LINES = 320, 128
FINE = 2
"""Scan conversion happens on a raster this much finer than the grid, then is averaged."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the machine shows things; drawn per clip. dB are against myocardium."""

    half_angle: float
    start: float
    """Where the beams begin, part of the radius."""
    depth_cm: float
    blood_db: float
    noise_db: float
    haze_db: float
    haze_reach: float
    """Depth (part of the radius) over which near-field haze falls by 8.7 dB."""
    rings: tuple[tuple[float, float, float], ...]
    """Echoes between probe and skin: (depth, width, dB)."""
    lateral: tuple[float, float]
    lobe: float
    axial: float
    """Point spread along the beam, samples."""
    compound: tuple[float, float]
    """Smoothing of the detected picture (sigma in samples, lines): several looks averaged."""
    range_db: float
    myocardium: float
    """Grey (0..1) of myocardium before ``gamma``."""
    gamma: float
    beam_gain: Plane
    """[ROWS, LINES] amplitude: time gain, shadows, weak edges, patchy windows."""
    persistence: float
    blur: float
    sharpen: float
    median: bool
    jpeg: int
    """Quality, 0: not compressed."""
    marks: tuple[Plane, Plane] | None
    """What is drawn over the picture: share of it that stays, grey put over it."""
    leaflet_db: float


class Beams:
    """The polar raster of one clip and what does not change from frame to frame."""

    def __init__(self, look: Look, size: int, offset: tuple[float, float], zoom: float) -> None:
        """``offset`` (fractions of the side) and ``zoom`` say how far the fan is off the grid."""
        self.look, self.size = look, size
        self.apex = ((APEX[0] + offset[0]) * size, (APEX[1] + offset[1]) * size)
        self.px_per_cm = RADIUS * zoom * size / look.depth_cm
        # Tissue moves smoothly: its origins are found on every second sample and line.
        r = (np.arange(ROWS // 2) + 0.5) / (ROWS // 2) * look.depth_cm
        a = ((np.arange(LINES // 2) + 0.5) / (LINES // 2) * 2 - 1) * look.half_angle
        self.points = np.ascontiguousarray(
            np.stack([r[:, None] * np.sin(a), r[:, None] * np.cos(a)], -1).reshape(-1, 2),
            np.float32,
        )
        self.axial = axial_kernel(look.axial)
        self.lateral = lateral_kernels(ROWS, *look.lateral, look.lobe, 9.0)
        self._converter()

    def _converter(self) -> None:
        """Maps from a raster ``FINE`` times finer than the grid to the beams."""
        n, look = self.size * FINE, self.look
        y, x = (np.mgrid[0:n, 0:n].astype(np.float64) + 0.5) / FINE
        x, y = (x - self.apex[0]) / self.px_per_cm, (y - self.apex[1]) / self.px_per_cm
        r, a = np.hypot(x, y), np.arctan2(x, y)
        self.map_x = ((a / look.half_angle + 1) / 2 * LINES - 0.5).astype(np.float32)
        self.map_y = (r / look.depth_cm * ROWS - 0.5).astype(np.float32)
        inside = (np.abs(a) <= look.half_angle) & (r <= look.depth_cm)
        self.fine_fan = (inside & (r >= look.start * look.depth_cm)).astype(np.float32)
        self.fan = cv2.resize(self.fine_fan, (self.size,) * 2, interpolation=cv2.INTER_AREA) >= 0.5

    def to_pixels(self, points: Floats) -> Floats:
        """Probe coordinates [N, 2] (cm) to grid pixels, centres at integers."""
        return np.asarray(points * self.px_per_cm + self.apex - 0.5)

    def to_raster(self, points: Floats) -> Floats:
        """Probe coordinates [N, 2] (cm) to (line, row) of the beam raster."""
        r, a = np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 0], points[:, 1])
        line = (a / self.look.half_angle + 1) / 2 * LINES - 0.5
        return np.stack([line, r / self.look.depth_cm * ROWS - 0.5], 1)

    def convert(self, picture: Plane) -> Plane:
        """Scan conversion of [ROWS, LINES] to [size, size]."""
        fine = cv2.remap(picture, self.map_x, self.map_y, cv2.INTER_LINEAR)
        fine *= self.fine_fan
        return np.asarray(
            cv2.resize(fine, (self.size, self.size), interpolation=cv2.INTER_AREA), np.float32
        )


class Renderer:
    """Frames of one heart; call ``frame`` in time order."""

    def __init__(self, rng: np.random.Generator, heart: Heart, tissue: Plane, beams: Beams) -> None:
        self.rng, self.heart, self.beams = rng, heart, beams
        self.signal = piece(rng, (tissue.shape[0], tissue.shape[1]), 0.7) * tissue
        self.rest = heart.at(0.0)
        self._clutter = piece(rng, (ROWS, LINES))
        self._levels()
        self._last: Plane | None = None
        # A smooth sheet answers the beam almost in phase: less grainy than a block of tissue.
        sheen = piece(rng, (ROWS, LINES))
        self._sheen = np.float32(0.25) + np.stack([cv2.GaussianBlur(p, (0, 0), 1.5) for p in sheen])

    def _levels(self) -> None:
        look = self.beams.look
        r = ((np.arange(ROWS, dtype=np.float32) + 0.5) / ROWS)[:, None]
        blood = 10 ** (look.blood_db / 20)
        noise = 10 ** ((look.noise_db + 10 * r) / 20)
        self.flow = np.sqrt((blood * self.beams.look.beam_gain) ** 2 + noise**2).astype(np.float32)
        patch = 10 ** (3 * smooth_noise(self.rng, (ROWS, LINES), (8, 6)) / 20)
        haze = 10 ** (look.haze_db / 20) * np.exp(-r / look.haze_reach)
        near = 10 ** (6 / 20) * np.exp(-r / 0.03)
        for at, wide, db in look.rings:
            near += 10 ** (db / 20) * np.exp(-(((r - at) / wide) ** 2))
        self.haze = ((haze * patch + near) * look.beam_gain).astype(np.float32)

    def frame(self, walls: Walls, pose: Pose, opening: float, contraction: float) -> Plane:
        """The next picture, grey 0..1, [ROWS, LINES], before scan conversion."""
        signal = self._tissue(walls, pose, contraction)
        self._leaflets(signal, walls, pose, opening)
        signal *= self.beams.look.beam_gain
        signal += self.flow * piece(self.rng, (ROWS, LINES))
        # Haze changes slowly: it is tissue seen through side lobes and echoes between layers.
        fresh = piece(self.rng, (ROWS, LINES))
        self._clutter = np.float32(0.97) * self._clutter + np.float32(0.243) * fresh
        signal += self.haze * self._clutter
        magnitude = np.empty((ROWS, LINES), np.float32)
        envelope(signal, self.beams.axial, self.beams.lateral, magnitude)
        return self._compress(magnitude)

    def _tissue(self, walls: Walls, pose: Pose, contraction: float) -> Plane:
        heart = self.heart
        x, y = np.empty((2, ROWS // 2 * LINES // 2), np.float32)
        extra = np.array(
            [
                heart.length,
                walls.shortening,
                heart.atrium[0] + 0.5,
                max(heart.ventricle, 0.5),
                heart.squeeze * contraction if heart.ventricle > 0 else 0.0,
            ]
        )
        origins(
            self.beams.points,
            pose.array(),
            self.rest.inner,
            walls.inner,
            walls.outer,
            heart.axis,
            extra,
            CANVAS,
            x,
            y,
        )
        at_x, at_y = (cv2.resize(p.reshape(ROWS // 2, -1), (LINES, ROWS)) for p in (x, y))
        parts = [
            cv2.remap(p, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for p in self.signal
        ]
        return np.stack(parts)

    def _leaflets(self, signal: Plane, walls: Walls, pose: Pose, opening: float) -> None:
        """Mitral (and tricuspid) leaflets: thin, bright, moving on their own."""
        amplitude = np.zeros((ROWS, LINES), np.uint8)
        hinges = self.heart.annulus(walls)
        for curve in leaflet_curves(self.heart, *hinges, opening):
            raster = np.round(self.beams.to_raster(pose.place(curve)) * 16).astype(np.int32)
            cv2.polylines(amplitude, [raster], False, 255, 1, cv2.LINE_AA, 4)
        if not amplitude.any():
            return
        level = 10 ** (self.beams.look.leaflet_db / 20) / 255
        soft = cv2.GaussianBlur(amplitude.astype(np.float32), (0, 0), 0.7) * np.float32(level)
        signal += soft * self._sheen

    def _compress(self, magnitude: Plane) -> Plane:
        look = self.beams.look
        db = 20 * np.log10(magnitude + np.float32(1e-6))
        grey = np.clip(look.myocardium + db / look.range_db, 0.0, 1.0)
        if max(look.compound) > 0:
            lines, rows = max(look.compound[1], 1e-3), max(look.compound[0], 1e-3)
            grey = cv2.GaussianBlur(grey, (0, 0), lines, sigmaY=rows)
        if self._last is not None and look.persistence > 0:
            grey = (1 - look.persistence) * grey + look.persistence * self._last
        self._last = np.asarray(grey, np.float32)
        return np.asarray(np.power(self._last, np.float32(look.gamma)), np.float32)


def leaflet_curves(heart: Heart, septal: Floats, lateral: Floats, opening: float) -> list[Floats]:
    """Leaflets as polylines [9, 2] in heart coordinates, from hinge to tip."""
    across = lateral - septal
    width = float(np.hypot(*across))
    curves = [
        _leaflet(septal, across / width, 0.62 * width, opening, 1.0),
        _leaflet(lateral, -across / width, 0.44 * width, opening, -1.0),
    ]
    if heart.ventricle > 0:
        hinge = septal - np.array([0.9, 0.3])
        curves.append(_leaflet(hinge, np.array([-1.0, 0.1]), 0.4 * heart.ventricle, opening, -1.0))
        far = septal - np.array([0.8 + heart.ventricle, 0.2])
        curves.append(_leaflet(far, np.array([1.0, 0.0]), 0.5 * heart.ventricle, opening, 1.0))
    return curves


def _leaflet(hinge: Floats, along: Floats, length: float, opening: float, turn: float) -> Floats:
    """Closed leaflets tent a little towards the apex; open ones swing up into the ventricle."""
    angle = math.radians(4.0 + 62.0 * opening) * turn
    c, s = math.cos(angle), math.sin(angle)
    direction = np.array([c * along[0] + s * along[1], -s * along[0] + c * along[1]])
    bend = np.array([direction[1], -direction[0]]) * turn
    u = np.linspace(0.0, 1.0, 9)[:, None]
    return np.asarray(hinge + length * (u * direction + 0.05 * np.sin(math.pi * u) * bend))


def finish(look: Look, picture: Plane, fan: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Grey 0..1 on the grid to bytes: smoothing, sharpening, compression."""
    if look.blur > 0:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), look.blur), np.float32)
    if look.sharpen > 0:
        soft = cv2.GaussianBlur(picture, (0, 0), 1.2)
        picture = picture + np.float32(look.sharpen) * (picture - np.asarray(soft, np.float32))
    if look.marks is not None:
        picture = picture * look.marks[0] + look.marks[1]
    out = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    if look.median:
        out = np.asarray(cv2.medianBlur(out, 3), np.uint8)
    if look.jpeg:
        _, data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)
    return np.where(fan, out, 0).astype(np.uint8)
