"""Weights on disk: safetensors with a JSON header that says what network they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.network import Gdkvm
from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

SCHEMA = "retain-gdkvm/1"
SHIPPED = {"mini": "gdkvm-mini.safetensors", "mini-all": "gdkvm-mini-all.safetensors"}
"""Weights that come with the package, by name: the cavity alone, and with wall and atrium. See
MODEL_CARD.md beside them."""


def write(path: Path, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> None:
    """Atomically: whoever reads ``path`` sees the old file or the whole new one."""
    from safetensors.torch import save

    own = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    head = {"schema": SCHEMA, **head}
    blob = save(own, {"retain": json.dumps({**head, "sha256": _digest(own, head)}, sort_keys=True)})
    write_whole(path, blob)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header. Raises StateError when it is not such a file, whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            head = json.loads((file.metadata() or {})["retain"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        whole = head.pop("sha256", None) == _digest(tensors, head)
    except FileNotFoundError:
        raise UsageError(f"There is no weights file {str(path)!r}.") from None
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as error:
        raise StateError(
            f"{str(path)!r} is not a weights file of ours, or is damaged ({type(error).__name__}).",
            hint="`retain train gdkvm` writes such files; `--weights mini` takes the shipped ones.",
        ) from error
    if head.get("schema") != SCHEMA:
        raise StateError(f"{str(path)!r} has schema {head.get('schema')!r}, not {SCHEMA!r}.")
    if not whole:
        raise StateError(f"{str(path)!r} was altered or damaged after it was written.")
    return tensors, head


def _digest(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, model: Gdkvm, head: Mapping[str, Any]) -> None:
    """``head``: anything worth knowing of how they were made; the configuration is added."""
    write(path, model.state_dict(), {**head, "config": model.config.as_json()})


def load(source: str | Path, config: GdkvmConfig | None = None) -> Gdkvm:
    """A network ready to use, from a file or by the name of shipped weights.

    ``config``: what the file must be of. Raises StateError for a file that is damaged or of
    another network, UsageError for a name nobody knows.
    """
    name = str(source)
    path = Path(source)
    if name in SHIPPED or ("/" not in name and not path.exists()):
        path = shipped(name)
    tensors, head = read(path)
    try:
        own = GdkvmConfig.from_json(head["config"])
    except (KeyError, TypeError) as error:
        raise StateError(f"{str(path)!r} does not say what network it is of.") from error
    if config is not None and own != config:
        raise StateError(f"{str(path)!r} holds weights of another network: {own.as_json()}.")
    model = Gdkvm(own)
    with torch.no_grad():
        own_state = model.state_dict()
        wrong = [k for k, v in own_state.items() if k not in tensors or tensors[k].shape != v.shape]
        if wrong or len(tensors) != len(own_state):
            raise StateError(
                f"{str(path)!r} does not fit its own description ({len(wrong)} wrong)."
            )
        model.load_state_dict(tensors)
    return model.eval()


def take_over(model: Gdkvm, path: Path) -> None:
    """Start ``model`` from the weights in ``path``, which may be of more structures: each object is
    found by its name, and codes of places that the file does not know begin at zero. Raises
    StateError when the networks differ in anything else."""
    tensors, head = read(path)
    theirs = GdkvmConfig.from_json({"placed_keys": False, **head.get("config", {})})
    own = model.state_dict()
    missing = [name for name in model.config.objects if name not in theirs.objects]
    if missing:
        raise StateError(f"{str(path)!r} knows no {', '.join(missing)}.")
    rows = [theirs.objects.index(name) for name in model.config.objects]
    tensors["object"] = tensors["object"][rows]
    if "to_place.weight" in own:
        tensors.setdefault("to_place.weight", torch.zeros_like(own["to_place.weight"]))
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in own.items()}:
        raise StateError(f"{str(path)!r} holds weights of another network: {theirs.as_json()}.")
    model.load_state_dict(tensors)


def shipped(name: str) -> Path:
    """Where the weights called ``name`` lie in the package."""
    if name not in SHIPPED:
        raise UsageError(
            f"There are no weights called {name!r}, and no such file.", hint=nearest(name, SHIPPED)
        )
    return Path(__file__).parent / "shipped" / SHIPPED[name]
