"""The picture of docs/language.md: `python benchmarks/_language_picture.py OUT.webp`."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from language import LIKE_CLIP, mapped
from numpy.typing import NDArray
from PIL import Image as Pil

from retain.apps.segment_object.files import palette
from retain.datasets.scene.room_classes import CLASSES
from retain.kernels.rasterize.gaussians import Gaussians
from retain.models.language.field import Seen, draw, heat, name
from retain.pipeline.frame import Image

ROOM = "room://?seed=3&frames=120&kind=loop"
WORDS = ("lamp", "picture", "chair")
GAP, LINE = 6, 26
HEADS = ("map, unseen view", "named by the map", "truth", "query: {}", "truth of the query")


def main(out: Path) -> None:
    made = mapped(ROOM, LIKE_CLIP)
    table = np.array(palette(), np.uint8).reshape(256, 3)
    rows = []
    for word in WORDS:
        number = CLASSES.index(word)
        one = max(made.seen, key=lambda view, n=number: int((view.labels == n).sum()))  # type: ignore[misc]
        field = draw(made.gaussians, one.camera, one.c2w)
        color = np.rint(255 * np.clip(field.color, 0, 1)).astype(np.uint8)
        warm = _heat(made.gaussians, made.words, number, one)
        named, truth = table[name(field, made.words)], table[one.labels]
        own = np.where((one.labels == number)[..., None], np.uint8(255), np.uint8(24))
        pictures = (color, named, truth, warm, np.repeat(own, 3, axis=2))
        rows.append(
            np.hstack([_told(p, h.format(word)) for p, h in zip(pictures, HEADS, strict=True)])
        )
    Pil.fromarray(np.vstack(rows)).save(out, quality=88, method=6)


def _heat(gaussians: Gaussians, words: NDArray[np.float32], number: int, one: Seen) -> Image:
    """How much each pixel is the class ``number`` rather than any other: black, red, white."""
    others = np.delete(words, number - 1, axis=0)
    share = heat(gaussians, one.camera, one.c2w, words[number - 1], others)
    bgr = cv2.applyColorMap(np.rint(255 * share.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(bgr[..., ::-1])


def _told(picture: NDArray[np.uint8], words: str) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    framed = np.full((height + LINE + GAP, width + GAP, 3), 255, np.uint8)
    framed[LINE : LINE + height, :width] = picture
    cv2.putText(
        framed, words, (2, LINE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (30, 30, 30), 1, cv2.LINE_AA
    )
    return framed


if __name__ == "__main__":
    main(Path(sys.argv[1]))
