"""Reads the pickles in which others publish annotations, without letting them run anything.

A pickle is a program. This reader obeys only what builds plain containers and NumPy arrays of
numbers; any other name in the file is refused before it is looked up. Nothing is ever written so.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from retain.pipeline.errors import SourceError, SourceFault

MOST_BYTES = 1 << 30


class _Refused(Exception):
    """A name that a file of numbers does not need."""


def _latin1(text: str, encoding: str) -> bytes:
    """What ``_codecs.encode`` does in a pickle of protocol 2: bytes, written as text."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the codec {encoding!r}")
    return text.encode("latin1")


class _Reader(pickle._Unpickler):
    """Unpickler that knows NumPy's arrays and scalars and nothing else.

    The one written in Python: the one in C sets aside as much memory as a number in the file says.
    """

    def find_class(self, module: str, name: str) -> Any:
        where = module.replace("numpy.core", "numpy._core")
        try:
            return _known()[where, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a reference to something outside the file")


def _known() -> dict[tuple[str, str], Any]:
    from numpy._core.multiarray import _reconstruct, scalar  # type: ignore[attr-defined]
    from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined]

    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy._core.numeric", "_frombuffer"): _frombuffer,
        ("_codecs", "encode"): _latin1,
    }


def read_pickle(path: str | Path) -> Any:
    """Dicts, lists, tuples, text, numbers and NumPy arrays of the file at ``path``.

    Raises SourceError when the file is not there, too large, damaged, no pickle, or holds anything
    else: that is refused, and nothing of it is run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise SourceError(
                SourceFault.TOO_LARGE,
                f"{str(path)!r} has {size} bytes; annotations have less than {MOST_BYTES}.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(
            SourceFault.NOT_FOUND, f"{str(path)!r} cannot be read: {error.strerror}."
        ) from error
    try:
        return _Reader(io.BytesIO(data), encoding="latin1").load()
    except _Refused as error:
        raise SourceError(
            SourceFault.REFUSED,
            f"{str(path)!r} asks for {error}, which numbers do not need; nothing of it was run.",
            hint="Get the file again from the people who publish it.",
        ) from None
    except Exception as error:  # a damaged pickle raises almost anything
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} is damaged or is no pickle ({type(error).__name__}).",
            hint="Get the file again.",
        ) from error
