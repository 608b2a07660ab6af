"""Sizes of the video transformer and of the encoder of reference clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from retain.pipeline.errors import UsageError, nearest

Mode = Literal["repaired", "paper"]
Band = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class DitConfig:
    """The backbone; travels with its weights. Raises UsageError when it cannot be built."""

    side: int = 12
    """Of the square frames, pixels; a multiple of ``patch``."""
    frames: int = 8
    channels: int = 1
    patch: int = 4
    dim: int = 64
    depth: int = 3
    heads: int = 4
    mlp: int = 4
    """Width of the feed-forward part, in ``dim``."""

    def __post_init__(self) -> None:
        positive(self)
        if self.frames < 3:
            raise UsageError(f"A clip needs 3 frames or more, two of them given: {self.frames}.")
        if self.side % self.patch:
            raise UsageError(
                f"Frames of {self.side} pixels do not split in patches of {self.patch}."
            )
        if self.dim % self.heads or self.dim // self.heads < 6 or self.dim // self.heads % 2:
            raise UsageError(
                f"{self.dim} channels do not make {self.heads} heads of an even width of 6 or more."
            )

    @property
    def tokens(self) -> int:
        """Of one clip."""
        return self.frames * (self.side // self.patch) ** 2

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder of reference clips. Raises UsageError when it cannot be built."""

    mode: Mode = "repaired"
    """``paper``: time collapsed to one step that is copied, the published ramps, without noise,
    with a residual around them, attention without one."""
    bands: tuple[Band, ...] = ("high", "low")
    wide: tuple[int, int] = (32, 48)
    """Channels after the first and the second convolution."""
    heads: int = 4
    references: int = 3
    """How many clips it is trained with; it takes any number."""

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UsageError(
                f"Unknown encoder mode {self.mode!r}.", hint=nearest(self.mode, get_args(Mode))
            )
        if not self.bands or set(self.bands) - set(get_args(Band)):
            raise UsageError(f"Bands are any of high and low, got {self.bands}.")
        if any(width < 8 or width % 8 for width in self.wide):
            raise UsageError(f"Channels must be multiples of 8, got {self.wide}.")
        if self.references < 1 or self.heads < 1:
            raise UsageError("An encoder needs one reference and one head at least.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> EncoderConfig:
        changed = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return EncoderConfig(**changed)  # type: ignore[arg-type]


def positive(config: DitConfig) -> None:
    """Raises UsageError for a size under 1."""
    for name, value in asdict(config).items():
        if value < 1:
            raise UsageError(f"The backbone's {name} must be at least 1, got {value}.")
