"""Reads the pickles in which others publish annotations, without letting them run anything.

A pickle is a program. This reader obeys only what builds plain containers and NumPy arrays of
numbers; any other name in the file is refused before it is looked up. Nothing is ever written so.
"""

from __future__ import annotations

import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from retain.pipeline.errors import SourceError, SourceFault

MOST_BYTES = 1 << 30


class _Refused(Exception):
    """A name that a file of numbers does not need."""


def _latin1(text: str, encoding: str) -> bytes:
    """What ``_codecs.encode`` does in a pickle of protocol 2: bytes, written as text."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"the codec {encoding!r}")
    return text.encode("latin1")


@dataclass
class _Kind:
    """Stands for a NumPy type of numbers while the file is read. The type itself is never handed to
    the file: it takes a state that would let it pass bytes off as addresses of objects."""

    dtype: np.dtype[Any]

    def order(self, state: Any) -> None:
        """Take the byte order, the only part of a type's state that numbers have."""
        if not isinstance(state, tuple) or any(part is not None for part in state[2:5]):
            raise _Refused("a type of more than one number")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Arrays:
    """Stands for the class of arrays, which the file names and has no use for."""


def _kind(code: str, *_: Any) -> _Kind:
    if not re.fullmatch(r"[biuf][1248]", code):
        raise _Refused(f"values of type {code!r}")
    return _Kind(np.dtype(code))


def _new(*_: Any) -> NDArray[Any]:
    """An array that its state will fill."""
    return np.empty(0, np.int8)


def _from_bytes(data: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def _one(kind: _Kind, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype, 1)[0]


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Arrays(),
    ("numpy", "dtype"): _kind,
    ("numpy._core.multiarray", "_reconstruct"): _new,
    ("numpy._core.multiarray", "scalar"): _one,
    ("numpy._core.numeric", "_frombuffer"): _from_bytes,
    ("_codecs", "encode"): _latin1,
}


class _Reader(pickle._Unpickler):
    """Unpickler that knows NumPy's arrays and scalars of numbers and nothing else.

    The one written in Python: the one in C sets aside as much memory as a number in the file says.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        where = module.replace("numpy.core", "numpy._core")
        try:
            return _KNOWN[where, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a reference to something outside the file")

    def load_build(self) -> None:
        """Give the object on the stack its state, where it is one that has any."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, _Kind):
            made.order(state)
        elif isinstance(made, np.ndarray):
            version, shape, kind, fortran, data = state
            if not isinstance(kind, _Kind):
                raise _Refused("an array of no type")
            made.__setstate__((version, shape, kind.dtype, fortran, data))
        else:
            raise _Refused(f"a state for {type(made).__name__!r}")

    dispatch[pickle.BUILD[0]] = load_build


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
