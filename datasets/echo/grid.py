"""The grid: where the fan of an echo lies in the square a model sees, in fractions of its side."""

from __future__ import annotations

GRID_SIZE = 112
"""Side of the square, pixels; pixel i has its centre at i + 0.5."""

APEX = (0.5, 0.02)
"""(x, y) of the point where the beams meet: top centre."""

RADIUS = 0.96
"""Length of a beam; beyond it, and outside the fan's angle, the square is zero."""
