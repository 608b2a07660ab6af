"""How many vision tokens a picture costs a language model that reads it.

One token covers a square of pixels: patch size times spatial merge, 14 * 2 = 28 for Qwen2-VL and
Qwen2.5-VL, 16 * 2 = 32 for Qwen3-VL. Each side is rounded to the nearest multiple, as their image
processors do; their lower and upper pixel bounds, which a caller may set, are not applied.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from retain.pipeline.errors import UsageError, nearest

Family = Literal["qwen2.5-vl", "qwen3-vl"]
_SIDE: dict[str, int] = {"qwen2.5-vl": 28, "qwen3-vl": 32}


def side(family: Family) -> int:
    """Pixels along one side of a token. Raises UsageError for an unknown family."""
    if family not in _SIDE:
        raise UsageError(
            f"Unknown model family {family!r}.", hint=nearest(family, get_args(Family))
        )
    return _SIDE[family]


def tokens(width: int, height: int, family: Family = "qwen2.5-vl") -> int:
    """Tokens of a picture of ``width`` x ``height`` pixels.

    >>> tokens(1280, 720), tokens(1280, 720, "qwen3-vl"), tokens(224, 224)
    (1196, 880, 64)
    """
    cell = side(family)
    return max(1, round(width / cell)) * max(1, round(height / cell))


def fit(width: int, height: int, limit: int, family: Family = "qwen2.5-vl") -> tuple[int, int]:
    """The largest size of the same shape, never enlarged, that costs at most ``limit`` tokens."""
    if tokens(width, height, family) <= limit:
        return width, height
    scale = min(1.0, math.sqrt(limit / (width * height)) * side(family))
    while True:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if tokens(*size, family) <= limit or size == (1, 1):
            return size
        scale *= 0.98
