"""Sizes and switches of the network; they travel with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from retain.memory.evolve import Policy
from retain.pipeline.errors import UsageError, nearest

Director = Literal["anchor", "single", "none"]
Transform = Literal["implicit", "explicit"]
Implicit = Literal["corrected", "published"]
Centre = Literal["ray", "xyz"]
GlobalPose = Literal["chained", "free"]
_WORDS = {
    "director": Director, "transform": Transform, "implicit": Implicit, "centre": Centre,
    "global_pose": GlobalPose,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OnlineXConfig:
    """The network. Raises UsageError when it cannot be built."""

    side: int = 64
    """Of the square pictures, pixels; a multiple of ``patch``."""
    patch: int = 8
    dim: int = 96
    """Width of the encoder."""
    heads: int = 4
    encoder_depth: int = 4
    decoder_dim: int = 96
    """Width of both decoders and of the anchor tokens."""
    decoder_heads: int = 4
    decoder_depth: int = 2
    """Blocks of each stream of the relative extractor."""
    director_depth: int = 2
    """Blocks of each stream of the director."""
    readout_depth: int = 1
    """Blocks in which dense features look at the global pose feature."""
    mlp: int = 4
    """Width of the feed-forward parts, in the width of the tokens."""
    anchors: int = 16
    """Tokens of the stable state."""
    head_stride: int = 2
    """Pixels between neighbouring Gaussians; divides ``patch``."""
    head_dim: int = 32
    """Channels of the map heads, and so of the features that are fused."""
    language: int = 16
    stacked: bool = True
    """The relative extractor also sees both pictures on top of each other, through convolutions."""
    matched: bool = False
    """The relative pose corrects the motion that matches of both pictures and depths say; the
    presets have this, what was trained before there was such a thing has not."""
    centre: Centre = "ray"
    """``ray``: depth along the pixel's ray. ``xyz``: a free point with the exp activation."""
    director: Director = "anchor"
    """Who writes to the state: ``anchor`` pooled descriptors, ``single`` dense tokens as CUT3R's,
    ``none`` nobody: relative poses are chained."""
    policy: Policy = field(default_factory=lambda: Policy("replace"))
    """How far the state follows what the director proposes."""
    transform: Transform = "implicit"
    """Global maps from a head, or local ones moved by the global pose."""
    implicit: Implicit = "corrected"
    """``corrected``: the head corrects the explicit transform, all numbers of a Gaussian.
    ``published``: it says global Gaussians anew."""
    global_pose: GlobalPose = "chained"
    """``chained``: the director corrects the chain of relative poses. ``free``: it says poses."""
    fusion: bool = True
    cell: float = 0.03
    """Metres, edge of the finest fusion voxels."""
    far: float = 20.0
    """Metres: depths lie between a hundredth of ... and this."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, (bool, str, dict)) and not value > 0:
                raise UsageError(f"The network's {name} must be above 0, got {value}.")
        for name, kind in _WORDS.items():
            value = getattr(self, name)
            if value not in get_args(kind):
                raise UsageError(
                    f"Unknown {name} {value!r}: one of {', '.join(get_args(kind))}.",
                    hint=nearest(value, get_args(kind)),
                )
        if self.side % self.patch or self.patch % self.head_stride:
            raise UsageError(
                f"Pictures of {self.side} pixels in patches of {self.patch} with a Gaussian every "
                f"{self.head_stride} do not come out even."
            )
        for width, heads in ((self.dim, self.heads), (self.decoder_dim, self.decoder_heads)):
            if width % heads or (width // heads) % 4:
                raise UsageError(
                    f"{width} channels do not make {heads} heads of a multiple of 4 each."
                )
        if self.matched and (self.centre != "ray" or self.side % max(2, self.side // 32)):
            raise UsageError(
                "Motion by matches needs depths along rays and sides of a multiple of 32 pixels."
            )
        if self.stacked and self.patch % 4:
            raise UsageError(f"Stacked pictures need patches of a multiple of 4, not {self.patch}.")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.side // self.patch

    @property
    def tokens(self) -> int:
        return self.grid**2

    @property
    def gaussians(self) -> int:
        """Of one picture."""
        return (self.side // self.head_stride) ** 2

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> OnlineXConfig:
        """Of ``as_json``. Raises TypeError for names that are none of ours, UsageError as above."""
        return OnlineXConfig(**{**values, "policy": Policy(**values["policy"])})

    @staticmethod
    def tiny(**changes: Any) -> OnlineXConfig:
        """For a CPU: 64 pixels, 2.1 M parameters."""
        return OnlineXConfig(**{"matched": changes.get("centre") != "xyz", **changes})

    @staticmethod
    def small(**changes: Any) -> OnlineXConfig:
        """128 pixels, 8 M parameters: 16 MB in half precision."""
        sizes: dict[str, Any] = {
            "side": 128, "dim": 192, "heads": 6, "encoder_depth": 6, "decoder_dim": 192,
            "decoder_heads": 6, "decoder_depth": 2, "director_depth": 1, "anchors": 64,
            "head_dim": 48,
            "matched": changes.get("centre") != "xyz",
        }  # fmt: skip
        return OnlineXConfig(**{**sizes, **changes})
