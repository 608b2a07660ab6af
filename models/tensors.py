"""Named tensors on disk: safetensors with a JSON header and a checksum over both; and where the
files lie that come with the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retain.pipeline.errors import StateError, UsageError, nearest
from retain.pipeline.files import write_whole


def write(path: Path, tensors: Mapping[str, Tensor], head: Mapping[str, Any], schema: str) -> None:
    """Atomically: whoever reads ``path`` sees the old file or the whole new one. ``head``: JSON."""
    from safetensors.torch import save

    own = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    head = {**head, "schema": schema}
    blob = save(own, {"retain": json.dumps({**head, "sha256": _digest(own, head)}, sort_keys=True)})
    write_whole(path, blob)


def read(path: Path, schema: str, hint: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header. Raises UsageError where there is no file, StateError when it is not one
    of ``schema``, whole; ``hint`` says how to get one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            head = json.loads((file.metadata() or {})["retain"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        whole = head.pop("sha256", None) == _digest(tensors, head)
    except FileNotFoundError:
        raise UsageError(f"There is no file {str(path)!r}.", hint=hint) from None
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as error:
        raise StateError(
            f"{str(path)!r} is not a file of ours, or is damaged ({type(error).__name__}).",
            hint=hint,
        ) from error
    if head.get("schema") != schema:
        raise StateError(
            f"{str(path)!r} has schema {head.get('schema')!r}, not {schema!r}.", hint=hint
        )
    if not whole:
        raise StateError(f"{str(path)!r} was altered or damaged after it was written.", hint=hint)
    return tensors, head


def locate(source: str | Path, shipped: Mapping[str, Path]) -> Path:
    """The file that ``source`` names: one of ``shipped``, or its own. Raises UsageError for a name
    nobody knows; a path need not exist."""
    path, name = Path(source), str(source)
    if name in shipped:
        return shipped[name]
    if "/" not in name and not path.exists():
        raise UsageError(
            f"There are no weights called {name!r}, and no such file.", hint=nearest(name, shipped)
        )
    return path


def _digest(tensors: Mapping[str, Tensor], head: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
