"""What a Gaussian map may hold and when a Gaussian is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retain.memory.evolve import Policy
from retain.pipeline.errors import StateError, UsageError


@dataclass(frozen=True, slots=True)
class GaussianConfig:
    """Per stream. Raises UsageError when a value cannot work."""

    byte_budget: int = 256 << 20
    """All bytes of one stream: Gaussians, active and stable, their ids, and the keyframes'
    poses."""
    window: int = 8
    """Keyframes whose Gaussians are active; the next one sends the oldest into the stable map."""
    keyframes: int = 512
    """Poses kept, so that Gaussians can follow when a pose is corrected."""
    cell: float = 0.01
    """Metres of the finest voxel; each of the eight levels doubles it."""
    policy: Policy = field(default_factory=Policy)
    """How a stable Gaussian takes in those that fall into its voxel."""
    confirmations: int = 2
    """Keyframes, its own among them, that must have seen a Gaussian before it becomes stable: 2
    with a depth sensor, 3 with one camera."""
    expire_unseen: bool = False
    """Whether also those expire that no other keyframe was in a position to see. They are kept
    otherwise, if nothing spoke against them: wrong ones go later, when they are in the way."""
    agree: tuple[float, float] = (0.03, 0.02)
    """Seen where it should be: within this share of the depth or these metres, whichever is
    more."""
    front: tuple[float, float] = (0.05, 0.1)
    """In the way: in front of the measured depth by more than that."""
    violations: int = 3
    """Times a stable Gaussian may be in the way, unseen between, before its weight is halved."""
    min_weight: float = 0.1
    """A stable Gaussian whose weight was halved to less than this is removed."""
    min_opacity: float = 0.005
    max_footprint: float = 0.15
    """Share of the picture that one standard deviation of a stable Gaussian may cover."""
    codes: bool = False
    """Whether each Gaussian has a language code: 32 bytes more."""

    def __post_init__(self) -> None:
        for name in ("byte_budget", "window", "confirmations", "violations"):
            if getattr(self, name) < 1:
                raise UsageError(f"Gaussian map option {name} must be at least 1.")
        if self.keyframes <= self.window:
            raise UsageError(
                f"Gaussian map option keyframes must be more than window ({self.window}), "
                f"got {self.keyframes}."
            )
        if not 1e-4 <= self.cell <= 1e4:
            raise UsageError(f"Gaussian map option cell must be metres, got {self.cell}.")
        for name in ("min_weight", "min_opacity", "max_footprint", *("agree", "front")):
            value = getattr(self, name)
            if not min(value if isinstance(value, tuple) else (value,)) >= 0:
                raise UsageError(f"Gaussian map option {name} must be >= 0, got {value}.")

    @staticmethod
    def of(saved: Mapping[str, Any]) -> GaussianConfig:
        """The configuration that a memory file names. Raises StateError when it is none."""
        given = {name: value for name, value in saved.items() if name != "kind"}
        try:
            given["policy"] = Policy(**given["policy"])
            for name in ("agree", "front"):
                given[name] = tuple(given[name])
            return GaussianConfig(**given)
        except (KeyError, TypeError) as error:
            raise StateError(f"This is no configuration of a Gaussian map: {error}.") from error
