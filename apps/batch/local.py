"""The engine ``local``: a pool of processes on this machine, as many as cores and memory allow."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

import retain
from retain.apps.batch.engine import Job, Outcome, Spec
from retain.apps.batch.work import READY
from retain.pipeline.errors import RetainError

CGROUP = Path("/sys/fs/cgroup")
RESERVE = 0.1
"""Share of the memory that is left to others."""
FIRST_GUESS = 1 << 30
"""Bytes a worker is thought to need before one has shown what it does."""
STILLBORN = 3
"""Workers in a row that cannot even begin, after which it is not the items."""
_START_S = 60.0
"""What a worker may take to begin, which no item is charged for."""
_TICK_S = 0.2
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "OPENCV_FOR_THREADS_NUM",
)
"""What a worker has set to 1: an item is one thread's work, and so the same bits everywhere."""


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """(bytes free, bytes in all) of this machine, or of the container that limits it."""
    machine = psutil.virtual_memory()
    free, total = machine.available, machine.total
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        told = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        used -= int(told["inactive_file"])  # of files that were read: given back when asked for
    except (OSError, ValueError, KeyError):
        return free, total
    if limit != "max":
        total = min(total, int(limit))
        free = min(free, int(limit) - used)
    return free, total


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    job: Job | None = None
    began: float = 0.0
    late: bool = False
    ready: bool = False
    unread: bytearray = field(default_factory=bytearray)


class LocalEngine:
    """``jobs``: workers at most (0: as many as cores). ``timeout_s``: for one item; 0: none."""

    def __init__(self, spec: Spec, *, jobs: int = 0, timeout_s: float = 0.0) -> None:
        self._spec, self._most, self._timeout_s = spec, jobs or cores(), timeout_s
        self._pool: list[_Worker] = []
        self._need = FIRST_GUESS
        self._again: list[Job] = []
        """Jobs whose worker ended before it could begin."""
        self._stopped: bool = False
        self._dropped: bool = False
        self._stillborn = 0
        """Workers in a row that ended before they could begin."""

    @property
    def workers(self) -> int:
        return sum(worker.job is not None for worker in self._pool)

    @property
    def need(self) -> int:
        """Bytes one worker takes, as far as that is known."""
        return self._need

    def stop(self, drain: bool) -> None:
        self._stopped = True
        if not drain:
            self._dropped = True
            for worker in self._pool:
                _kill(worker)

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        """Raises RetainError when workers cannot begin, whatever the item."""
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    while not self._stopped and self._hand_out(jobs, selector):
                        pass
                    if self._dropped or not self.workers:
                        return
                    yield from self._wait(selector, jobs)
            finally:
                for worker in self._pool:
                    _kill(worker)
                    _bury(worker)
                self._pool.clear()

    def _hand_out(self, jobs: Iterator[Job], selector: selectors.BaseSelector) -> bool:
        """One job to a worker that has none; False where there is no room or no job."""
        free = next((worker for worker in self._pool if worker.job is None), None)
        if free is None:
            if len(self._pool) >= self._most or (self._pool and not self._fits_one_more()):
                return False
        elif self.workers and not _room(0):
            return False
        job = self._again.pop() if self._again else next(jobs, None)
        if job is None:
            return False
        if free is None:
            free = self._start(selector)
        free.job, free.began, free.late = job, time.monotonic(), False
        assert free.process.stdin
        with suppress(BrokenPipeError):  # it has died: that is noticed by the end of its answers
            free.process.stdin.write(msgspec.json.encode(job) + b"\n")
            free.process.stdin.flush()
        return True

    def _fits_one_more(self) -> bool:
        """Whether another worker fits, once those that are there have grown to what one takes."""
        growth = sum(max(self._need - _held(worker), 0) for worker in self._pool)
        return _room(self._need + growth)

    def _start(self, selector: selectors.BaseSelector) -> _Worker:
        one = dict.fromkeys(THREADS, "1")
        home = str(Path(retain.__file__).parents[1])
        path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "retain.apps.batch.work", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in a terminal is for the parent alone
        )
        worker = _Worker(process)
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(self._spec) + b"\n")
        selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._pool.append(worker)
        return worker

    def _wait(self, selector: selectors.BaseSelector, jobs: Iterator[Job]) -> list[Outcome]:
        """What has ended meanwhile. Who is free has the next job before anybody looks at it."""
        ended = []
        for key, _ in selector.select(_TICK_S):
            worker: _Worker = key.data
            data = os.read(key.fd, 1 << 16)
            if not data:
                selector.unregister(key.fileobj)
                self._pool.remove(worker)
                ended += self._died(worker)
            worker.unread += data
            *lines, rest = worker.unread.split(b"\n")
            worker.unread = bytearray(rest)
            for line in lines:
                if line == READY:
                    worker.ready, worker.began, self._stillborn = True, time.monotonic(), 0
                    continue
                outcome = msgspec.json.decode(line, type=Outcome)
                worker.job = None
                if self._need == FIRST_GUESS:
                    self._need = 0
                self._need = max(self._need, outcome.peak_bytes)
                ended.append(outcome)
        if self._timeout_s:
            for worker in self._pool:
                allowed = self._timeout_s + (0.0 if worker.ready else _START_S)
                if worker.job and time.monotonic() - worker.began > allowed:
                    worker.late = True
                    _kill(worker)
        while not self._stopped and self._hand_out(jobs, selector):
            pass
        return ended

    def _died(self, worker: _Worker) -> list[Outcome]:
        code = _bury(worker)
        job, seconds = worker.job, round(time.monotonic() - worker.began, 3)
        if job is None or self._dropped:
            return []
        if not worker.ready and not worker.late:
            self._again.append(job)
            self._stillborn += 1
            if self._stillborn == STILLBORN:
                raise RetainError(
                    f"{STILLBORN} workers in a row ended before they could begin.",
                    hint="What they said is above; the same command goes on.",
                )
            return []
        if worker.late:
            text = f"It was not done within {self._timeout_s:g} s (--timeout)."
            return [Outcome(job.id, "failed", "timeout", text, seconds)]
        text = f"The process that did it ended with code {code}; its log may say more."
        if code < 0:
            name = signal.Signals(-code).name
            text = f"The process that did it was ended by {name}."
            if name == "SIGKILL":
                text += " Where nobody did that, the memory ran out: try --jobs 1."
        return [Outcome(job.id, "failed", "died", text, seconds)]


def _room(nbytes: int) -> bool:
    """Whether so much more fits."""
    free, total = memory()
    return free - nbytes >= RESERVE * total


def _held(worker: _Worker) -> int:
    """Bytes it takes now."""
    try:
        return int(psutil.Process(worker.process.pid).memory_info().rss)
    except psutil.Error:
        return 0


def _kill(worker: _Worker) -> None:
    """It and whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.process.pid, signal.SIGKILL)


def _bury(worker: _Worker) -> int:
    for pipe in (worker.process.stdin, worker.process.stdout):
        assert pipe
        with suppress(BrokenPipeError):
            pipe.close()
    return worker.process.wait()
