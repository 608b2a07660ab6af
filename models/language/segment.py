"""The stage that names pixels by words: open-vocabulary segmentation, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retain.memory.base import refuse_made
from retain.models.language import query
from retain.models.language.dinoiser import OBJECT, SURE
from retain.models.language.teacher import SIDE, Looked, clip
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks
from retain.pipeline.stage import StatValue

FLAGS = {"not-seen": "None of the words is seen."}
"""Doubts this stage has, and what they mean."""


class SegmentText:
    """Adds ``masks`` to each packet: a plane per word, on the grid of patches.

    text        words with commas between them
    encoder     ``clip``, or an OpenCLIP encoder
    dinoiser    checkpoint of CLIP-DINOiser; empty: patches are not pooled, and objectness does
                not say where nothing is
    background  words that compete without being named; empty: each pixel has one of ``text``
    side        pixels of the shorter side that CLIP sees
    download    may weights be fetched
    threads     of torch; results are the same bits for the same number only

    Frames are alone: nothing is remembered. Raises UsageError for words it cannot use and for
    weights that are not there.
    """

    def __init__(
        self,
        text: str,
        encoder: str = "clip",
        dinoiser: str = "",
        background: str = ",".join(query.BACKGROUND),
        side: int = SIDE,
        device: str = "auto",
        download: bool = False,
        threads: int = 2,
    ) -> None:
        self.words = query.words_in(text)
        self._teacher = clip(
            encoder, dinoiser=dinoiser, side=side, device=device, download=download
        )
        others = [word.strip() for word in background.split(",")]
        others = [word for word in others if word and word not in self.words]
        self._words = self._teacher.text(self.words)
        self._background = self._teacher.text(others) if others else None
        self._threads = threads
        self._frames = 0

    def process(self, packet: Packet) -> Packet:
        from retain.models.curvestream import torch_threads

        refuse_made(packet.frame)
        with torch_threads(self._threads):
            looked = self._teacher.look(packet.frame.image)
        self._frames += 1
        return packet.plus(masks=self._masks(looked, packet.frame))

    def _masks(self, looked: Looked, frame: Frame) -> Masks:
        likely = query.probabilities(looked.features, self._words, self._background)
        if looked.objects is not None and self._background is not None:
            doubtful = (likely.max(axis=2) < SURE) & (looked.objects <= OBJECT)
            likely[doubtful] = 0
        planes = np.rint(255 * likely.transpose(2, 0, 1)).astype(np.uint8)
        height, width = planes.shape[1:]
        # A rim, so that the outer half of a patch at the edge is its own too.
        planes = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
        x, y = frame.width / width, frame.height / height
        place = np.array([[x, 0, -x], [0, y, -y]], np.float32)
        seen = 2 * planes.max(axis=0).astype(int) > 255
        return Masks(planes, self.words, place, () if seen.any() else ("not-seen",))

    def stats(self) -> Mapping[str, StatValue]:
        return {"encoder": self._teacher.name, "words": len(self.words), "frames": self._frames}

    def close(self) -> None:
        pass
