"""Numbers from public reference code, kept beside the repository where somebody has them."""

from __future__ import annotations

from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """The file ``name`` of that folder, e.g. ``golden/kpff.npz``; skips the test where it is
    absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data" / name
    if not path.is_file():
        pytest.skip(f"{name} is not here")
    return path
