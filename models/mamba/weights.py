"""Read-outs on disk: one safetensors file for a host, bound to its weights by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole

if TYPE_CHECKING:
    from retain.models.mamba.host import Host
    from retain.models.mamba.reading import Readout

SCHEMA = "retain-mamba/1"
SHIPPED = {"yolox-nano": "readout-yolox-nano.safetensors", "small": "readout-small.safetensors"}
"""Weights that come with the package, by name; see MODEL_CARD.md beside them."""


def write(path: Path, tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> None:
    """Atomically, with a checksum over everything."""
    from safetensors.torch import save as pack

    own = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    head = {"schema": SCHEMA, **head}
    blob = pack(own, {"retain": json.dumps({**head, "sha256": _digest(own, head)}, sort_keys=True)})
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
            f"{str(path)!r} is not a read-out of ours, or is damaged ({type(error).__name__}).",
            hint="`retain train mamba` writes such files.",
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


def save(path: Path, readouts: Mapping[str, Readout], host: Host, head: Mapping[str, Any]) -> None:
    """``readouts`` by kind (train.KINDS). ``head``: what is worth knowing of how they were made."""
    tensors = {f"{kind}/{k}": v for kind, r in readouts.items() for k, v in r.state_dict().items()}
    configs = {kind: r.config.as_json() for kind, r in readouts.items()}
    write(path, tensors, {**head, "host": host.digest, "configs": configs})


def load_readout(source: str | Path, host: Host, kind: str = "gated") -> Readout:
    """A read-out ready to use, from a file or by the name of shipped weights.

    kind  ``gated``, ``paper`` or ``control``, as far as the file holds them

    Raises StateError for a file that is damaged or for another host, UsageError for a name nobody
    knows or a kind the file does not hold.
    """
    path = locate(source)
    tensors, head = read(path)
    if head.get("host") != host.digest:
        raise StateError(
            f"{str(path)!r} was trained for another detector: its rows mean nothing to this one.",
            hint="Train one with `retain train mamba OUT --host …`.",
        )
    configs = head.get("configs", {})
    if kind not in configs:
        raise UsageError(
            f"{str(path)!r} holds no read-out {kind!r}, but {', '.join(sorted(configs))}."
        )
    try:
        readout = _built(dict(configs[kind]))
        own = {
            k.removeprefix(f"{kind}/"): v for k, v in tensors.items() if k.startswith(f"{kind}/")
        }
        readout.load_state_dict(own)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise StateError(f"{str(path)!r} does not fit its own description.") from error
    return readout.eval().requires_grad_(False)


def _built(config: dict[str, Any]) -> Readout:
    from retain.models.mamba.gated import Gated, GatedConfig
    from retain.models.mamba.paper import Paper, PaperConfig

    kind = config.pop("kind")
    return Paper(PaperConfig(**config)) if kind == "paper" else Gated(GatedConfig(**config))


def kinds(source: str | Path) -> list[str]:
    """Which read-outs a file holds."""
    return sorted(read(locate(source))[1].get("configs", {}))


def shipped_for(host: Host) -> str | None:
    """The name of the shipped weights that fit ``host``, if any do."""
    for name in SHIPPED:
        path = _shipped(name)
        if path.is_file() and read(path)[1].get("host") == host.digest:
            return name
    return None


def locate(source: str | Path) -> Path:
    """The file that ``source`` names. Raises UsageError for a name nobody knows."""
    path, name = Path(source), str(source)
    if name in SHIPPED:
        return _shipped(name)
    if "/" not in name and not path.exists():
        raise UsageError(
            f"There are no weights called {name!r}, and no such file.", hint=nearest(name, SHIPPED)
        )
    return path


def _shipped(name: str) -> Path:
    return Path(__file__).parent / "shipped" / SHIPPED[name]
