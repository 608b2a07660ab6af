"""What a mapper of either profile is told."""

from __future__ import annotations

from dataclasses import dataclass

from retain.models.scene.tracking.base import Fit
from retain.models.scene.tracking.features import Kind as Features


@dataclass(frozen=True, kw_only=True)
class MapperOptions:
    """See ``Reconstruct``."""

    budget_bytes: int
    refine: int
    refine_s: float
    cell: float
    seed: int
    threads: int
    fit: Fit = "keyframe"
    features: Features = "orb"
    refine_poses: bool = True
    weights: str = "auto"
    """Of the neural profile."""
