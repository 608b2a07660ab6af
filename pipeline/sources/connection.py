"""One connection to a live source, read by a thread of its own."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from fractions import Fraction
from typing import Protocol

from retain.pipeline.errors import RetainError, SourceError, SourceFault
from retain.pipeline.frame import Frame
from retain.pipeline.sources.camera import CameraSource
from retain.pipeline.sources.common import Sampler
from retain.pipeline.sources.liveness import Frozen
from retain.pipeline.sources.video import VideoSource
from retain.pipeline.stage import SourceInfo


class Owner(Protocol):
    """Whom a connection tells. It ignores connections that it has given up."""

    name: str
    """Without credentials."""
    frozen_s: float

    def opened(self, run: Connection, info: SourceInfo) -> bool:
        """Whether to go on reading."""
        ...

    def chosen(self, run: Connection, pts: int, time_base: Fraction) -> int | None:
        """The time of a picture over all connections; None when it is not wanted."""
        ...

    def offer(self, run: Connection, frame: Frame, pts: int) -> None: ...

    def over(self, run: Connection, error: RetainError) -> None:
        """Why it ended."""
        ...


class Connection(Sampler):
    """One connection and the thread that reads it; stands in for the sampler of what it reads, so
    that pictures nobody wants are never converted."""

    def __init__(self, owner: Owner, inner: VideoSource | CameraSource) -> None:
        super().__init__(0)
        self._owner, self._inner = owner, inner
        inner.sampler = self
        self.heard = time.monotonic()
        self.ended: RetainError | None = None
        self.frozen = False
        self.whole = False
        """Whether it ended as a stream may."""
        self._pts = 0
        self.thread = threading.Thread(
            target=self._read, name=f"reader of {owner.name}", daemon=True
        )

    def keep(self, pts: int, time_base: Fraction) -> bool:
        chosen = self._owner.chosen(self, pts, time_base)
        if chosen is None:
            return False
        self._pts = chosen
        self.kept += 1
        return True

    def _read(self) -> None:
        try:
            error = self._ended()
        except RetainError as failed:
            error = failed
        except Exception as failed:  # its text may hold anything
            what = f"Reading {self._owner.name!r} failed ({type(failed).__name__})."
            error = SourceError(SourceFault.BROKEN, what)
        finally:
            self.leave()
        self._owner.over(self, error)

    def _ended(self) -> RetainError:
        """Read until nothing more comes. Raises what the source raises."""
        owner = self._owner
        frozen = Frozen(owner.frozen_s)
        if owner.opened(self, self._inner.open()):
            for frame in self._inner.frames():
                owner.offer(self, frame, self._pts)
                if frozen.sees(frame.image, time.monotonic()):
                    self.frozen = True
                    return SourceError(
                        SourceFault.STALLED,
                        f"{owner.name!r} sent the same picture for {owner.frozen_s:g} s.",
                        hint="Set frozen_s to 0 where nothing ever moves.",
                    )
        self.whole = True
        return SourceError(SourceFault.BROKEN, f"{owner.name!r} ended the stream.")

    def leave(self) -> None:
        """Close without waiting."""
        with suppress(Exception):
            self._inner.close()

    def counts(self) -> dict[str, int]:
        """What the source itself counts of damage and loss."""
        stats = self._inner.stats()
        wanted = ("dropped", "repaired_times", "decode_errors", "corrupt")
        return {name: int(stats[name]) for name in wanted if name in stats}
