"""The end of an edge between hosts that has the frames."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic, monotonic_ns

import msgspec
import zmq

from retain.pipeline import wire
from retain.pipeline.errors import UsageError, WireError, nearest
from retain.pipeline.far import address as addresses
from retain.pipeline.far import keys
from retain.pipeline.far.codec import CODECS, Codec, check_size, encode
from retain.pipeline.far.gate import Gate
from retain.pipeline.far.wire import (
    BEAT_S,
    MAX_CONTROL,
    MAX_CREDIT,
    SILENCE_S,
    Again,
    Beat,
    End,
    Fault,
    Leave,
    Picture,
    Want,
    read_from_receiver,
)
from retain.pipeline.packet import Packet
from retain.pipeline.policy import Policy
from retain.pipeline.results import Result
from retain.pipeline.stage import StatValue
from retain.pipeline.transport.credit import Outlet
from retain.pipeline.transport.io import Curve, IoThread

log = logging.getLogger(__name__)

MAX_RECEIVERS = 32
MAX_DOUBTED = 1000
"""Broken links whose receiver may come back and say how many packets had come."""


@dataclass(slots=True)
class Link:
    """One receiver's connection, with a mailbox of its own."""

    route: bytes
    receiver: int
    outlet: Outlet
    heard: float
    id: int = field(default_factory=lambda: secrets.randbelow(2**62) + 1)
    granted: int = 0
    sent: int = 0
    received: int = 0
    ended: bool = False


FAREWELL_S = 1.0
"""How long a sender that is cut short waits for its receivers to hear of it."""


