"""The end of an edge between hosts that wants the frames: a live source."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from time import monotonic, monotonic_ns
from urllib.parse import parse_qsl, urlsplit

import msgspec

from retain.pipeline.course import Course
from retain.pipeline.errors import SourceError, SourceFault, UsageError, WireError, nearest
from retain.pipeline.far import address as addresses
from retain.pipeline.far import keys
from retain.pipeline.far.codec import decode
from retain.pipeline.far.line import Line
from retain.pipeline.far.wire import MAX_CREDIT, End, Picture
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.sources.common import Sampler, integer, number
from retain.pipeline.stage import SourceInfo, StatValue
from retain.pipeline.transport.io import Curve, IoThread

_QUERY = ("key", "server", "credit", "insecure")


class Coming:
    """One stream over all its links; a sender that was restarted starts over."""

    def __init__(self) -> None:
        self.link = 0
        self._course = Course()
        self.gap = False
        """The next frame that is delivered says that some before it may be missing."""

    def follow(self, picture: Picture, first: bool) -> Picture:
        """``picture``, moved behind the last one where needed. ``first``: no link was before."""
        if picture.link != self.link:
            self.link, self.gap = picture.link, not first
            self._course.turn()
        base = Fraction(*picture.time_base)
        seq, pts = self._course.moved(picture.seq, picture.pts, base, monotonic_ns())
        return msgspec.structs.replace(picture, seq=seq, pts=pts)


class FarSource:
    """Frames of a ``FarSink`` on another host.

    source      ``far://HOST:PORT``, or with options: ``far://HOST:PORT?key=FILE&server=FILE``
    key         this host's secret key file; server: the sender's public key file
    stream      name given to the frames; empty keeps the sender's (which may be several)
    timeout     seconds without any sign of the sender, after which the source fails
    credit      packets that may be on the way or wait here. 1 always brings the newest, at one
                round trip a frame; more hide the way, and let frames grow older by as much
    insecure    take pictures from another host without keys, all the same
    fps, limit  as in VideoSource; better thin at the sender with the policy ``rate(fps)``

    A line that breaks is made again; its first frame then is a discontinuity. ``t_arrival_ns`` is
    the arrival at the *first* host, told by this one's clock to within ``clock_error_ms``.
    """

    def __init__(
        self,
        source: str,
        stream: str = "",
        fps: float = 0.0,
        limit: int = 0,
        timeout: float = 10.0,
        key: str = "",
        server: str = "",
        credit: int = 2,
        insecure: bool = False,
    ) -> None:
        self.address, query = _split(source)
        key, server = str(query.get("key", key)), str(query.get("server", server))
        insecure = insecure or query.get("insecure") in ("1", "true")
        asked = query.get("credit", "")
        self._credit = integer("credit", int(asked) if asked.isdigit() else credit, 1, MAX_CREDIT)
        self.timeout = number("timeout", timeout, 0.1, 3600)
        if bool(key) != bool(server):
            raise UsageError(
                "The source options key and server belong together.",
                hint="key is this host's secret file, server the sender's public file.",
            )
        addresses.check(self.address, binds=False, encrypted=bool(key), insecure=insecure)
        self._curve = Curve(*keys.load_secret(key), keys.load_public(server)) if key else None
        self._stream, self._fps, self._limit = stream, fps, limit
        Sampler(fps, limit)  # checks both
        self._samplers: dict[str, Sampler] = {}
        self._coming: dict[str, Coming] = {}
        self._first_link = 0
        self._changed = threading.Condition()
        self._arrived: deque[tuple[Picture, bytes]] = deque()
        self._end: End | None = None
        self._stop = False
        self._io: IoThread | None = None
        self._line: Line | None = None
        self._error: Exception | None = None
        self._delivered = self._refused = 0

    def open(self) -> SourceInfo:
        """Connect, and wait for the sender's first word. Raises SourceError."""
        with self._changed:
            if self._line is None and not self._stop:
                self._io = IoThread("retain-far", self._failed)
                self._line = Line(
                    self._io,
                    self.address,
                    self._curve,
                    self._credit,
                    self._on_picture,
                    self._on_end,
                    self._on_change,
                )
                self._line.waiting = lambda: len(self._arrived)
                self._io.start()
            line = self._line
            until = monotonic() + self.timeout
            while line and not (self._stop or line.met or self._error):
                if line.problem == "denied" or not self._changed.wait(until - monotonic()):
                    break
            met = self._stop or (line is not None and line.met)
        if not met:
            self.close()
            raise self._fault()
        return SourceInfo(kind="live", description=f"far {self.address.removeprefix('tcp://')}")

    def frames(self) -> Iterator[Frame]:
        return (packet.frame for packet in self.packets())

    def packets(self) -> Iterator[Packet]:
        """Frames with the results they had at the sender, until it ends or this is closed.

        Raises SourceError: STALLED after ``timeout`` without a sign of the sender, BROKEN when it
        was cut short.
        """
        if self._line is None:
            self.open()
        try:
            while (item := self._take()) is not None:
                packet = self._packet(*item)
                if packet is None:
                    continue
                self._delivered += 1
                yield packet
                if 0 < self._limit <= self._delivered:
                    return
        finally:
            self.close()

    def close(self) -> None:
        with self._changed:
            self._stop = True
            io, self._io = self._io, None
            self._changed.notify_all()
        if io is not None:
            if self._line is not None:
                self._line.leave()
            io.close()

    def stats(self) -> Mapping[str, StatValue]:
        """``age`` in the node's numbers counts from the arrival at the first host."""
        line = self._line
        return {
            "delivered": self._delivered,
            "waiting": len(self._arrived),
            "refused": self._refused + (line.refused if line else 0),
            "connections": line.connections if line else 0,
            "clock_error_ms": (line.clock.error_ns if line else 0) / 1e6,
        }

    def _take(self) -> tuple[Picture, bytes] | None:
        assert self._line is not None
        line = self._line
        with self._changed:
            while not self._stop:
                if self._error:
                    raise self._error
                if self._arrived:
                    item = self._arrived.popleft()
                    line.wants()
                    return item
                if self._end is not None:
                    if self._end.fault:
                        raise self._broke(SourceFault.BROKEN, self._end.fault.message)
                    return None
                left = line.heard + self.timeout - monotonic()
                if left <= 0:
                    raise self._fault()
                self._changed.wait(left)
        return None

    def _packet(self, picture: Picture, data: bytes) -> Packet | None:
        """None for one left out by ``fps``, or refused because its pixels are not what it says."""
        assert self._line is not None
        if self._stream and picture.stream not in self._coming and self._coming:
            raise self._broke(
                SourceFault.BROKEN,
                f"It sends several streams ({picture.stream!r} is another), so the option stream "
                "cannot name them.",
            )
        sampler = self._samplers.setdefault(picture.stream, Sampler(self._fps))
        self._first_link = self._first_link or picture.link
        coming = self._coming.setdefault(picture.stream, Coming())
        picture = coming.follow(picture, picture.link == self._first_link)
        if not sampler.keep(picture.pts, Fraction(*picture.time_base)):
            return None
        try:
            image = decode(data, picture.codec, picture.height, picture.width)
            packet = picture.packet(image, self._line.clock.ours(picture.t_arrival_ns))
        except (WireError, ValueError):
            self._refused += 1
            return None
        frame = replace(
            packet.frame,
            stream=self._stream or picture.stream,
            discontinuity=picture.discontinuity or coming.gap,
        )
        coming.gap = False
        return Packet(frame, packet.results)

    def _fault(self) -> SourceError:
        problem = self._line.problem if self._line else ""
        if problem == "denied":
            return self._broke(
                SourceFault.AUTH,
                "It refuses our key.",
                "Put this host's public file on the sender's allow list.",
            )
        if problem == "handshake":
            return self._broke(
                SourceFault.AUTH,
                "The keys do not match.",
                "Is the server file really the sender's, and do both ends use keys?",
            )
        if self._line and self._line.met:
            return self._broke(
                SourceFault.STALLED, f"No sign of it for {self.timeout:g} s.", "Does it run?"
            )
        return self._broke(
            SourceFault.TIMEOUT,
            f"No answer within {self.timeout:g} s.",
            "Does the sender run, and does a firewall let the port through?",
        )

    def _broke(self, fault: SourceFault, what: str, hint: str = "") -> SourceError:
        return SourceError(
            fault, f"The sender at {self.address}: {what}", hint=hint, decoded=self._delivered
        )

    # What follows is called in the thread of the sockets.

    def _on_picture(self, picture: Picture, data: bytes) -> None:
        with self._changed:
            self._arrived.append((picture, data))
            self._changed.notify_all()

    def _on_end(self, end: End) -> None:
        with self._changed:
            self._end = end
            self._changed.notify_all()

    def _on_change(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()


def _split(source: str) -> tuple[str, dict[str, str]]:
    """(tcp address, options) of a ``far://`` address."""
    parts = urlsplit(source)
    if parts.scheme not in ("far", "tcp") or parts.path.strip("/") or parts.fragment:
        raise UsageError(f"{source!r} is no far source.", hint="Write far://HOST:PORT.")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in query:
        if name not in _QUERY:
            raise UsageError(
                f"A far source has no option {name!r} in its address.", hint=nearest(name, _QUERY)
            )
    return f"tcp://{parts.netloc}", query
