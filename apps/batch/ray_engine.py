"""The engine ``ray``: actors of Ray, on this machine or a cluster, an item at a time each.

Actors and not Ray Data: results are to be published the moment an item ends, an item that takes
its worker with it is to cost nothing else, and both a late item and a whole batch can be dropped.
"""

from __future__ import annotations

import os
import secrets
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import retain
from retain.apps import console
from retain.apps.batch.engine import Job, Outcome, Spec
from retain.apps.batch.items import ABSENT, look
from retain.apps.batch.local import FIRST_GUESS, STILLBORN, THREADS, cores
from retain.apps.batch.ray_cluster import connected, request, room
from retain.apps.batch.ray_worker import Greeting, Place, RayWorker, mark_of
from retain.pipeline.errors import RetainError, UsageError

_TICK_S = 0.2
_LOOK_S = 1.0
"""Seconds for which a count of what the cluster has is good."""
_WAIT_S = 30.0
"""After so long without a worker somebody wants to know why."""


@dataclass
class _Worker:
    actor: Any
    doing: Any
    """Reference of what it was asked last."""
    began: float
    ready: bool = False
    job: Job | None = None
    late: bool = False


class RayEngine:
    """``jobs``: workers at most (0: as many as there is room for). ``timeout_s``: for one item, 0:
    none. ``address``: HOST:PORT of a Ray or ``auto``; empty: one of our own. ``gpus``: share of a
    GPU that a worker takes.

    A job is taken when a worker is free for it or starts for it. When the engine is stopped, jobs
    whose worker has not started have no outcome.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        jobs: int = 0,
        timeout_s: float = 0.0,
        address: str = "",
        gpus: float = 0.0,
    ) -> None:
        self._spec, self._timeout_s = spec, timeout_s
        self._address, self._gpus, self._jobs = address, gpus, jobs
        self._pool: list[_Worker] = []
        self._waiting: deque[Job] = deque()
        """Taken for workers that start; the first that is free does the first."""
        self._need = FIRST_GUESS
        self._counted = (-_LOOK_S, 0)
        self._stopped: bool = False
        self._dropped: bool = False
        self._stillborn = 0
        self._told = False
        self._place: Place | None = None
        self._ray: Any = None
        self._actor: Any = None

    @property
    def workers(self) -> int:
        return sum(worker.job is not None for worker in self._pool)

    def stop(self, drain: bool) -> None:
        self._stopped = True
        self._dropped = self._dropped or not drain

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        """Raises UsageError when Ray cannot be used, or its workers see other files or other code
        than this command; RetainError when workers cannot begin, whatever the item."""
        with connected(self._address, self._jobs or cores()) as self._ray:
            try:
                self._check_gpus()
                self._actor = self._ray.remote(RayWorker)
                while not self._dropped:
                    self._hand_out(jobs)
                    if not self.workers and (self._stopped or not self._waiting):
                        return
                    yield from self._wait(jobs)
            except self._ray.exceptions.RayError as error:
                raise RetainError(
                    f"Ray itself failed: {error}", hint="The same command goes on."
                ) from error
            finally:
                self._end()

    def _end(self) -> None:
        for worker in self._pool:
            self._ray.kill(worker.actor)
        self._pool.clear()
        self._waiting.clear()
        if self._place:
            Path(self._place.token).unlink(missing_ok=True)
            self._place = None

    def _check_gpus(self) -> None:
        if self._gpus and not self._address and not room(self._ray, 1, self._gpus):
            raise UsageError(
                f"No GPU for --gpus {self._gpus:g}: Ray finds none on this machine.",
                hint="Leave --gpus out; workers then share what torch finds.",
            )

    def _most(self) -> int:
        """Workers there may be now. One may always, were it to wait until a cluster has room."""
        when, count = self._counted
        if time.monotonic() - when >= _LOOK_S:
            count = room(self._ray, self._need, self._gpus)
            self._counted = (time.monotonic(), count)
        return max(1, min(count, self._jobs or count))

    def _hand_out(self, jobs: Iterator[Job]) -> None:
        """Jobs to workers that have none, and workers for more jobs, as far as there is room."""
        if self._stopped:
            return
        most = self._most()
        for worker in self._pool:
            if worker.ready and worker.job is None and self.workers < most:
                if not self._waiting and not self._take(jobs):
                    break
                self._give(worker, self._waiting.popleft())
        starting = [worker for worker in self._pool if not worker.ready]
        while len(self._waiting) < len(starting) and self._take(jobs):
            pass
        for worker in starting[len(self._waiting) :]:  # others were faster, and that was all
            self._drop(worker)
        count = min(len(starting), len(self._waiting))
        while count < len(self._waiting) or (len(self._pool) < most and self._take(jobs)):
            self._start(self._waiting[0])
            count += 1

    def _take(self, jobs: Iterator[Job]) -> bool:
        job = next(jobs, None)
        if job:
            self._waiting.append(job)
        return job is not None

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.began, worker.late = job, time.monotonic(), False
        worker.doing = worker.actor.do.remote(msgspec.json.encode(job))

    def _start(self, job: Job) -> None:
        """A worker more. ``job``: any; its folder tells where the results are to be."""
        if self._place is None:
            token = Path(job.folder).parent / f"token-{secrets.token_hex(8)}"
            token.write_text(secrets.token_hex(32))
            mark = mark_of(self._spec)
            self._place = Place(os.getcwd(), str(token), retain.__version__, mark)
        asked = request(self._ray, self._need, self._gpus)
        one = dict.fromkeys(THREADS, "1")
        actor = self._actor.options(**asked).remote(msgspec.json.encode(self._spec), one)
        begun = actor.begin.remote(msgspec.json.encode(self._place))
        self._pool.append(_Worker(actor, begun, time.monotonic()))

    def _drop(self, worker: _Worker) -> None:
        self._ray.kill(worker.actor)
        self._pool.remove(worker)

    def _wait(self, jobs: Iterator[Job]) -> list[Outcome]:
        """What has ended meanwhile. Who is free has the next job before anybody looks at it."""
        asked = {w.doing: w for w in self._pool if w.job or not w.ready}
        done, _ = self._ray.wait([*asked], timeout=_TICK_S)
        ended = []
        for reference in done:
            worker = asked[reference]
            try:
                said: bytes = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                ended += self._died(worker, error)
                continue
            if worker.ready:
                ended.append(self._outcome(worker, said))
                if worker.late:  # done in the very moment it was given up
                    self._drop(worker)
            else:
                self._greet(worker, msgspec.json.decode(said, type=Greeting))
        now = time.monotonic()
        for worker in self._pool:
            late = worker.job and self._timeout_s and now - worker.began > self._timeout_s
            if late and not worker.late:
                worker.late = True
                self._ray.kill(worker.actor)
        self._tell(now)
        self._hand_out(jobs)
        return ended

    def _outcome(self, worker: _Worker, said: bytes) -> Outcome:
        outcome, job = msgspec.json.decode(said, type=Outcome), worker.job
        assert job
        worker.job = None
        need = 0 if self._need == FIRST_GUESS else self._need
        self._need = max(need, outcome.peak_bytes)
        if self._address and outcome.cause == "vanished" and look(job.path)[0] != ABSENT:
            raise UsageError(
                f"{job.path!r} is here, but not where a worker of Ray runs.",
                hint="Put the items on storage that every host has at the same path, "
                "or name them by address.",
            )
        return outcome

    def _greet(self, worker: _Worker, greeting: Greeting) -> None:
        """A worker has begun. Raises UsageError when it is no place for this batch."""
        worker.ready, self._stillborn = True, 0
        assert self._place
        token, answer = Path(self._place.token), Path(greeting.answer)
        seen = greeting.answer and answer.exists()
        if not seen or answer.read_text()[::-1] != token.read_text():
            raise UsageError(
                f"The folder {str(token.parent)!r} is not the same on {greeting.host!r}, "
                "where a worker of Ray runs.",
                hint="Choose --out on storage that every host has at the same path.",
            )
        answer.unlink()
        if (greeting.version, greeting.mark) != (self._place.version, self._place.mark):
            raise UsageError(
                f"{greeting.host!r}, where a worker of Ray runs, has retain {greeting.version} or "
                f"code, packages or files of options that are not those of this command "
                f"(retain {retain.__version__}).",
                hint="Run the command and the workers from one image.",
            )

    def _died(self, worker: _Worker, error: Exception) -> list[Outcome]:
        self._drop(worker)
        job, seconds = worker.job, round(time.monotonic() - worker.began, 3)
        if not worker.ready:
            self._unborn(str(error))
            return []
        assert job
        if worker.late:
            text = f"It was not done within {self._timeout_s:g} s (--timeout)."
            return [Outcome(job.id, "failed", "timeout", text, seconds)]
        text = f"The worker of Ray that did it is gone: {_why(error)} Its log may say more."
        return [Outcome(job.id, "failed", "died", text, seconds)]

    def _unborn(self, said: str) -> None:
        if "No module named 'retain" in said:
            raise UsageError(
                "A host of this Ray has no retain, or another one.",
                hint=f"Install retain {retain.__version__} on every host: docs/cluster.md.",
            )
        self._stillborn += 1
        if self._stillborn == STILLBORN:
            last = said.strip().rpartition("\n")[2].strip()
            raise RetainError(
                f"{STILLBORN} workers of Ray in a row ended before they could begin: {last}",
                hint="The same command goes on.",
            )

    def _tell(self, now: float) -> None:
        idle = self._pool and not any(worker.ready for worker in self._pool)
        if idle and not self._told and now - self._pool[0].began > _WAIT_S:
            self._told = True
            share = f" and {self._gpus:g} GPU" if self._gpus else ""
            console.messages().print(f"Ray has no room for a worker yet (1 core{share}); waiting.")


def _why(error: Exception) -> str:
    """What Ray knows of what happened to the process, in a sentence."""
    text = " ".join(str(error).split())
    if "connection error code" in text:
        return "it crashed, was killed, or the memory ran out."
    if "temporarily unavailable" in text:
        return "its host does not answer."
    found = text.partition("Worker exit detail: ")[2] or text
    return found.partition(". ")[0].rstrip(".")[:300] + "."
