"""The classes of things in procedural rooms, and a code for each.

A query for a class by its code stands in for a query by a text's embedding: open vocabulary,
without a language model and its weights.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "none", "wall", "floor", "ceiling", "door", "window", "picture", "rug", "table", "chair",
    "shelf", "cabinet", "lamp", "plant", "ball", "vase", "box",
)  # fmt: skip
"""By class id. 0, "none", is what has no label."""
CODE_SIZE = 16

WALL, FLOOR, CEILING, DOOR, WINDOW, PICTURE, RUG, TABLE = range(1, 9)
CHAIR, SHELF, CABINET, LAMP, PLANT, BALL, VASE, BOX = range(9, 17)


@cache
def codes() -> NDArray[np.float32]:
    """[17, 16] by class id: orthogonal unit vectors, always the same; zeros for "none". Not to be
    written."""
    rng = np.random.default_rng(0x0C0DE5)
    q, r = np.linalg.qr(rng.standard_normal((CODE_SIZE, CODE_SIZE)))
    table = np.zeros((len(CLASSES), CODE_SIZE), np.float32)
    table[1:] = (q * np.sign(np.diag(r))).T
    table.flags.writeable = False
    return table
