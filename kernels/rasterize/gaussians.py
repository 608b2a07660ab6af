"""A set of 3D Gaussians as plain arrays: what the map holds, the rasteriser draws, files store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
CODE = 16
"""Numbers of a language code."""


@dataclass(frozen=True, slots=True)
class Gaussians:
    """N Gaussians with activated values (linear scales, opacities and colours in 0..1).

    means      float32 [N, 3], metres, world
    quats      float32 [N, 4], wxyz, unit length
    scales     float32 [N, 3], metres: standard deviations along the turned axes
    opacities  float32 [N], 0..1
    colors     float32 [N, 3], RGB, 0..1
    codes      float32 [N, 16], unit length or zero: language codes; None when there are none
    """

    means: Floats
    quats: Floats
    scales: Floats
    opacities: Floats
    colors: Floats
    codes: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.means)
        wanted = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,),
                  "colors": (n, 3), "codes": (n, CODE)}  # fmt: skip
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None and (array.shape != shape or array.dtype != np.float32):
                raise ValueError(
                    f"Gaussians.{name} must be float32 {list(shape)}, "
                    f"got {array.dtype} {list(array.shape)}"
                )

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: NDArray[np.generic] | slice) -> Gaussians:
        """Those that ``index`` selects (mask, numbers or slice)."""
        codes = None if self.codes is None else self.codes[index]
        return Gaussians(
            self.means[index], self.quats[index], self.scales[index],
            self.opacities[index], self.colors[index], codes,
        )  # fmt: skip

    @staticmethod
    def empty(codes: bool = False) -> Gaussians:
        sides: tuple[tuple[int, ...], ...] = ((0, 3), (0, 4), (0, 3), (0,), (0, 3))
        if codes:
            sides = (*sides, (0, CODE))
        return Gaussians(*(np.zeros(side, np.float32) for side in sides))

    @staticmethod
    def together(parts: Sequence[Gaussians]) -> Gaussians:
        """All of ``parts`` in one. Codes are kept when every part has them."""
        if not parts:
            return Gaussians.empty()
        names = ["means", "quats", "scales", "opacities", "colors"]
        if all(part.codes is not None for part in parts):
            names.append("codes")
        return Gaussians(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
