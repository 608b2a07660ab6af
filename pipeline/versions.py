"""Versions of what is kept in files: a schema is written as ``retain-graph/2``."""

from __future__ import annotations

import re

import retain
from retain.pipeline.errors import StateError


def version_of(schema: object, family: str) -> int:
    """The number in a schema of ``family``; 0 where it is none of that.

    >>> version_of("retain-graph/2", "retain-graph"), version_of("weights/2", "retain-graph")
    (2, 0)
    """
    found = (
        re.fullmatch(r"([a-z-]+)/([1-9][0-9]{0,3})", schema) if isinstance(schema, str) else None
    )
    return int(found[2]) if found and found[1] == family else 0


def refuse_newer(what: str, version: int, known: int, by: object = None) -> None:
    """Raises StateError when ``version`` is above the ``known`` one, which says which retain is
    needed: ``by``, which wrote it."""
    if version > known:
        wrote = by if isinstance(by, str) and re.fullmatch(r"[\w.+-]{1,40}", by) else ""
        need = f"retain {wrote}, which wrote it, or later" if wrote else "a later retain"
        raise StateError(
            f"{what} of version {version}; retain {retain.__version__} reads up to {known}.",
            hint=f"It needs {need}.",
        )
