"""Sinks that need nothing but a disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from retain.pipeline.packet import Packet
from retain.pipeline.stage import StatValue

log = logging.getLogger(__name__)


class JsonLines:
    """One JSON object per packet: stream, seq, pts, time_base, seconds and results, without arrays
    of more than ``arrays`` numbers.

    Lines go to ``PATH.partial``, which becomes ``PATH`` when the run has ended; a run cut short
    leaves the partial file.
    """

    def __init__(self, path: str, arrays: int = 0) -> None:
        self.path = Path(path)
        self._arrays = arrays
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] | None = self.partial.open("wb")
        self._encoder = msgspec.json.Encoder()
        self._lines = self._bytes = 0

    def process(self, packet: Packet) -> None:
        assert self._file is not None, "the sink is closed"
        frame = packet.frame
        record = {
            "stream": frame.stream,
            "seq": frame.seq,
            "pts": frame.pts,
            "time_base": str(frame.time_base),
            "seconds": round(frame.seconds, 6),
            "results": {
                name: _plain(result, self._arrays) for name, result in packet.results.items()
            },
        }
        line = self._encoder.encode(record) + b"\n"
        self._file.write(line)
        self._lines += 1
        self._bytes += len(line)

    def close(self) -> None:
        """Bring the file under its final name."""
        if self._end():
            self.partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def discard(self) -> None:
        """Leave what was written so far as the partial file."""
        if self._end():
            log.warning(
                "the run was cut short; its first %d lines are in %s", self._lines, self.partial
            )

    def stats(self) -> Mapping[str, StatValue]:
        return {"lines": self._lines, "bytes": self._bytes}

    def _end(self) -> bool:
        if self._file is None:
            return False
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        return True


class Count:
    """Counts packets."""

    def __init__(self) -> None:
        self.packets = 0

    def process(self, packet: Packet) -> None:
        self.packets += 1

    def close(self) -> None: ...

    def stats(self) -> Mapping[str, StatValue]:
        return {"packets": self.packets}


def _plain(result: Any, arrays: int) -> dict[str, Any]:
    """A record as JSON can say it: large arrays left out, the kind with its version kept."""
    fields = msgspec.structs.asdict(result)
    kind = result.__struct_config__.tag
    return {"type": kind} | {
        name: value.tolist() if isinstance(value, np.ndarray) else msgspec.to_builtins(value)
        for name, value in fields.items()
        if not isinstance(value, np.ndarray) or (arrays and value.size <= arrays)
    }
