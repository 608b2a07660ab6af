"""Networks on disk: one safetensors file, its configuration in the header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.models import tensors
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.pipeline.errors import StateError

SCHEMA = "retain-gdkvm/1"
SHIPPED = {
    name: Path(__file__).parent / "shipped" / f"gdkvm-{name}.safetensors"
    for name in ("mini", "mini-all")
}
"""Weights that come with the package, by name: the cavity alone, and with wall and atrium. See
MODEL_CARD.md beside them."""
_HINT = "`retain train gdkvm` writes such files; `--weights mini` takes the shipped ones."


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header. Raises UsageError where there is no file, StateError for another one."""
    return tensors.read(path, SCHEMA, _HINT)


def save(path: Path, model: Gdkvm, head: Mapping[str, Any]) -> None:
    """``head``: anything worth knowing of how they were made; the configuration is added."""
    tensors.write(path, model.state_dict(), {**head, "config": model.config.as_json()}, SCHEMA)


def load(source: str | Path, config: GdkvmConfig | None = None) -> Gdkvm:
    """A network ready to use, from a file or by the name of shipped weights.

    ``config``: what the file must be of. Raises StateError for a file that is damaged or of
    another network, UsageError for a name nobody knows.
    """
    path = tensors.locate(source, SHIPPED)
    values, head = read(path)
    try:
        own = GdkvmConfig.from_json(head["config"])
    except (KeyError, TypeError) as error:
        raise StateError(f"{str(path)!r} does not say what network it is of.") from error
    if config is not None and own != config:
        raise StateError(f"{str(path)!r} holds weights of another network: {own.as_json()}.")
    model = Gdkvm(own)
    with torch.no_grad():
        own_state = model.state_dict()
        wrong = [k for k, v in own_state.items() if k not in values or values[k].shape != v.shape]
        if wrong or len(values) != len(own_state):
            raise StateError(
                f"{str(path)!r} does not fit its own description ({len(wrong)} wrong)."
            )
        model.load_state_dict(values)
    return model.eval()


def take_over(model: Gdkvm, path: Path) -> None:
    """Start ``model`` from the weights in ``path``, which may be of more structures: each object is
    found by its name, and codes of places that the file does not know begin at zero. Raises
    StateError when the networks differ in anything else."""
    values, head = read(path)
    theirs = GdkvmConfig.from_json({"placed_keys": False, **head.get("config", {})})
    own = model.state_dict()
    missing = [name for name in model.config.objects if name not in theirs.objects]
    if missing:
        raise StateError(f"{str(path)!r} knows no {', '.join(missing)}.")
    rows = [theirs.objects.index(name) for name in model.config.objects]
    values["object"] = values["object"][rows]
    if "to_place.weight" in own:
        values.setdefault("to_place.weight", torch.zeros_like(own["to_place.weight"]))
    if {k: v.shape for k, v in values.items()} != {k: v.shape for k, v in own.items()}:
        raise StateError(f"{str(path)!r} holds weights of another network: {theirs.as_json()}.")
    model.load_state_dict(values)
