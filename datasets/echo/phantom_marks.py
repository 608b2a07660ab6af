"""What machines draw over the picture: an ECG trace, depth ticks, lettering, blanked corners."""

from __future__ import annotations

import math

import cv2
import numpy as np

from retain.datasets.echo.grid import APEX, RADIUS
from retain.datasets.echo.phantom_paint import Plane


def draw_marks(rng: np.random.Generator, size: int, half_angle: float) -> tuple[Plane, Plane]:
    """(share of the picture that stays, grey 0..1 put over it), each [size, size] float32."""
    keep, over = np.ones((size, size), np.float32), np.zeros((size, size), np.float32)
    for mark in rng.permutation(4)[: rng.integers(1, 3)]:
        level = rng.uniform(0.3, 1.0)
        if mark == 0:
            _trace(rng, over, level)
        elif mark == 1:
            _ticks(rng, over, level, half_angle * rng.choice([-1.0, 0.0, 1.0]))
        elif mark == 2:
            at = (int(rng.uniform(0.0, 0.8) * size), int(rng.choice([0.12, 0.97]) * size))
            text = "".join(rng.choice(list("ABHFVP0123456789.-"), 5))
            cv2.putText(over, text, at, cv2.FONT_HERSHEY_PLAIN, 0.006 * size, level, 1, cv2.LINE_AA)
        else:
            wide, high = (rng.uniform(0.1, 0.35, 2) * size).astype(int)
            left = 0 if rng.random() < 0.5 else size - wide
            low = size - high if rng.random() < 0.6 else int(rng.uniform(0.3, 0.5) * size)
            keep[low : low + high, left : left + wide] = 0.0
    keep *= 1 - (over > 0.1)
    return keep, over


def _trace(rng: np.random.Generator, over: Plane, level: float) -> None:
    size = len(over)
    x = np.linspace(0, size, 200)
    beat = (x / size * rng.uniform(1, 4) + rng.random()) % 1.0
    wave = np.exp(-(((beat - 0.3) / 0.02) ** 2)) + 0.2 * np.exp(-(((beat - 0.6) / 0.06) ** 2))
    y = size * (rng.uniform(0.88, 0.97) - rng.uniform(0.03, 0.1) * wave)
    line = np.round(np.stack([x, y], 1) * 16).astype(np.int32)
    cv2.polylines(over, [line], False, level, 1, cv2.LINE_AA, 4)


def _ticks(rng: np.random.Generator, over: Plane, level: float, angle: float) -> None:
    size = len(over)
    for r in np.arange(1, 20) * rng.uniform(0.05, 0.15):
        if r < 1:
            x = (APEX[0] + RADIUS * r * math.sin(angle)) * size
            y = (APEX[1] + RADIUS * r * math.cos(angle)) * size
            cv2.circle(over, (round(x * 16), round(y * 16)), 10, level, -1, cv2.LINE_AA, 4)
