"""One node in a process of its own: ``python -m retain.pipeline.worker``, its spec on stdin.

It lives no longer than its parent: the kernel kills it when the parent dies, and so does a thread
that sees the end of stdin, which takes the run's socket files with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
import time

import msgspec
import psutil
import zmq

from retain.pipeline import logs
from retain.pipeline.metrics import Meter
from retain.pipeline.runners.control import (
    Due,
    Exit,
    Failed,
    Opened,
    Rewire,
    Snap,
    Spec,
    Stop,
    read_from_parent,
)
from retain.pipeline.runners.station import Station
from retain.pipeline.transport.io import IoThread
from retain.pipeline.wire import Fault, pack

_PR_SET_PDEATHSIG = 1
BEAT_S = 0.1
"""How often it shows that it lives."""
_SWITCH_S = 0.001
"""How long a busy thread may keep the interpreter from the one that owns the sockets."""


class Worker:
    """Joins a node to its parent."""

    def __init__(self, spec: Spec) -> None:
        self._name = spec.node.name
        self._restarts = spec.restarts
        self._exit = threading.Event()
        self._process = psutil.Process()
        self._io = IoThread("retain-io", self._io_failed)
        self._control = self._io.socket(
            zmq.DEALER, connect=spec.control, identity=spec.identity, on_message=self._on_control
        )
        self._station = Station(
            spec,
            self._io,
            on_open=lambda name, info: self._tell(Opened(info)),
            on_fault=self._failed,
            on_barrier=self._tell,
            cpu_s=time.process_time,
        )
        self._io.every(BEAT_S, self._station.ledger.beat)
        self._io.every(Meter.REPORT_EVERY_S, self._report)

    def run(self) -> None:
        """Work to the end, then wait until nobody needs this node's pixels any more."""
        self._io.start()
        self._station.run()
        self._io.call(lambda: self._report(last=True))
        self._exit.wait()
        self._io.close()

    def _report(self, last: bool = False) -> None:
        rss = self._process.memory_info().rss
        self._control.send(pack(self._station.report(rss, last)))

    def _failed(self, fault: Fault) -> None:
        """In the node's thread. Where another process is to go on, this one ends here: its state
        may be half changed."""
        if self._restarts and self._station.work.created:
            self._tell(Failed(fault, dying=True))
            self._io.close()
            os._exit(1)
        self._tell(Failed(fault))

    def _tell(self, message: msgspec.Struct) -> None:
        data = pack(message)
        self._io.call(lambda: self._control.send(data))

    def _on_control(self, parts: list[bytes]) -> None:
        match read_from_parent(parts[-1]):
            case Stop(drain):
                self._station.stop(drain)
            case Exit():
                self._exit.set()
            case Snap(number):
                self._station.snap(number)
            case Due(round_):
                self._station.due(round_)
            case Rewire() as rewire:
                for rewired in self._station.rewire(rewire):
                    self._tell(rewired)

    def _io_failed(self, error: Exception) -> None:
        """An edge of this node cannot be used any more; so neither can the node. It waits to be
        ended: were it to stop, those below would take that for the end of the stream."""
        self._tell(Failed(Fault.of(self._name, error), fatal=True))


def die_with_parent(spec: Spec) -> None:
    """Arrange that this process does not outlive its parent, whatever it is doing."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec.parent_pid:
        os._exit(1)

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be in the way at exit
            pass
        shutil.rmtree(spec.directory, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="retain-parent", daemon=True).start()


def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=Spec)
    die_with_parent(spec)
    logs.configure(spec.log_level, node=spec.node.name)
    sys.setswitchinterval(_SWITCH_S)
    # Descriptor 0 is the parent's; what a source may read is the caller's.
    sys.stdin = None if spec.stdin is None else os.fdopen(spec.stdin)  # type: ignore[assignment]
    Worker(spec).run()


if __name__ == "__main__":
    main()
