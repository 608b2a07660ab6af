"""A watch of a drawn film, running with its page or finished, for questions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from media import write_video

from retain.apps.page.ask import Asker
from retain.apps.page.server import Page
from retain.apps.watch import WatchOptions, build_graph, watch
from retain.pipeline.frame import Image
from retain.pipeline.run import start

SIZE = (128, 72)
SCENE = 25
"""Frames of a scene, of a second."""
COLOURS = [(200, 30, 30), (30, 190, 40), (40, 60, 220), (220, 200, 40), (20, 20, 20)]


def scene(k: int) -> Image:
    """The picture at frame ``k``: a ground of the scene's colour, and a disc that moves."""
    image = np.full((SIZE[1], SIZE[0], 3), COLOURS[k // SCENE % len(COLOURS)], np.uint8)
    return cv2.circle(image, (16 + 3 * (k % SCENE), 36), 12, (240, 240, 240), -1)


def film(folder: Path, seconds: int = 5) -> Path:
    return write_video(folder / "film.mp4", 25 * seconds, size=SIZE, draw=scene)


def options_of(source: Path, encoder: str = "pixels", **more: object) -> WatchOptions:
    return WatchOptions(
        source=str(source),
        encoder=encoder,
        fps=10.0,
        page=False,
        device="cpu",
        runner="inline",
        **more,  # type: ignore[arg-type]
    )


def result(source: Path, out: Path, encoder: str = "pixels") -> Path:
    """The folder of a watch that has ended."""
    return watch(options_of(source, encoder, out=out), lambda done: None).out or out


@contextmanager
def watched(source: Path, encoder: str = "pixels", frames: int = 12) -> Iterator[Page]:
    """The page of a watch that runs on, as if live, and has seen so many frames."""
    options = options_of(source, encoder, pace=2.0)
    page = Page("film", str(source), asker=Asker(str(source), encoder, "cpu"))
    page.start()
    seen, enough = 0, threading.Event()

    class Sink:
        def process(self, packet: object) -> None:
            nonlocal seen
            page.process(packet)  # type: ignore[arg-type]
            seen += 1
            if seen >= frames:
                enough.set()

        def close(self) -> None:
            page.close()

    try:
        graph = build_graph(options, live=False, page=False)
        with start(graph, runner="inline", sinks={"results": Sink()}) as run:
            page.attach(run)
            assert enough.wait(30)
            yield page
    finally:
        page.stop()


def jpeg(image: Image) -> bytes:
    done, data = cv2.imencode(".jpg", image[..., ::-1])
    assert done
    return bytes(data.tobytes())
