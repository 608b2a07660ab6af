"""Files that come inside installed packages, found without importing them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path


def find_file(package: str, ending: str) -> Path | None:
    """The first file of ``package`` whose path ends so; None when it is not installed."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if str(file).endswith(ending):
            path = Path(str(file.locate()))
            return path if path.is_file() else None
    return None
