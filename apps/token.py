"""The token of a page that other hosts can reach, for the commands that ask it something."""

from __future__ import annotations

from pathlib import Path

from retain.pipeline.sources.credentials import secret_in


def bearer(file: Path | None) -> dict[str, str]:
    """The headers for a page whose token is in ``file``. Raises UsageError."""
    if file is None:
        return {}
    return {"Authorization": f"Bearer {secret_in(file.expanduser().absolute())}"}
