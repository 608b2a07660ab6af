"""A worker's process as its parent sees it: how it starts, how it does, how it ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import psutil

from retain.pipeline.course import Last
from retain.pipeline.errors import UsageError
from retain.pipeline.runners.control import Report, Spec
from retain.pipeline.runners.supervisor import Supervision, complaint

MAX_DIRECTORY = 90
"""Characters: a socket file's name, directory included, may have 107."""
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Child:
    """One process of a node. Its successor is another Child."""

    def __init__(self, spec: Spec, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.started = monotonic()
        self.ledger = spec.open_ledger()
        self.report: Report | None = None
        self.met = False
        """Whether it has shown itself."""
        self.unheard: deque[msgspec.Struct] = deque()
        """What it is to be told then."""
        self.reason = ""
        """Why it had to be killed, or what it said before it ended."""
        stdin = _dup_stdin() if spec.role == "source" else None
        try:
            # Before there is a process: one that is told nothing would wait for ever.
            told = msgspec.json.encode(msgspec.structs.replace(spec, stdin=stdin))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "retain.pipeline.worker"],
                stdin=subprocess.PIPE,
                stdout=2,  # results are the caller's to print
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the parent alone
                pass_fds=() if stdin is None else (stdin,),
            )
        finally:
            if stdin is not None:
                os.close(stdin)
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it died at once: that is noticed by its exit code
            self.process.stdin.write(told + b"\n")
            self.process.stdin.flush()

    @property
    def done(self) -> bool:
        """The node's work is done; the process stays for those who still read its ring."""
        return self.report is not None and self.report.last

    def complaint(self, supervision: Supervision) -> str:
        beat, busy = self.ledger["beat"] / 1e9, self.ledger["busy"] / 1e9
        worked = self.ledger["finished"] > 0 or self.ledger["sent"] > 0
        return complaint(supervision, monotonic(), self.started, beat, busy, worked)

    def last_frame(self) -> Last | None:
        """Of a source: the last frame it or a predecessor gave."""
        return self.ledger.last() or self.spec.past.last

    def kill(self, reason: str = "") -> None:
        self.reason = self.reason or reason
        self.process.kill()

    def bury(self, patience_s: float) -> None:
        """See the process out; kill it when it takes longer."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience_s)
        self.process.kill()
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()

    def obituary(self) -> str:
        code = self.process.returncode
        how = f"ended by itself with exit code {code}"
        if code < 0:
            known = {number.value for number in signal.Signals}
            label = signal.Signals(-code).name if -code in known else "no name"
            how = f"was killed by signal {-code} ({label})"
        if self.reason:
            how = self.reason
        return f"The process of {self.spec.name!r} {how} before its work was done."


def environment(stages: int) -> dict[str, str]:
    """Modules are found as here; threads of the processes together match the cores."""
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, stages))
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {name: str(threads) for name in _THREAD_VARIABLES} | os.environ | {"PYTHONPATH": path}


def private_directory() -> str:
    """A new directory for socket files, readable by this user alone; those of dead parents go."""
    for old in Path(tempfile.gettempdir()).glob("retain-run-*"):
        found = re.fullmatch(r"retain-run-(\d+)-\w+", old.name)
        if found and old.stat().st_uid == os.getuid() and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(old, ignore_errors=True)
    made = tempfile.mkdtemp(prefix=f"retain-run-{os.getpid()}-")
    if len(made) > MAX_DIRECTORY:
        os.rmdir(made)
        raise UsageError(
            f"Socket files cannot have names as long as {made!r}.",
            hint="Set TMPDIR to a shorter path.",
        )
    return made


def _dup_stdin() -> int | None:
    """The caller's standard input under a number of its own; None when it has none."""
    try:
        return os.dup(0)
    except OSError:
        return None
