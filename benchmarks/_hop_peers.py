"""The peers of `hop.py`: the same three processes over imagezmq and multiprocessing.Queue.

Messages carry the moment they were made (``time.monotonic_ns``), as retain's frames do.
"""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SHAPE = (1080, 1920, 3)
Take = Callable[[np.ndarray, int], None]
"""What the last process does with an image and the moment it was made."""


def images(count: int, pace_s: float) -> Iterator[np.ndarray]:
    """The same few pictures over and over: a source that costs next to nothing."""
    made = [np.full(SHAPE, value, np.uint8) for value in range(4)]
    due = time.monotonic()
    for seq in range(count):
        due += pace_s
        time.sleep(max(0.0, due - time.monotonic()) if pace_s else 0.0)
        yield made[seq % 4]


def with_queue(frames: int, pace_s: float, take: Take) -> None:
    context = multiprocessing.get_context("spawn")
    first: Any = context.Queue(4)
    second: Any = context.Queue(4)
    workers = [
        context.Process(target=_queue_make, args=(first, frames, pace_s)),
        context.Process(target=_queue_pass, args=(first, second, frames)),
    ]
    for worker in workers:
        worker.start()
    for _ in range(frames):
        take(*second.get())
    for worker in workers:
        worker.join()


def _queue_make(out: Any, frames: int, pace_s: float) -> None:
    for image in images(frames, pace_s):
        out.put((image, time.monotonic_ns()))


def _queue_pass(inbox: Any, out: Any, frames: int) -> None:
    for _ in range(frames):
        out.put(inbox.get())


def with_imagezmq(frames: int, pace_s: float, take: Take, transport: str = "tcp") -> None:
    """``tcp`` on loopback is what its documentation shows; ``ipc`` is what ZeroMQ can do best."""
    import imagezmq

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        first, second = _addresses(transport, folder)
        workers = [
            context.Process(target=_imagezmq_make, args=(first, frames, pace_s)),
            context.Process(target=_imagezmq_pass, args=(first, second, frames)),
        ]
        hub = imagezmq.ImageHub(open_port=second)
        for worker in workers:
            worker.start()
        for _ in range(frames):
            made, image = hub.recv_image()
            hub.send_reply()
            take(image, int(made))
        for worker in workers:
            worker.join()
        hub.close()


def _addresses(transport: str, folder: str) -> tuple[str, str]:
    if transport == "ipc":
        return f"ipc://{folder}/1", f"ipc://{folder}/2"
    free = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free.append(f"tcp://127.0.0.1:{probe.getsockname()[1]}")
    return free[0], free[1]


def _imagezmq_make(address: str, frames: int, pace_s: float) -> None:
    import imagezmq

    sender = imagezmq.ImageSender(connect_to=address)
    for image in images(frames, pace_s):
        sender.send_image(str(time.monotonic_ns()), image)
    sender.close()


def _imagezmq_pass(inbox: str, out: str, frames: int) -> None:
    import imagezmq

    hub, sender = imagezmq.ImageHub(open_port=inbox), imagezmq.ImageSender(connect_to=out)
    for _ in range(frames):
        made, image = hub.recv_image()
        hub.send_reply()
        sender.send_image(made, image)
    sender.close()
    hub.close()
