"""How many vision tokens a picture costs a language model that reads it.

One token covers a square of pixels: patch size times spatial merge, 14 * 2 = 28 for Qwen2-VL and
Qwen2.5-VL, 16 * 2 = 32 for Qwen3-VL. Their image processor rounds each side to a multiple of it
and scales the picture where it then lies outside two bounds on its pixels, which each model's
published ``preprocessor_config.json`` sets. ``tokens`` counts what that processor counts
(``tests/memory/test_tokens.py`` has its own numbers), unless a caller sets other bounds there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from retain.pipeline.errors import UsageError, nearest

Family = Literal["qwen2-vl", "qwen2.5-vl", "qwen3-vl"]


@dataclass(frozen=True, slots=True)
class Counting:
    """A family's arithmetic."""

    cell: int
    """Pixels along one side of a token."""
    least: int
    most: int
    """Bounds on the pixels of a picture; outside them it is scaled."""
    source: str


FAMILIES: dict[str, Counting] = {
    "qwen2-vl": Counting(28, 3136, 12_845_056, "Qwen/Qwen2-VL-7B-Instruct"),
    "qwen2.5-vl": Counting(28, 3136, 12_845_056, "Qwen/Qwen2.5-VL-7B-Instruct"),
    "qwen3-vl": Counting(32, 65_536, 16_777_216, "Qwen/Qwen3-VL-8B-Instruct"),
}
"""``source`` is the model whose ``preprocessor_config.json`` (on its hub page) gives the row."""


def counting(family: str) -> Counting:
    """The arithmetic of ``family``. Raises UsageError for an unknown one."""
    if family not in FAMILIES:
        raise UsageError(f"Unknown model family {family!r}.", hint=nearest(family, FAMILIES))
    return FAMILIES[family]


def grid(width: int, height: int, family: Family = "qwen2.5-vl") -> tuple[int, int]:
    """Columns and rows of tokens of a picture of ``width`` x ``height`` pixels.

    >>> grid(1280, 720), grid(224, 224, "qwen3-vl")
    ((46, 26), (8, 8))
    """
    rule = counting(family)
    cell = rule.cell
    columns, rows = round(width / cell), round(height / cell)
    pixels = columns * rows * cell * cell
    if pixels > rule.most:
        scale = math.sqrt(width * height / rule.most)
        columns = max(1, math.floor(width / scale / cell))
        rows = max(1, math.floor(height / scale / cell))
    elif pixels < rule.least:
        scale = math.sqrt(rule.least / (width * height))
        columns, rows = math.ceil(width * scale / cell), math.ceil(height * scale / cell)
    return columns, rows


def tokens(width: int, height: int, family: Family = "qwen2.5-vl") -> int:
    """Tokens of a picture of ``width`` x ``height`` pixels.

    A picture under the lower bound is enlarged first: 224x224 costs Qwen3-VL 64, not 49.

    >>> tokens(1280, 720), tokens(1280, 720, "qwen3-vl"), tokens(224, 224)
    (1196, 880, 64)
    """
    columns, rows = grid(width, height, family)
    return columns * rows


def fit(width: int, height: int, limit: int, family: Family = "qwen2.5-vl") -> tuple[int, int]:
    """The largest size of the same shape, never enlarged, that costs at most ``limit`` tokens.

    Where the family's lower bound keeps every size above ``limit``, the cheapest one found.
    """
    best, cost = (width, height), tokens(width, height, family)
    rule = counting(family)
    least = rule.least / rule.cell**2
    # Near the lower bound rounding decides what is cheapest, so the search begins above it.
    room = limit if limit > least else 1.2 * least
    scale = min(1.0, math.sqrt(room / (width * height)) * rule.cell)
    while cost > limit:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if (now := tokens(*size, family)) < cost:
            best, cost = size, now
        if size[0] * size[1] < rule.least:
            break
        scale *= 0.98
    return best
