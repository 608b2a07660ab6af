"""DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017): silhouettes, and the boxes of them.

    JPEGImages[/480p]/<sequence>/00000.jpg
    Annotations[/480p]/<sequence>/00000.png

2016 draws one object in white, 2017 several as indices of a palette; 255 among others is "void".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from retain.datasets.detect.base import Mask, Truth, truth_of
from retain.datasets.detect.files import UNKNOWN, FileClip, FileClips, read_indices
from retain.datasets.scene.pictures import natural
from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest
from retain.pipeline.sources.common import IMAGE_SUFFIXES

NAME = "object"
"""The class of everything, where ``classes`` does not say better."""
COCO_2016 = {
    "blackswan": "bird",
    "bmx-trees": "person",
    "breakdance": "person",
    "car-roundabout": "car",
    "car-shadow": "car",
    "cows": "cow",
    "dance-twirl": "person",
    "dog": "dog",
    "drift-chicane": "car",
    "drift-straight": "car",
    "goat": "sheep",
    "horsejump-high": "horse",
    "kite-surf": "person",
    "libby": "dog",
    "motocross-jump": "motorcycle",
    "paragliding-launch": "person",
    "parkour": "person",
    "scooter-black": "motorcycle",
    "soapbox": "person",
}
"""The nearest of COCO's classes for the validation sequences of 2016; a camel has none."""
_WHITE = 128
"""A lone value from here on is a drawing in white, not an index."""


class Davis(FileClips):
    """The sequences of a folder.

    root       the folder with ``JPEGImages`` and ``Annotations``
    sequences  which, in this order; none: all
    classes    the class of each sequence, such as ``COCO_2016``; others are called ``object``
    rate       frames per second

    A box encloses the pixels of a silhouette: x2 and y2 are one past the last of them. The track is
    the palette's index less one. Frames without a mask (test sets give the first only) are marked
    as not labelled.
    """

    def __init__(
        self,
        root: str | Path,
        sequences: Sequence[str] = (),
        classes: Mapping[str, str] | None = None,
        rate: float = 24.0,
    ) -> None:
        pictures, masks = (_place(Path(root), part) for part in ("JPEGImages", "Annotations"))
        there = sorted((p.name for p in pictures.iterdir() if p.is_dir()), key=natural)
        for name in sequences:
            if name not in there:
                raise UsageError(f"There is no sequence {name!r}.", hint=nearest(name, there))
        classes = classes or {}
        chosen = list(sequences) or there
        names = tuple(sorted({classes.get(name, NAME) for name in chosen}))
        clips = []
        for name in chosen:
            label = names.index(classes.get(name, NAME))
            clips.append(_clip(pictures / name, masks / name, names, label, rate))
        super().__init__(f"DAVIS in {str(root)!r}", names, [clip for clip in clips if len(clip)])

    @staticmethod
    def recognises(path: Path) -> bool:
        return all((path / part).is_dir() for part in ("JPEGImages", "Annotations"))


def _place(root: Path, part: str) -> Path:
    for folder in (root / part / "480p", root / part / "Full-Resolution", root / part):
        if folder.is_dir():
            return folder
    raise SourceError(
        SourceFault.NOT_FOUND, f"{str(root)!r} is no DAVIS: it has no folder {part!r}."
    )


def _clip(pictures: Path, masks: Path, names: tuple[str, ...], label: int, rate: float) -> FileClip:
    suffixes = IMAGE_SUFFIXES
    images = [path for path in pictures.iterdir() if path.suffix.lower() in suffixes]
    images.sort(key=lambda path: natural(path.name))
    drawn = [masks / f"{image.stem}.png" for image in images]
    has = [path.is_file() for path in drawn]

    def known(index: int) -> Truth:
        mask = silhouettes(index)
        return truth_of(UNKNOWN, labelled=False) if mask is None else boxes_of(mask, label)

    def silhouettes(index: int) -> Mask | None:
        return objects_in(read_indices(drawn[index])) if has[index] else None

    bare = len(has) - sum(has)
    notes = [f"{bare} of {len(has)} frames have no mask."] * bool(bare)
    return FileClip(pictures.name, names, images, known, rate=rate, notes=notes, masks=silhouettes)


def objects_in(values: Mask) -> Mask:
    """[H, W] 0 or the number of an object, from the values of a mask's pixels: a lone white is
    object 1, and 255 beside others is nobody."""
    present = np.unique(values[values > 0])
    if len(present) == 1 and present[0] >= _WHITE:
        return (values > 0).astype(np.uint8)
    return np.where(values == 255, 0, values).astype(np.uint8)


def boxes_of(mask: Mask, label: int = 0) -> Truth:
    """The box of each object of ``mask`` [H, W]; its track is its number less one."""
    height, width = mask.shape
    numbers = [int(value) for value in np.unique(mask) if value]
    boxes = []
    for number in numbers:
        x = np.flatnonzero((mask == number).any(0))
        y = np.flatnonzero((mask == number).any(1))
        boxes.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
    labels, tracks = [label] * len(numbers), [number - 1 for number in numbers]
    return truth_of((width, height), boxes, labels, tracks, [0] * len(numbers))
