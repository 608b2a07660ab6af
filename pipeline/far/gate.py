"""Who may connect: the ZAP handler of a binding socket (ZeroMQ RFC 27)."""

from __future__ import annotations

import logging
from time import monotonic

import zmq
from zmq.utils import z85

from retain.pipeline.errors import UsageError
from retain.pipeline.far.keys import load_allowed
from retain.pipeline.transport.io import ZAP_DOMAIN, IoThread

log = logging.getLogger(__name__)

ADDRESS = "inproc://zeromq.zap.01"
REREAD_S = 1.0
"""The allow list is read again at most so often: nobody needs a restart to be added or
removed. A line that stands is not cut by it."""
MAX_TOLD = 1000
"""Refused peers that are remembered, so that each is logged once."""


class Gate:
    """Admits the public keys in a file or folder. Make it before the socket it guards.

    Raises UsageError when the list cannot be read or is empty.
    """

    def __init__(self, io: IoThread, allow: str) -> None:
        self._allow = allow
        self._keys = load_allowed(allow)
        if not self._keys:
            raise UsageError(
                f"The allow list {allow!r} names no key, so nobody could connect.",
                hint="Put the receiver's public file (*.key) there.",
            )
        self._read_at = monotonic()
        self.denied = 0
        self._told: set[bytes] = set()
        self._socket = io.socket(zmq.ROUTER, bind=ADDRESS, on_message=self._on_message)

    def _on_message(self, parts: list[bytes]) -> None:
        # Route, empty, then: version, request, domain, address, identity, mechanism, credentials.
        route, empty, version, request, domain, address, _, mechanism, *credentials = parts
        good = (version, domain, mechanism) == (b"1.0", ZAP_DOMAIN, b"CURVE")
        key = credentials[0] if len(credentials) == 1 else b""
        if good and self._admits(key):
            answer = [b"200", b"OK", key.hex().encode(), b""]
        else:
            self._refuse(key, address)
            answer = [b"400", b"No access", b"", b""]
        self._socket.send_multipart([route, empty, b"1.0", request, *answer])

    def _admits(self, key: bytes) -> bool:
        if monotonic() - self._read_at > REREAD_S:
            self._read_at = monotonic()
            try:
                self._keys = load_allowed(self._allow)
            except UsageError as error:
                log.warning("the allow list stays as it was: %s", error)
        return key in self._keys

    def _refuse(self, key: bytes, address: bytes) -> None:
        self.denied += 1
        if key in self._told or len(self._told) >= MAX_TOLD:
            return
        self._told.add(key)
        log.warning(
            "a receiver at %s was refused: its key %s is not on the allow list",
            address.decode("ascii", "replace"),
            _text(key),
        )


def _text(key: bytes) -> str:
    return z85.encode(key).decode() if len(key) == 32 else "(none)"
