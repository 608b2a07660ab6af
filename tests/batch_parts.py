"""Targets of workers that do what a test wants of them, by the name of the item."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import signal
import time
import weakref
from pathlib import Path
from typing import Any

from retain.apps.batch.engine import Job
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError

TARGET = "batch_parts:obey"


class Loop:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


LOOPS: weakref.WeakSet[Loop] = weakref.WeakSet()


def obey(job: Job, options: dict[str, Any]) -> dict[str, Any]:
    """A file whose bytes follow from the item; or what the item's name begins with."""
    word = Path(job.path).name.partition("-")[0]
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "exit":
        os._exit(7)
    if word == "ended":  # as a service manager ends every process of a service
        os.kill(os.getpid(), signal.SIGTERM)
    if word == "hang":
        time.sleep(3600)
    if word == "bug":
        raise ValueError("a bug")
    if word == "refuse":
        raise RetainError("There is nothing to show.")
    if word == "wrong":
        raise UsageError("Not such an item.")
    if word == "full":
        raise RetainError("Nothing could be written.") from OSError(errno.ENOSPC, "No space left")
    if word == "broken":
        (Path(job.folder) / "half").mkdir(parents=True)
        raise SourceError(SourceFault.BROKEN, "It is cut.")
    if word in ("denied", "stalled"):
        raise SourceError(SourceFault(word), "It cannot be read.")
    if word == "vanish":
        os.unlink(job.path)
        raise SourceError(SourceFault.NOT_FOUND, "It is not there.")
    if word == "grow":
        with open(job.path, "ab") as file:
            file.write(b"more")
    alive = len(LOOPS)
    if word == "loop":
        gc.disable()
        LOOPS.add(Loop())
    time.sleep(options.get("sleep_s", 0.0))
    while (until := options.get("until")) and not Path(until).exists():
        time.sleep(0.01)
    log = options.get("log")
    if log:
        with open(log, "a") as file:
            file.write(f"{job.id}\n")
    folder = Path(job.folder)
    folder.mkdir()
    digest = hashlib.sha256(job.id.encode() + options.get("salt", "").encode()).hexdigest()
    for number in range(3):
        (folder / f"part{number}").write_text(digest * (number + 1))
    frames = int(digest[:2], 16) + 1
    return {
        "alive": alive,
        "frames": frames,
        "routed": {"clear": 1, "blurred": 0},
        "digest": digest,
    }
