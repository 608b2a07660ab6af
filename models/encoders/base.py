"""What a frame encoder is, how one is made by name, and the steps they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retain.models.catalog import ENCODERS
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    import torch

Features = NDArray[np.float32]


class Encoder(Protocol):
    """Pictures to global features. The same picture gives the same feature, whatever its batch
    (within 1e-5 per element; bit for bit when the batch size is the same)."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, images: Sequence[Image]) -> Features:
        """``images``: uint8 [H, W, 3] RGB of any sizes. Returns float32 [N, dim], each row of unit
        length, or all zero where a picture has no feature to speak of."""
        ...


@runtime_checkable
class TextEncoder(Encoder, Protocol):
    """An encoder that puts words into the space of its pictures: what a text means lies near the
    pictures that show it, by the cosine."""

    def encode_text(self, texts: Sequence[str]) -> Features:
        """Returns float32 [N, dim], rows of unit length. A text that is too long loses its end, and
        the log says so. Raises UsageError when the words cannot be read (no tokenizer)."""
        ...

    def known(self, text: str) -> float:
        """Share of the letters in ``text``, 0 to 1, that belong to words the tokenizer has whole or
        in pieces of letters. A script it was not made for comes near 0; a language in a script it
        knows does not show. 0 where there is no word at all."""
        ...

    def fits(self, text: str) -> bool:
        """Whether the model reads all of ``text``."""
        ...


def create(name: str, *, device: str = "auto", download: bool = False) -> Encoder:
    """The encoder called ``name``; ``kind:variant`` (``torchvision:resnet18``) where a kind has
    variants. ``download`` allows it to fetch its weights; without, they must be on this machine.

    Raises UsageError for an unknown name or missing weights, MissingExtra for a missing package.
    """
    kind, _, variant = name.partition(":")
    made: Encoder = ENCODERS.load(kind)(variant=variant, device=device, download=download)
    return made


def no_variant(name: str, variant: str) -> None:
    if variant:
        raise UsageError(f"The encoder {name!r} has no variants, so {variant!r} means nothing.")


def choose_device(name: str) -> str:
    """``auto`` becomes ``cuda`` where there is one, else ``cpu``. Raises UsageError when absent."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            f"The device {name!r} cannot be used: {str(error).splitlines()[0].rstrip('.')}.",
            hint="Write auto, cpu, cuda or cuda:N; `retain doctor` lists what there is.",
        ) from None
    return name


def read_weights(path: Path, what: str) -> dict[str, torch.Tensor]:
    """A state dict, by torch's restricted reader. Raises UsageError when the file is damaged."""
    import pickle

    import torch

    try:
        weights: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise UsageError(
            f"The weights of {what} in {path.name} cannot be read ({type(error).__name__}).",
            hint="The file is damaged or incomplete: reinstall the package it belongs to.",
        ) from error
    return weights


def squares(images: Sequence[Image], side: int) -> NDArray[np.uint8]:
    """Whole pictures brought to ``side`` x ``side``: uint8 [N, side, side, 3] RGB.

    Squeezed, not cropped: a feature of the whole picture must see its borders too.
    """
    import cv2

    out = np.empty((len(images), side, side, 3), np.uint8)
    for picture, image in zip(out, images, strict=True):
        shrinks = min(image.shape[:2]) >= side
        # Area averaging does not alias; it makes blocks of pictures it has to enlarge.
        kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cv2.resize(image, (side, side), dst=picture, interpolation=kind)
    return out


def unit(rows: NDArray[np.floating]) -> Features:
    """Rows [N, D] at unit length in float32; rows without direction become zero."""
    wide = np.asarray(rows, np.float64)
    length = np.sqrt((wide * wide).sum(1, keepdims=True))
    good = (length > 1e-12) & np.isfinite(length)
    scaled = np.zeros_like(wide)
    np.divide(wide, length, out=scaled, where=good)
    return np.asarray(scaled, np.float32)


class TorchEncoder:
    """An encoder around ``network``: float32 [N, 3, side, side], normalised, to [N, dim]."""

    def __init__(
        self,
        name: str,
        network: Callable[[torch.Tensor], torch.Tensor],
        *,
        dim: int,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: str,
    ) -> None:
        """``mean`` and ``std`` are per channel, on the scale 0 to 255."""
        import torch

        self._name, self._network, self._dim, self._side = name, network, dim, side
        self._device = device
        self._mean = torch.tensor(mean, device=device)
        self._scale = 1.0 / torch.tensor(std, device=device)

    @property
    def name(self) -> str:
        return self._name

    @property
    def dim(self) -> int:
        return self._dim

    def encode(self, images: Sequence[Image]) -> Features:
        import torch

        if not images:
            return np.zeros((0, self.dim), np.float32)
        with torch.inference_mode():
            batch = self.normalise(squares(images, self._side))
            return unit(self._network(batch).float().cpu().numpy())

    def normalise(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """uint8 [N, H, W, 3] RGB as the network takes it: float32 [N, 3, H, W], on its device."""
        import torch

        number, height, width, _ = pictures.shape
        # Row by row: over the three channels of a pixel torch's loops would be three steps long.
        given = torch.from_numpy(pictures).to(self._device).float()
        rows = given.reshape(number, height, 3 * width)
        rows.sub_(self._mean.repeat(width)).mul_(self._scale.repeat(width))
        # A view: NHWC is what channels_last is.
        return rows.view(number, height, width, 3).permute(0, 3, 1, 2)


def need(package: str, extra: str, why: str) -> None:
    """Raise MissingExtra unless ``package`` can be imported."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra, why)
