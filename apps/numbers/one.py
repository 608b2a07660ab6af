"""`python -m retain.apps.numbers.one NAME FILE [--quick]`: one benchmark, what it found in FILE."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from retain.apps.bench import area, load
from retain.apps.numbers import records
from retain.pipeline.errors import RetainError


def measure(name: str, quick: bool = False) -> records.Measured:
    """What fails is told in one line; where it failed goes to stderr."""
    at, before, began = records.now(), records.load(), time.monotonic()
    spent = os.times()
    failed, rows = "", ()
    try:
        rows = tuple(load(name).measure(quick=quick))
    except Exception as error:
        traceback.print_exc()
        failed = _why(error)
    return records.Measured(
        area=area(name),
        at=at,
        rows=rows,
        failed=failed,
        seconds=round(time.monotonic() - began, 1),
        cpu_s=round(sum(os.times()[:4]) - sum(spent[:4]), 1),
        load=(before, records.load()),
        quick=quick,
    )


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed (`make bench` installs all peers)"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode()
        return f"a process it started says: {said.strip().splitlines()[-1]}"
    first = (str(error).strip() or "no message").splitlines()[0]
    return first if isinstance(error, RetainError) else f"{type(error).__name__}: {first}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    name, out, *rest = sys.argv[1:]
    try:
        records.write(measure(name, "--quick" in rest), Path(out))
    except KeyboardInterrupt:
        sys.exit(130)
