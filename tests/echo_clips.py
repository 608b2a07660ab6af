"""Drawn echo clips: plain, quick, with masks like CAMUS's."""

from __future__ import annotations

import numpy as np

from retain.datasets.echo.clip import ATRIUM, CAVITY, MYOCARDIUM, EchoClip


def drawn(
    name: str = "a",
    patient: str = "",
    view: str = "4CH",
    split: str = "train",
    frames: int = 8,
    size: tuple[int, int] = (96, 112),
) -> EchoClip:
    """From end-diastole to end-systole: a half ellipse that shrinks, its wall, an atrium below."""
    rows, cols = np.ogrid[: size[0], : size[1]]
    base, middle = 0.7 * size[0], 0.5 * size[1]
    masks = np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        long, wide = 0.6 * size[0] * (1 - 0.15 * t / frames), 0.2 * size[1] * (1 - 0.3 * t / frames)
        above = rows <= base

        def within(y: float, x: float, ry: float, rx: float) -> np.ndarray:
            return ((rows - y) / ry) ** 2 + ((cols - x) / rx) ** 2 <= 1

        masks[t][within(base, middle, long + 6, wide + 6) & above] = MYOCARDIUM
        masks[t][within(base, middle, long, wide) & above] = CAVITY
        masks[t][within(base + 12, middle, 11, wide) & ~above] = ATRIUM
    shade = np.array([60, 20, 180, 40], np.uint8)[masks]
    ramp = np.arange(size[1]) * 40 // size[1]
    return EchoClip(
        name=name,
        frames=(shade + ramp).astype(np.uint8),
        masks=masks,
        spacing_mm=(0.5, 0.8),
        fps=40.0,
        patient=patient or name,
        view=view,
        ed=0,
        es=frames - 1,
        ef=55.5,
        edv_ml=120.0,
        esv_ml=53.4,
        split=split,
    )
