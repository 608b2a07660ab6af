"""Who says what pixels mean: features that words can be compared with, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.models.language import query
from retain.models.language.classes import ClassTeacher
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    from retain.models.encoders.clip import OpenClip

Floats = NDArray[np.float32]

CLIP = "openclip:ViT-B-16/laion2b_s34b_b88k"
"""What ``clip`` stands for: the weights that CLIP-DINOiser was trained on."""
SIDE = 448
"""Pixels of the shorter side of the picture that CLIP sees (CLIP-DINOiser)."""
WIDEST = 3.0
"""Of a picture longer than so many times its shorter side, the sides are squeezed: patches are
compared pair by pair."""


class Teacher(Protocol):
    """Features of pictures and words in one space. Deterministic."""

    @property
    def name(self) -> str:
        """What ``make`` makes it from."""
        ...

    @property
    def dim(self) -> int: ...

    @property
    def canonical(self) -> tuple[str, ...]:
        """Words that others are compared with for their relevancy."""
        ...

    def dense(self, image: Image, labels: NDArray[np.uint8] | None = None) -> Floats:
        """``image`` uint8 [H, W, 3], ``labels`` uint8 [H, W] where the source knows them; float32
        [h, w, dim] of unit length, or zero where there is nothing to say. The grid covers the
        picture evenly."""
        ...

    def text(self, words: Sequence[str]) -> Floats:
        """float32 [n, dim], rows of unit length. Raises UsageError for words it cannot read."""
        ...


class Looked(NamedTuple):
    """A picture as CLIP-DINOiser sees it."""

    features: Floats
    """[h, w, dim], unit."""
    objects: Floats | None
    """[h, w], 0 to 1: how much a patch lies on an object; None without its weights."""


class ClipTeacher:
    """The value path of a CLIP tower; with weights of CLIP-DINOiser, its patches pooled.

    encoder   an OpenCLIP encoder
    dinoiser  checkpoint of CLIP-DINOiser; empty: none
    side      pixels of the shorter side that the tower sees; positions are interpolated to it
    """

    canonical = query.CANONICAL

    def __init__(self, encoder: OpenClip, dinoiser: str = "", side: int = SIDE) -> None:
        from retain.models.language.dinoiser import load
        from retain.models.language.value_path import LOCAL, ValuePath

        self.name, self.dim = encoder.name, encoder.dim
        self._encoder, self._path = encoder, ValuePath(encoder.visual, encoder.name)
        if side < self._path.patch:
            raise UsageError(f"A side of {side} pixels is less than one patch, {self._path.patch}.")
        self._side, self._pool = side, None
        if dinoiser:
            if len(encoder.visual.transformer.resblocks) + LOCAL < 0:
                raise UsageError(f"{encoder.name!r} has too few blocks for CLIP-DINOiser.")
            device = encoder.visual.proj.device
            self._pool = load(_file(dinoiser), self._path.width).to(device)

    def look(self, image: Image) -> Looked:
        """Features and, with CLIP-DINOiser, objectness of ``image`` uint8 [H, W, 3]."""
        import torch

        with torch.inference_mode():
            patches = self._path(self._encoder.normalise(self._sized(image)[None]))
            values, objects = patches.values, None
            if self._pool is not None:
                assert patches.local is not None
                values = self._pool(values, patches.local)
                objects = self._pool.objectness(patches.local)[0].cpu().numpy()
            values = torch.nn.functional.normalize(values, dim=1)
            return Looked(values[0].permute(1, 2, 0).contiguous().cpu().numpy(), objects)

    def dense(self, image: Image, labels: NDArray[np.uint8] | None = None) -> Floats:
        return self.look(image).features

    def text(self, words: Sequence[str]) -> Floats:
        rows = self._encoder.encode_text(query.phrased(words))
        return query.mean_phrases(rows, len(query.PHRASES))

    def _sized(self, image: Image) -> Image:
        """In whole patches, so that the grid covers the picture; the shorter side about ``side``.
        (The authors pad to whole patches instead.)"""
        height, width = image.shape[:2]
        scale = self._side / min(height, width)
        patch, most = self._path.patch, WIDEST * self._side
        size = [patch * max(1, round(min(scale * length, most) / patch))
                for length in (width, height)]  # fmt: skip
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, size, interpolation=kind), np.uint8)


def make(
    name: str, *, dinoiser: str = "", side: int = SIDE, device: str = "auto", download: bool = False
) -> Teacher:
    """The teacher called ``name``: ``clip``, any ``openclip:…`` (see OpenClip), or ``classes``, of
    generated scenes (``classes:512,8,0.5``: in a space like CLIP's, patches of 8 pixels, noise).

    Raises UsageError for an unknown name or missing weights, MissingExtra for a missing package.
    """
    kind, _, variant = name.partition(":")
    if kind == "classes":
        return ClassTeacher.of(variant)
    return clip(name, dinoiser=dinoiser, side=side, device=device, download=download)


def clip(
    name: str = "clip",
    *,
    dinoiser: str = "",
    side: int = SIDE,
    device: str = "auto",
    download: bool = False,
) -> ClipTeacher:
    """As ``make``, for CLIP alone."""
    from retain.models.encoders.clip import OpenClip
    from retain.models.encoders.hub import WeightsAbsent

    kind, _, variant = (CLIP if name == "clip" else name).partition(":")
    if kind != "openclip":
        raise UsageError(
            f"{name!r} does not know words.", hint="Write clip, or openclip:MODEL/TAG or @FILE."
        )
    try:
        encoder = OpenClip(variant, device, download)
    except WeightsAbsent as error:
        raise WeightsAbsent(
            error.what,
            hint="Allow it once with --download, or name a file you have: openclip:MODEL@FILE.",
        ) from error
    return ClipTeacher(encoder, dinoiser, side)


def _file(given: str) -> Path:
    path = Path(given).expanduser()
    if not path.is_file():
        raise UsageError(
            f"There is no file of CLIP-DINOiser's weights at {given!r}.",
            hint="Give the authors' checkpoints/last.pt.",
        )
    return path