class FarSink:
    """Offers packets to receivers on other hosts; each has the edge's policy to itself.

    address     ``tcp://HOST:PORT`` to listen at; HOST is an address of this host, or ``*``
    key         this host's secret key file; none only where no other host can connect
    allow       public key file of the receiver, or a folder of such files
    policy      who is lost when a receiver is slower: latest, drop_oldest(n), ..., block
    codec       jpeg (lossy), png, raw; raw is refused together with a key, being much to
                encrypt and to carry, unless ``raw_over_curve``
    quality     1..100, of jpeg
    insecure    listen to other hosts without a key, all the same

    While nobody is connected, ``block`` waits and the others pass frames by (``unheard``).
    """

    def __init__(
        self,
        address: str,
        key: str = "",
        allow: str = "",
        policy: str = "latest",
        codec: Codec = "jpeg",
        quality: int = 90,
        insecure: bool = False,
        raw_over_curve: bool = False,
    ) -> None:
        _check_options(key, allow, codec, quality, raw_over_curve)
        addresses.check(address, binds=True, encrypted=bool(key), insecure=insecure)
        if insecure and not key:
            log.warning("%s is open to everyone who reaches it: no key", address)
        self._policy, self._codec, self._quality = Policy.parse(policy), codec, quality
        self._changed = threading.Condition()
        self._links: dict[bytes, Link] = {}
        self._past: Counter[str] = Counter()
        """What became of the packets of receivers that are no more."""
        self._doubted: dict[tuple[int, int], tuple[int, int]] = {}
        """By receiver and link that broke: packets confirmed and packets sent."""
        self._counts: Counter[str] = Counter()
        self._end: End | None = None
        self._fault: Fault | None = None
        self._error: Exception | None = None
        self._closed = False
        self._last: tuple[object, bytes | memoryview] = (None, b"")
        """The newest image and its bytes: several receivers share one encoding."""
        pair = keys.load_secret(key) if key else None
        self._io = IoThread("retain-far", self._failed)
        self._gate: Gate | None = None
        try:
            self._socket = self._listen(address, pair, allow)
        except BaseException:
            self._io.start()
            self._io.close()
            raise
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        self.address = str(self._socket.get_string(zmq.LAST_ENDPOINT)).rstrip("\0")
        self._io.every(BEAT_S, self._bury)
        self._io.start()

    def _listen(self, address: str, pair: keys.Pair | None, allow: str) -> zmq.Socket[bytes]:
        if pair:
            self._gate = Gate(self._io, allow)
        try:
            return self._io.socket(
                zmq.ROUTER,
                bind=address.replace("tcp://localhost:", "tcp://127.0.0.1:"),
                on_message=self._on_message,
                on_event=self._on_event,
                curve=Curve(*pair) if pair else None,
                max_message=MAX_CONTROL,
            )
        except zmq.ZMQError as error:
            raise UsageError(
                f"{address!r} cannot be listened at: {error.strerror}.",
                hint="Is the port in use, and HOST an address of this host?",
            ) from None

    def process(self, packet: Packet) -> None:
        """Raises WireError for what cannot travel."""
        check_size(packet.frame.height, packet.frame.width)
        for name, result in packet.results.items():
            if not isinstance(result, Result):
                raise WireError(f"Result {name!r} is a {type(result).__name__}: no known kind.")
        with self._changed:
            if self._policy.kind == "block":
                self._changed.wait_for(lambda: self._closed or self._error or self._room(packet))
            if self._error:
                raise self._error
            if not self._links:
                self._counts["unheard"] += 1
                return
            if self._policy.depth > 1 or len(self._links) > 1:
                packet = _kept(packet)
            for link in self._links.values():
                link.outlet.put(packet)
        self._io.call(self._pump)

    def broke(self, fault: Fault) -> None:
        """Receivers are told at the end that it is none."""
        self._fault = fault

    def flush(self) -> Iterable[Packet]:
        """The end of the stream: return when every receiver has had everything, or is gone."""
        self._finish(End(self._fault))
        with self._changed:
            self._changed.wait_for(lambda: not self._links or self._closed or self._error)
            if self._error:
                raise self._error
        return ()

    def close(self) -> None:
        """Without ``flush`` before, receivers are told that the stream was cut short."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            for link in self._links.values():
                link.outlet.box.clear("stopped")
            self._changed.notify_all()
        if self._end is None:
            self._finish(End(Fault("far", "stopped", "The sender was stopped.")))
            # A socket that is closed over what it has not read resets the line, and the end that is
            # on its way is lost: receivers are waited for until they have left.
            with self._changed:
                self._changed.wait_for(lambda: not self._links, FAREWELL_S)
        self._io.close()

    def stats(self) -> Mapping[str, StatValue]:
        """Over all receivers, present and past: captured = delivered + dropped_* + waiting."""
        with self._changed:
            total = self._past + Counter()
            waiting = 0
            for link in self._links.values():
                total.update(_became(link))
                waiting += len(link.outlet.box)
            counts = {"receivers": len(self._links), "waiting": waiting}
            names = ("captured", "delivered", *sorted(n for n in total if n.startswith("dropped")))
            counts |= {name: total[name] for name in names}
            counts |= {
                name: self._counts[name]
                for name in ("unheard", "refused", "receivers_lost", "failed_handshakes", "bytes")
            }
            return counts | {"denied": self._gate.denied if self._gate else 0}

    def _room(self, packet: Packet) -> bool:
        links = self._links.values()
        return bool(links) and all(link.outlet.box.room(packet) for link in links)

    def _finish(self, end: End) -> None:
        self._end = end
        self._io.call(self._pump)

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    # What follows runs in the thread of the sockets.

    def _on_event(self, event: int) -> None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._counts["failed_handshakes"] += 1
            if self._counts["failed_handshakes"] == 1:
                log.warning("a handshake at %s failed: wrong or missing keys?", self.address)

    def _on_message(self, parts: list[bytes]) -> None:
        route, *rest = parts
        try:
            if len(rest) != 1:
                raise WireError(f"A message came in {len(rest)} parts; ours have one.")
            message = read_from_receiver(rest[0])
            if isinstance(message, Leave):
                self._leaves(route, message)
            else:
                self._wanted(route, message)
        except WireError as error:
            self._counts["refused"] += 1
            level = logging.WARNING if self._counts["refused"] == 1 else logging.DEBUG
            log.log(level, "a receiver's message was refused: %s", error)

    def _wanted(self, route: bytes, want: Want) -> None:
        link = self._links.get(route)
        if link is None and (want.received or len(self._links) >= MAX_RECEIVERS):
            self._send(route, Again())
            return
        ahead = want.granted - (link.sent if link else 0)
        if ahead > MAX_CREDIT or want.received > (link.sent if link else 0):
            raise WireError("A receiver asks for more than there may be.")
        if link is None:
            for old in [o.route for o in self._links.values() if o.receiver == want.receiver]:
                self._drop(old)
            self._settle(want)
            link = Link(route, want.receiver, Outlet(self._policy), monotonic())
        with self._changed:
            self._links[route] = link
            link.heard = monotonic()
            link.received = max(link.received, want.received)
            if want.granted > link.granted:
                link.outlet.grant(want.granted - link.granted)
                link.granted = want.granted
            self._changed.notify_all()
        if want.asked_ns:
            self._send(route, Beat(want.asked_ns, monotonic_ns()))
        self._pump()

    def _leaves(self, route: bytes, leave: Leave) -> None:
        if link := self._links.get(route):
            link.received = max(link.received, min(leave.received, link.sent))
            self._drop(route, lost=False)

    def _settle(self, want: Want) -> None:
        """A receiver is back, and says what had come before its line broke."""
        number, received = want.before
        confirmed, sent = self._doubted.pop((want.receiver, number), (0, 0))
        came = min(received, sent) - confirmed
        if came > 0:
            with self._changed:
                self._past["delivered"] += came
                self._past["dropped_gone"] -= came

    def _bury(self) -> None:
        silent = monotonic() - SILENCE_S
        for link in list(self._links.values()):
            if link.heard < silent:
                self._drop(link.route)

    def _drop(self, route: bytes, lost: bool = True) -> None:
        """A receiver is gone: what waits for it and what it never got is lost."""
        with self._changed:
            link = self._links.pop(route, None)
            if link is None:
                return
            link.outlet.box.clear("gone")
            link.outlet.box.lost(link.sent - link.received, "gone")
            self._past.update(_became(link))
            if lost and link.sent > link.received:
                self._doubted[link.receiver, link.id] = link.received, link.sent
                if len(self._doubted) > MAX_DOUBTED:
                    del self._doubted[next(iter(self._doubted))]
            self._counts["receivers_lost"] += lost
            self._changed.notify_all()
        if lost:
            log.warning("a receiver at %s is gone", self.address)

    def _pump(self) -> None:
        """Send what has credit, one packet a receiver in turn."""
        going = True
        while going:
            going = False
            for link in list(self._links.values()):
                with self._changed:
                    packet = link.outlet.take()
                    self._changed.notify_all()
                if packet:
                    going = True
                    self._send_picture(link, packet)
                elif self._end and not link.ended and not len(link.outlet.box):
                    link.ended = True
                    self._send(link.route, self._end)

    def _send_picture(self, link: Link, packet: Packet) -> None:
        image = packet.frame.image
        if self._last[0] is not image:
            self._last = image, encode(image, self._codec, self._quality)
        data = self._last[1]
        link.sent += 1
        size = packet.frame.height, packet.frame.width
        picture = Picture.of(packet, link.id, self._codec, *size, len(data))
        self._send(link.route, picture, data)
        if len(self._links) == 1:
            self._last = None, b""  # nobody else needs it: its slot of memory may go

    def _send(self, route: bytes, message: msgspec.Struct, *data: bytes | memoryview) -> None:
        header = wire.pack(message)
        try:
            self._socket.send_multipart([route, header, *data], copy=False)
        except zmq.ZMQError as error:
            log.debug("a receiver cannot be reached: %s", error)
            self._drop(route)
            return
        self._counts["bytes"] += len(header) + sum(map(len, data))


def _became(link: Link) -> Counter[str]:
    box = link.outlet.box
    dropped = {f"dropped_{cause}": count for cause, count in box.dropped.items() if count}
    return Counter({"captured": box.captured, "delivered": box.delivered, **dropped})


def _kept(packet: Packet) -> Packet:
    """The packet with pixels of its own: those in shared memory must not be held for long."""
    return Packet(replace(packet.frame, image=packet.frame.image.copy()), packet.results)


def _check_options(key: str, allow: str, codec: str, quality: int, raw_over_curve: bool) -> None:
    if codec not in CODECS:
        raise UsageError(f"There is no codec {codec!r}.", hint=nearest(codec, CODECS))
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise UsageError(f"The option 'quality' is a whole number from 1 to 100, not {quality!r}.")
    if bool(key) != bool(allow):
        raise UsageError(
            "The options key and allow belong together.",
            hint="key is this host's secret file, allow the public file of each receiver.",
        )
    if key and codec == "raw" and not raw_over_curve:
        raise UsageError(
            "Raw pixels do not go through an encrypted line unasked: 720p at 30 frames/s is "
            "83 MB/s to encrypt and to carry.",
            hint="Use codec=png or jpeg, or insist with raw_over_curve=true.",
        )
