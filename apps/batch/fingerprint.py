"""What the results of an item depend on beside the item: options, weights, code."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import retain

_FOLDERS = ("apps", "datasets", "kernels", "memory", "models", "pipeline")
_PACKAGES = ("torch", "torchvision", "numpy", "scipy", "av", "opencv-python-headless")


def fingerprint(task: str, options: Mapping[str, Any]) -> str:
    """16 hex digits. Covers the options, the content of every file they name, the code and the
    shipped weights of this package, and the versions of the packages that compute."""
    files = {
        str(value): _digest_file(Path(value))
        for value in options.values()
        if isinstance(value, str) and value and Path(value).is_file()
    }
    what = [task, sorted(options.items()), files, code(), _versions()]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


@cache
def code() -> str:
    """Digest of this package: its version, Python files and weights."""
    digest = hashlib.sha256(retain.__version__.encode())
    for path in _own_files():
        digest.update(f"{path.name}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _own_files() -> Iterator[Path]:
    home = Path(retain.__file__).parent
    for name in _FOLDERS:
        folder = (home / name).resolve()  # in a checkout these are links
        for ending in ("*.py", "*.safetensors"):
            yield from sorted(folder.rglob(ending))


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
