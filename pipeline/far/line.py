"""The receiver's connection: made, watched, and made again; credit and clocks."""

from __future__ import annotations

import logging
import secrets
from collections import deque
from collections.abc import Callable
from time import monotonic, monotonic_ns

import zmq

from retain.pipeline import wire
from retain.pipeline.errors import WireError
from retain.pipeline.far.codec import MAX_BYTES
from retain.pipeline.far.wire import (
    BEAT_S,
    SILENCE_S,
    Again,
    Beat,
    End,
    Leave,
    Picture,
    Want,
    read_from_sender,
)
from retain.pipeline.transport.io import Curve, IoThread

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.1, 1.0
_FAILED_HANDSHAKES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "denied",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "handshake",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "handshake",
}


class Clock:
    """What the sender's monotonic clock shows, by ours: the fastest of the last answers decides.

    An answer that took ``r`` there and back was written somewhere within ``r``, so the middle is
    off by at most r/2 (NTP's rule, RFC 5905 §8).
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=16)

    def answered(self, beat: Beat, now_ns: int) -> None:
        trip = now_ns - beat.asked_ns
        if trip >= 0:
            self._samples.append((trip, beat.asked_ns + trip // 2 - beat.now_ns))

    @property
    def error_ns(self) -> int:
        return min(self._samples)[0] // 2 if self._samples else 0

    def ours(self, theirs_ns: int) -> int:
        """A time of the sender by our clock; never in the future."""
        now = monotonic_ns()
        shift = min(self._samples)[1] if self._samples else now - theirs_ns
        return max(0, min(now, theirs_ns + shift))


class Line:
    """Runs in the thread of the sockets; ``wants`` and ``leave`` are for any thread.

    ``on_picture(picture, pixels)`` and ``on_end(end)`` are called there. Whatever goes wrong, it
    drops the connection and makes another, after a pause that doubles up to 1 s.
    """

    def __init__(
        self,
        io: IoThread,
        address: str,
        curve: Curve | None,
        credit: int,
        on_picture: Callable[[Picture, bytes], None],
        on_end: Callable[[End], None],
        on_change: Callable[[], None],
    ) -> None:
        self._io, self._address, self._curve, self._credit = io, address, curve, credit
        self._on_picture, self._on_end, self._on_change = on_picture, on_end, on_change
        self._receiver = secrets.randbelow(2**62) + 1
        self._socket: zmq.Socket[bytes] | None = None
        self._turn = 0
        """Number of the connection; events of an older one mean nothing any more."""
        self._due: float | None = 0.0
        self._pause = FIRST_RETRY_S
        self._told = False
        self._left = False
        self.waiting: Callable[[], int] = lambda: 0
        """How many pictures lie here unused."""
        self.clock = Clock()
        self.heard = monotonic()
        self.met = False
        self.problem = ""
        """Why the last try failed: denied, handshake, lost or nothing."""
        self.refused = self.connections = 0
        self._granted = self._received = self._link = 0
        self._before = (0, 0)
        """Link and pictures of the last connection that brought any."""
        self._alive = self._asked = 0.0
        self._greeted = self._dropping = False
        io.every(BEAT_S / 4, self._look)

    def wants(self) -> None:
        """There may be room for more."""
        self._io.call(self._grant)

    def leave(self) -> None:
        def leave() -> None:
            self._left = True
            self._send(wire.pack(Leave(self._received)))

        self._io.call(leave)

    def _look(self) -> None:
        now = monotonic()
        if self._socket is None and self._due is not None and now >= self._due and not self._left:
            self._connect()
        elif self._socket and self._greeted and now - self._alive > SILENCE_S:
            self._again("lost")
        elif self._socket and now - self._asked >= BEAT_S:
            self._ask()

    def _connect(self) -> None:
        self._turn += 1
        turn = self._turn
        if self._link:
            self._before = self._link, self._received
        self._link = 0
        self._granted = self._received = 0
        self._greeted = self._dropping = False
        self._alive = monotonic()
        self._asked = 0.0
        self.clock = Clock()
        self._socket = self._io.socket(
            zmq.DEALER,
            connect=self._address,
            on_message=self._on_message,
            on_event=lambda event: self._on_event(turn, event),
            curve=self._curve,
            max_message=MAX_BYTES,
        )

    def _again(self, problem: str) -> None:
        """Give this connection up and make another, later."""
        if self._dropping:
            return
        self._dropping, self.problem = True, problem
        log.log(
            logging.DEBUG if self._told else logging.WARNING,
            "the line to %s: %s; trying again",
            self._address,
            {"denied": "our key is not on its allow list", "handshake": "keys do not match"}.get(
                problem, "lost"
            ),
        )
        self._told = True

        def drop() -> None:
            assert self._socket is not None
            self._io.drain(self._socket)  # the end may have come just before the line broke
            self._io.forget(self._socket)
            self._socket = None
            self._due = monotonic() + self._pause
            self._pause = min(2 * self._pause, LAST_RETRY_S)

        self._io.call(drop)
        self._on_change()

    def _on_event(self, turn: int, event: int) -> None:
        if turn != self._turn or self._left:
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._ask()
        elif event in _FAILED_HANDSHAKES:
            self._again(_FAILED_HANDSHAKES[event])
        elif event == zmq.EVENT_DISCONNECTED:
            self._again("lost")

    def _on_message(self, parts: list[bytes]) -> None:
        if len(parts) > 1:
            self._received += 1  # it was granted, whatever it turns out to be
        try:
            message = read_from_sender(parts)
            if self._received > self._granted:
                raise WireError("A picture came that was not asked for.")
        except WireError as error:
            self.refused += 1
            log.log(
                logging.WARNING if self.refused == 1 else logging.DEBUG,
                "a message from %s was refused: %s",
                self._address,
                error,
            )
            self._received = min(self._received, self._granted)
            self._grant()
            return
        self.heard = self._alive = monotonic()
        if isinstance(message, Beat):
            self._answered(message)
        elif isinstance(message, Again):
            self._again("lost")
        elif isinstance(message, End):
            self._left = True
            self._send(wire.pack(Leave(self._received)))
            self._on_end(message)
        else:
            self._link = message.link
            self._on_picture(message, parts[1])

    def _answered(self, beat: Beat) -> None:
        self.clock.answered(beat, monotonic_ns())
        if self._greeted:
            return
        self.met = self._greeted = True
        self._told, self._pause, self.problem = False, FIRST_RETRY_S, ""
        self.connections += 1
        self._on_change()

    def _grant(self) -> None:
        """Half a window at a time: half the messages."""
        room = self._credit - self.waiting() - (self._granted - self._received)
        if room > 0 and room >= self._credit // 2 and not self._left:
            self._granted += room
            self._ask(answer=False)

    def _ask(self, answer: bool = True) -> None:
        if self._left:
            return
        now = monotonic_ns() if answer else 0
        if answer:
            self._asked = monotonic()
            room = self._credit - self.waiting() - (self._granted - self._received)
            self._granted += max(0, room)
        self._send(
            wire.pack(Want(self._receiver, self._granted, self._received, now, self._before))
        )

    def _send(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.send(data)
            except zmq.ZMQError:  # not connected yet; the next beat says it again
                log.debug("nobody at %s yet", self._address)
