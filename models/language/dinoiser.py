"""CLIP-DINOiser (Wysoczanska et al., ECCV 2024, arXiv 2312.12359): pooling guided by likeness.

Two small convolutions on a frozen CLIP say which patches belong together, as DINO would, and which
lie on objects, as FOUND would. Their weights are the user's: the authors' ``last.pt``.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.pipeline.errors import UsageError

GAMMA = 0.2
"""Cosine below which two patches have nothing to do with each other (the authors')."""
OBJECT = 0.5
"""Objectness from which a patch lies on an object."""
SURE = 0.99
"""Probability of a word from which it is believed off objects too."""
EPSILON = 1e-6
"""In the sum that affinities are divided by: no patch is like itself alone if gamma is above 1."""
DIM = 256
KEY = "model_state_dict"


class Dinoiser(nn.Module):
    """``obj_proj`` and ``bkg_decoder`` are called as in the authors' checkpoint.

    width  of the CLIP tower: 768 for ViT-B
    dim    of the space in which patches are compared
    """

    def __init__(self, width: int = 768, dim: int = DIM) -> None:
        super().__init__()
        self.obj_proj = nn.Conv2d(width, dim, 3, padding=1, padding_mode="replicate")
        self.bkg_decoder = nn.Conv2d(width, 1, 1)

    def affinity(self, local: Tensor, gamma: float = GAMMA) -> Tensor:
        """``local`` [B, D, h, w], of ``ValuePath``: [B, h w, h w] cosines, those below ``gamma``
        are 0."""
        return affinity(self.obj_proj(local), gamma)

    def objectness(self, local: Tensor) -> Tensor:
        """[B, h, w], 0 to 1: how much a patch lies on an object."""
        logits: Tensor = self.bkg_decoder(F.normalize(local, dim=1))
        return logits.sigmoid()[:, 0]

    def forward(self, values: Tensor, local: Tensor) -> Tensor:
        """``values`` [B, E, h, w] pooled over what is alike."""
        return pool(values, self.affinity(local))


def affinity(features: Tensor, gamma: float) -> Tensor:
    """Cosines [B, N, N] of all pairs of places in ``features`` [B, D, h, w], below ``gamma`` 0."""
    rows = F.normalize(features.flatten(2), dim=1)
    cosines = rows.mT @ rows
    return torch.where(cosines < gamma, 0.0, cosines)


def weights_of(affinities: Tensor) -> Tensor:
    """Rows of affinities [B, N, N] as weights: each sums to 1, or to 0 where nothing is alike."""
    return affinities / (affinities.sum(2, keepdim=True) + EPSILON)


def pool(values: Tensor, affinities: Tensor) -> Tensor:
    """``values`` [B, E, h, w], each place the weighted mean of all."""
    mixed = values.flatten(2) @ weights_of(affinities).mT
    return mixed.view_as(values)


def load(path: Path, width: int) -> Dinoiser:
    """A checkpoint for a tower of ``width``, by torch's restricted reader. Raises UsageError when
    it cannot be read or does not fit."""
    name = path.name
    try:
        file = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise UsageError(
            f"The CLIP-DINOiser weights in {name} cannot be read ({type(error).__name__}).",
            hint="Give the authors' checkpoints/last.pt.",
        ) from error
    state = file.get(KEY, file) if isinstance(file, dict) else {}
    network = Dinoiser(width, _dim(state))
    own = {key: state.get(key) for key in network.state_dict()}
    misfits = [
        key
        for key, value in network.state_dict().items()
        if not isinstance(own[key], Tensor) or cast(Tensor, own[key]).shape != value.shape
    ]
    if misfits:
        raise UsageError(
            f"{name} is no CLIP-DINOiser of a tower {width} wide: {', '.join(misfits)} "
            "is missing or of another shape.",
            hint="The authors' is for ViT-B-16, 768 wide.",
        )
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)


def _dim(state: object) -> int:
    """The width of the space that a checkpoint compares in."""
    found = state.get("obj_proj.weight") if isinstance(state, dict) else None
    return len(found) if isinstance(found, Tensor) and found.ndim == 4 else DIM
