"""What the engine ``ray`` runs on the other side: one actor, one thread, one item after the other.

Does not import Ray, and passes bytes of JSON alone, so that nothing of a batch is ever a pickle.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import socket
import sys
import uuid
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import msgspec

import retain
from retain.apps.batch.engine import Spec
from retain.apps.batch.fingerprint import fingerprint
from retain.apps.batch.work import serve

_PR_SET_PDEATHSIG = 1


class Place(msgspec.Struct, frozen=True):
    """Where the command runs, and what has to be the same where a worker does."""

    cwd: str
    """Paths of jobs may be relative to it."""
    token: str
    """A file in the folder of the results."""
    version: str
    mark: str
    """Fingerprint of code, packages, options and the files that these name."""


class Greeting(msgspec.Struct, frozen=True):
    """What a worker found on its host."""

    host: str
    version: str
    mark: str
    answer: str
    """The file it wrote beside the token, to be seen by the command; empty: it saw no token."""


def mark_of(spec: Spec) -> str:
    """Fingerprint of what a worker would do here."""
    return fingerprint(spec.target, spec.options.get("set", {}))


class RayWorker:
    """``spec``: JSON of a Spec. ``one``: environment that keeps libraries on one thread."""

    def __init__(self, spec: bytes, one: dict[str, str]) -> None:
        os.environ |= one  # before anything that reads it is imported
        faulthandler.enable()
        if sys.platform == "linux":  # nobody goes on with an item once Ray is gone from this host
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._spec = spec

    def begin(self, place: bytes) -> bytes:
        """Import the Target and look around: JSON of a Greeting. Raises what the import raises."""
        there = msgspec.json.decode(place, type=Place)
        with suppress(OSError):  # where it is missing and matters, there is no token either
            os.chdir(there.cwd)
        sys.path[:] = [path for path in sys.path if path not in ("", there.cwd)]  # Ray adds it
        serve(BytesIO(self._spec + b"\n"), BytesIO())
        answer = ""
        with suppress(OSError):
            said = Path(there.token).read_bytes()
            answer = f"{there.token}.{uuid.uuid4().hex}"
            Path(answer).write_bytes(said[::-1])
        spec = msgspec.json.decode(self._spec, type=Spec)
        found = Greeting(socket.gethostname(), retain.__version__, mark_of(spec), answer)
        return msgspec.json.encode(found)

    def do(self, job: bytes) -> bytes:
        """JSON of a Job in, of its Outcome out; as any worker of a batch does it."""
        answers = BytesIO()
        serve(BytesIO(self._spec + b"\n" + job + b"\n"), answers)
        return answers.getvalue().splitlines()[-1]
