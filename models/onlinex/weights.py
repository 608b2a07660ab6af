"""Networks on disk: one safetensors file in half precision, its configuration in the header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from retain.models import tensors
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX
from retain.pipeline.errors import RetainError, StateError

SCHEMA = "retain-onlinex/1"
AUTO = "tiny"
SHIPPED = {AUTO: Path(__file__).parent / "shipped" / "tiny.safetensors"}
"""Weights that come with the package, by name; see MODEL_CARD.md beside them."""
_HINT = "`retain train onlinex` writes such files."


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file holds."""

    net: OnlineX
    """Ready to use: float32, in evaluation mode, without gradients."""
    name: str
    """Of the shipped weights or the file."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """What else was written of how it was made."""


def save(path: Path, net: OnlineX, head: Mapping[str, Any] | None = None) -> None:
    """Write atomically, as float16. ``head``: JSON, what is worth knowing of the training."""
    values = {
        name: value.half() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    tensors.write(path, values, {**(head or {}), "config": net.config.as_json()}, SCHEMA)


def load(source: str | Path = "auto", device: str | torch.device = "cpu") -> OnlineX:
    """A network from a file or by the name of shipped weights; ``auto``: the shipped ones.

    Raises UsageError where there is none, StateError for a file that is another, or damaged.
    """
    return opened(source, device).net


def opened(source: str | Path = "auto", device: str | torch.device = "cpu") -> Opened:
    """As ``load``, with all else that the file tells."""
    path = locate(source)
    values, head = tensors.read(path, SCHEMA, _HINT)
    try:
        net = OnlineX(OnlineXConfig.from_json(head.pop("config")))
        net.load_state_dict({k: v.float() for k, v in values.items()})
    except (TypeError, ValueError, KeyError, RuntimeError, RetainError) as error:
        raise StateError(f"{str(path)!r} does not fit its own description.", hint=_HINT) from error
    return Opened(net.to(device).eval().requires_grad_(False), path.stem, head)


def locate(source: str | Path) -> Path:
    """The file that ``source`` names. Raises UsageError for a name nobody knows."""
    return tensors.locate(AUTO if str(source) == "auto" else source, SHIPPED)
