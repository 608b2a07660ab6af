"""Guided backbones on disk: one safetensors file, its configuration in the header."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.models import tensors
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.pipeline.errors import RetainError, StateError

SCHEMA = "retain-ditmem/1"
AUTO = "ball-12"
SHIPPED = {AUTO: Path(__file__).parent / "shipped" / "ball-12.safetensors"}
"""Weights that come with the package, by name; see MODEL_CARD.md beside them."""
_HINT = "`retain train ditmem` writes such files."
_SCALE = "scale/"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file holds."""

    guided: Guided
    """Ready to use: in evaluation mode, without gradients."""
    name: str
    """Of the shipped weights or the file."""
    digest: str
    """Of the encoder: descriptors of another one cannot be compared with its own."""
    scale: tuple[Tensor, Tensor] | None = None
    """Mean and deviation [P] of the worlds' parameters, where the training knew them."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """What else was written of how it was made."""

    @property
    def encoder(self) -> str:
        """What an index of clips calls the encoder."""
        return f"ditmem-{self.guided.config.encoder.mode}"


def save(
    path: Path,
    guided: Guided,
    *,
    scale: tuple[Tensor, Tensor] | None = None,
    head: Mapping[str, Any] | None = None,
) -> None:
    """Write atomically. ``scale``: mean and deviation of the parameters that the oracle and the
    auxiliary head were trained with; ``head``: JSON, what is worth knowing of the training."""
    values = dict(guided.state_dict())
    if scale is not None:
        values |= {f"{_SCALE}mean": scale[0], f"{_SCALE}deviation": scale[1]}
    own = {"config": guided.config.as_json(), "encoder": digest(guided)}
    tensors.write(path, values, {**(head or {}), **own}, SCHEMA)


def load(source: str | Path = "auto", device: str | torch.device = "cpu") -> Guided:
    """A guided backbone from a file or by the name of shipped weights; ``auto``: the shipped ones.

    Raises UsageError where there is none, StateError for a file that is another, or damaged.
    """
    return opened(source, device).guided


def opened(source: str | Path = "auto", device: str | torch.device = "cpu") -> Opened:
    """As ``load``, with all else that the file tells."""
    path = locate(source)
    values, head = tensors.read(path, SCHEMA, _HINT)
    mean, deviation = (values.pop(f"{_SCALE}{name}", None) for name in ("mean", "deviation"))
    scale = None if mean is None or deviation is None else (mean.to(device), deviation.to(device))
    try:
        guided = Guided(GuideConfig.from_json(head.pop("config")))
        guided.load_state_dict(values)
        fits = digest(guided) == head.pop("encoder")
    except (TypeError, ValueError, KeyError, RuntimeError, RetainError) as error:
        raise _unlike(path) from error
    if not fits:
        raise _unlike(path)
    guided = guided.to(device).eval().requires_grad_(False)
    return Opened(guided, path.stem, digest(guided), scale, head)


def digest(guided: Guided) -> str:
    """SHA-256 of the encoder's configuration and weights; of nothing, where it has none."""
    sha = hashlib.sha256()
    if guided.config.source == "references":
        sha.update(repr((guided.config.dit, guided.config.encoder)).encode())
        for name, value in sorted(guided.encoder.state_dict().items()):
            sha.update(name.encode())
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def locate(source: str | Path) -> Path:
    """The file that ``source`` names. Raises UsageError for a name nobody knows."""
    return tensors.locate(AUTO if str(source) == "auto" else source, SHIPPED)


def _unlike(path: Path) -> StateError:
    return StateError(f"{str(path)!r} does not fit its own description.", hint=_HINT)
