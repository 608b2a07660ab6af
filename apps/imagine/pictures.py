"""What a model sees and makes, large enough to be looked at. What is made is marked as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.apps.detect.overlay import BACKGROUND, FAINT, GAP, MARK, STRIP, TEXT
from retain.apps.drawing import clock, score
from retain.apps.imagine.pairs import Pair
from retain.apps.video import TimedVideo
from retain.pipeline.frame import Image
from retain.pipeline.results import Novelty

Frames = NDArray[np.uint8]
PANEL = 264
EDGE = 4
"""Pixels of the frame around what a model made."""


def large(image: Frames, side: int = PANEL) -> Image:
    """``image`` uint8 [h, w, C] as [side, side, 3], its pixels as squares."""
    rgb = image if image.shape[2] == 3 else np.repeat(image, 3, 2)
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_NEAREST), np.uint8)


def marked(image: Image) -> Image:
    """With the frame that says: a model made it."""
    edged = image.copy()
    for part in (edged[:EDGE], edged[-EDGE:], edged[:, :EDGE], edged[:, -EDGE:]):
        part[:] = MARK
    return edged


def row(frames: Sequence[tuple[Frames | None, bool]], side: int = 72, gap: int = 3) -> Image:
    """Frames side by side; True beside one: a model made it. None: there is none."""
    parts: list[Image] = []
    for image, made in frames:
        big = np.full((side, side, 3), 96, np.uint8) if image is None else large(image, side)
        parts += [marked(big) if made else big, np.full((side, gap, 3), 128, np.uint8)]
    return np.concatenate(parts[:-1], 1)


def film(frames: Sequence[tuple[Frames | None, bool]]) -> bytes:
    """``row`` as PNG."""
    done, data = cv2.imencode(".png", cv2.cvtColor(row(frames), cv2.COLOR_RGB2BGR))
    assert done
    return bytes(data.tobytes())


def fitted_in(image: Image, side: int = PANEL) -> Image:
    """``image`` [H, W, 3] in the middle of a square."""
    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    way = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    small = np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)
    ground = np.full((side, side, 3), BACKGROUND, np.uint8)
    top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
    ground[top : top + small.shape[0], left : left + small.shape[1]] = small
    return ground


class Film:
    """``imagine.mp4``: panels side by side, each with its title under it."""

    def __init__(self, path: Path) -> None:
        self._video = TimedVideo(path, comment="Frames with a magenta edge were made by a model.")

    def add_pair(self, pair: Pair, simple: str) -> None:
        """Truth, with references, without, the simple way, and how far the samples differ."""
        nothing = np.full((PANEL, PANEL, 3), BACKGROUND, np.uint8)
        truth = nothing if pair.truth is None else large(pair.truth)
        word = "synthetic" if pair.made else "as it came"
        edge = marked if pair.made else _same
        panels = [
            ("truth" if pair.truth is not None else "has not come", truth, clock(pair.seconds)),
            ("with references", edge(large(pair.guided)), word),
        ]
        if pair.plain is not None:
            panels.append(("without", edge(large(pair.plain)), word))
        if pair.made:
            panels.append((simple, large(pair.simple), ""))
        else:
            panels.append((simple, large(pair.guided), "as it came"))
        panels.append(("samples differ", _heat(pair.spread), f"+{pair.ahead}" if pair.made else ""))
        self._show(panels, pair.seconds)

    def add_frame(self, image: Image, seen: Frames, told: Novelty | None, seconds: float) -> None:
        """A frame of a run that only looks for news."""
        panels = [
            ("frame", fitted_in(image), clock(seconds)),
            ("as the model sees it", large(seen), ""),
        ]
        if told is not None:
            word = "NEW" if told.new else "usual" if told.level == told.level else "learning"
            panels[1] = ("as the model sees it", large(seen), f"{word} {score(told.score)}")
        self._show(panels, seconds)

    def close(self) -> None:
        """Finish the file. Safe to call twice."""
        self._video.close()

    def _show(self, panels: Sequence[tuple[str, Image, str]], seconds: float) -> None:
        parts: list[Image] = []
        for title, picture, right in panels:
            column = np.concatenate([picture, _strip(title, right)])
            parts += [column, np.full((len(column), GAP, 3), BACKGROUND, np.uint8)]
        self._video.add(np.ascontiguousarray(np.concatenate(parts[:-1], 1)), seconds)


def _same(image: Image) -> Image:
    return image


def _heat(spread: Frames) -> Image:
    """How far the samples differ, brighter where more; 64 grey levels are as bright as can be."""
    grey = np.minimum(spread.max(2).astype(np.int32) * 4, 255).astype(np.uint8)
    colour = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
    return large(np.asarray(colour, np.uint8))


def _strip(title: str, right: str) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (PANEL, STRIP), BACKGROUND)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(14)
    pen.text((8, STRIP / 2), title, TEXT, font, anchor="lm")
    colour = MARK if right in ("synthetic",) or right.startswith("NEW") else FAINT
    pen.text((PANEL - 8, STRIP / 2), right, colour, font, anchor="rm")
    return np.asarray(strip)
