"""A worker: one thread, one item after the other, told on standard input, answered by lines.

Run as ``python -m retain.apps.batch.work``. The first line is a Spec, every other one a Job; each
answer is an Outcome, but the first, READY.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from retain.apps.batch.engine import NO_SPACE, ItemError, Job, Outcome, Spec, State
from retain.apps.batch.items import ABSENT, look
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError, no_space

READY = b"ready"
"""Said once the Target is there: who dies before has nothing to do with an item."""
_PR_SET_PDEATHSIG = 1
_TRANSIENT = (SourceFault.TIMEOUT, SourceFault.REFUSED, SourceFault.STALLED)
_NO_GOOD = {"vanished", "usage", *SourceFault} - {*_TRANSIENT}

Target = Callable[[Job, dict[str, Any]], dict[str, Any]]


def do(target: Target, job: Job, options: dict[str, Any]) -> Outcome:
    """One item; never raises what an item may cause. Leaves ``job.folder`` only when it is done."""
    began = time.perf_counter()
    facts: dict[str, Any] = {}
    cause = message = ""
    try:
        facts = target(job, options)
    except ItemError as error:
        cause, message = error.cause, str(error)
    except SourceError as error:
        cause, message = error.fault.value, str(error)
    except UsageError as error:
        cause, message = "usage", str(error)
    except RetainError as error:
        code = getattr(error, "code", "error")  # NodeError's
        cause, message = NO_SPACE if no_space(error) else named(code), str(error)
    except MemoryError as error:
        traceback.print_exc()
        cause, message = "died", f"The memory ran out. {error}".strip()
    except Exception as error:
        traceback.print_exc()
        cause = NO_SPACE if no_space(error) else "defect"
        message = f"{type(error).__name__}: {error}"
    if cause != NO_SPACE:
        cause, message = _seen(job, cause, message)
    if cause:
        shutil.rmtree(job.folder, ignore_errors=True)
        bad = cause in _NO_GOOD
        state: State = "quarantined" if bad else "failed"
    else:
        _sync(Path(job.folder))
        state = "done"
    return Outcome(
        job.id, state, cause, message, round(time.perf_counter() - began, 3), _peak(), facts
    )  # fmt: skip


def named(code: str) -> str:
    """The cause that a Fault's ``code`` is: a source's and the caller's own stand for themselves,
    a node that gave up on purpose had nothing to show, and the rest are bugs."""
    if code in (*SourceFault, "usage", NO_SPACE):
        return code
    return "no_result" if code == "error" else "defect"


def _seen(job: Job, cause: str, message: str) -> tuple[str, str]:
    """The cause, once more with a look at the file: it may have gone or changed on the way."""
    if job.size == ABSENT:
        return cause, message
    now = look(job.path)
    if cause and now[0] == ABSENT:
        return "vanished", f"{job.path!r} was there when the batch began, and is gone."
    if now[0] != ABSENT and now != (job.size, job.mtime_ns):
        return "changed", f"{job.path!r} was written to while the batch ran."
    return cause, message


def _sync(folder: Path) -> None:
    """To the disk, before anybody says that it is there."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _peak() -> int:
    """Bytes this process has held at most. Not ru_maxrss, where the parent's count too."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))


@contextmanager
def _logged(path: str) -> Iterator[None]:
    """Everything said goes to ``path``."""
    with open(path, "wb", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def serve(jobs: BinaryIO, answers: BinaryIO) -> None:
    """Until there are no more jobs."""
    spec = msgspec.json.decode(jobs.readline(), type=Spec)
    module, _, name = spec.target.partition(":")
    target: Target = getattr(importlib.import_module(module), name)
    answers.write(READY + b"\n")
    answers.flush()
    for number, line in enumerate(jobs):
        job = msgspec.json.decode(line, type=Job)
        try:
            with _logged(job.log):
                outcome = do(target, job, spec.options)
            if outcome.state == "done" or not os.path.getsize(job.log):
                os.unlink(job.log)
        except OSError as error:  # of the folder of the batch, not of the item
            cause = NO_SPACE if no_space(error) else "defect"
            outcome = Outcome(job.id, "failed", cause, f"{type(error).__name__}: {error}")
        answers.write(msgspec.json.encode(outcome) + b"\n")
        answers.flush()
        gc.collect()  # an item may leave pictures behind in cycles, a failed one most of all
        if not number:
            gc.freeze()  # modules and weights: they stay, and need not be looked at each time


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # They are for the parent, which lets an item end; some services send them to everybody.
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
    faulthandler.enable()
    with os.fdopen(os.dup(1), "wb") as answers, os.fdopen(os.dup(0), "rb") as jobs:
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        os.dup2(2, 1)  # what a task prints is no answer
        serve(jobs, answers)


if __name__ == "__main__":
    main()
