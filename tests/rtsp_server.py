"""A small RTSP server for tests: one H.264 stream over interleaved TCP, as cameras send it.

It can ask for a user, fall silent, cut a picture in the middle, let its clock stand, freeze, be
killed and come back at the same port.
"""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

import av
import media
import numpy as np

RATE = 25
_TICKS = 90_000 // RATE


def encode(count: int, draw: Callable[[int], np.ndarray] = media.picture) -> list[list[bytes]]:
    """NAL units by picture: x264 without B-frames, a key picture every ten."""
    codec = av.CodecContext.create("libx264", "w")
    height, width = draw(0).shape[:2]
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.framerate = Fraction(RATE)
    codec.time_base = Fraction(1, RATE)
    codec.options = {"g": "10", "bf": "0", "tune": "zerolatency", "preset": "ultrafast"}
    pictures = []
    for k in range(count):
        frame = av.VideoFrame.from_ndarray(draw(k), "rgb24")
        frame.pts = k
        pictures += [bytes(packet) for packet in codec.encode(frame)]
    pictures += [bytes(packet) for packet in codec.encode(None)]
    return [[unit for unit in re.split(rb"\x00\x00\x00?\x01", data) if unit] for data in pictures]


class RtspServer:
    """Serves until ``kill``; every client is sent the clip from its beginning, over and over.

    user, password  what it asks for; empty: nothing
    behaviour       of the stream after ``healthy`` pictures: ``""`` goes on, ``silent`` sends no
                    more, ``cut`` breaks off in the middle of a picture, ``still`` repeats one time
                    stamp, ``frozen`` sends one key picture again and again, ``end`` hangs up
    codec           name in the description of the stream
    """

    def __init__(
        self,
        port: int = 0,
        *,
        user: str = "",
        password: str = "",
        behaviour: str = "",
        healthy: int = 50,
        codec: str = "H264",
        pictures: list[list[bytes]] | None = None,
    ) -> None:
        self.user, self.password = user, password
        self.behaviour, self.healthy, self.codec = behaviour, healthy, codec
        self.pictures = pictures or encode(50)
        self.refused = self.played = 0
        self.credentials: set[str] = set()
        """What clients said, decoded."""
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, userinfo: str = "") -> str:
        return f"rtsp://{userinfo}{'@' * bool(userinfo)}127.0.0.1:{self.port}/live"

    def kill(self) -> None:
        """Cut all connections, as a power failure does."""
        self._done.set()
        for each in (self._listener, *self._clients):
            with suppress(OSError):  # it is gone already
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def _accept(self) -> None:
        while not self._done.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        sender: threading.Thread | None = None
        try:
            for method, headers in _requests(client):
                head = f"RTSP/1.0 200 OK\r\nCSeq: {headers.get('cseq', '0')}\r\n"
                if method != "OPTIONS" and not self._knows(headers):
                    self.refused += 1
                    client.sendall(
                        head.replace("200 OK", "401 Unauthorized").encode()
                        + b'WWW-Authenticate: Basic realm="camera"\r\n\r\n'
                    )
                    continue
                client.sendall(head.encode() + self._answer(method))
                if method == "PLAY":
                    self.played += 1
                    sender = threading.Thread(target=self._send, args=(client,), daemon=True)
                    sender.start()
                if method == "TEARDOWN":
                    return
        except OSError:
            pass  # the client left
        finally:
            client.close()
            if sender:
                sender.join(10)

    def _knows(self, headers: dict[str, str]) -> bool:
        if not self.user:
            return True
        kind, _, told = headers.get("authorization", "").partition(" ")
        if kind != "Basic":
            return False
        self.credentials.add(base64.b64decode(told).decode())
        return f"{self.user}:{self.password}" in self.credentials

    def _answer(self, method: str) -> bytes:
        if method == "OPTIONS":
            return b"Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        if method == "DESCRIBE":
            sets = ",".join(base64.b64encode(unit).decode() for unit in self.pictures[0][:2])
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\n"
                f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 {self.codec}/90000\r\n"
                f"a=framerate:{RATE}\r\n"
                f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\n"
                "a=control:track1\r\n"
            ).encode()
            head = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
            return head.encode() + body
        if method == "SETUP":
            return b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
        return b"Session: 1\r\n\r\n"

    def _send(self, client: socket.socket) -> None:
        with suppress(OSError):  # the client left
            self._stream(client)

    def _stream(self, client: socket.socket) -> None:
        """The first 30 pictures come at once, so that nobody waits for the rate to be known."""
        number, stamp, k = 0, 12_345, 0
        while not self._done.is_set():
            odd = self.behaviour if k >= self.healthy else ""
            if odd == "silent":
                self._done.wait()
                return
            if odd == "end":
                client.shutdown(socket.SHUT_RDWR)
                return
            units = self.pictures[0 if odd == "frozen" else k % len(self.pictures)]
            stamp += 0 if odd == "still" else _TICKS
            parts = [part for unit in units for part in _fragments(unit)]
            for place, part in enumerate(parts):
                mark = 0x80 if place == len(parts) - 1 else 0
                head = struct.pack(">BBHII", 0x80, mark | 96, number & 0xFFFF, stamp, 7)
                packet = b"$\0" + struct.pack(">H", len(head) + len(part)) + head + part
                if odd == "cut":
                    client.sendall(packet[: len(packet) // 2])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(packet)
                number += 1
            k += 1
            if k > 30:
                time.sleep(1 / RATE)


def _fragments(unit: bytes, most: int = 1400) -> list[bytes]:
    """A NAL unit as RTP payloads: itself, or fragments (FU-A) with the first and last marked."""
    if len(unit) <= most:
        return [unit]
    kind, body = unit[0], unit[1:]
    pieces = [body[at : at + most] for at in range(0, len(body), most)]
    ends = {0: 0x80, len(pieces) - 1: 0x40}
    return [
        bytes((kind & 0xE0 | 28, ends.get(k, 0) | kind & 0x1F)) + piece
        for k, piece in enumerate(pieces)
    ]


def _requests(client: socket.socket) -> Iterator[tuple[str, dict[str, str]]]:
    """(method, headers in lower case) of each request; what is interleaved with them is RTCP."""
    data = b""
    while True:
        while data[:1] == b"$" and len(data) >= 4:
            length = 4 + struct.unpack(">H", data[2:4])[0]
            if len(data) < length:
                break
            data = data[length:]
        head, found, rest = data.partition(b"\r\n\r\n")
        if found and data[:1] != b"$":
            data = rest
            first, *lines = head.decode().split("\r\n")
            pairs = (line.partition(":") for line in lines)
            yield first.split(" ")[0], {name.lower(): told.strip() for name, _, told in pairs}
            continue
        more = client.recv(65_536)
        if not more:
            return
        data += more
