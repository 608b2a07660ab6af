"""Stand-ins for a detector with a memory: a stage without a network, a host that sees colours."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from retain.datasets.detect.base import Clips, Found, found_of
from retain.datasets.detect.open import open_clips
from retain.models.mamba import stage
from retain.models.mamba.gated import Gated, GatedConfig
from retain.models.mamba.host import Cells, Predicted
from retain.models.mamba.memory import Memory, MemoryOptions
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame, Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Boxes, Recall, Support
from retain.pipeline.stage import SourceInfo, StatValue

SIZE = 160, 120
NAMES = ("square", "disc")
MISSED = 5
"""Every so many frames the detector alone misses the square."""


def boxes_of(
    rows: Sequence[Sequence[float]],
    scores: Sequence[float],
    labels: Sequence[int],
    memory: Sequence[float] | None = None,
    supports: Sequence[tuple[Support, ...]] = (),
    names: tuple[str, ...] = NAMES,
    tracks: Sequence[int] | None = None,
) -> Boxes:
    count = len(scores)
    return Boxes(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int32),
        names,
        np.array([-1] * count if tracks is None else tracks, np.int32),
        np.array([0.0] * count if memory is None else memory, np.float32),
        tuple(supports),
    )


def picture(seq: int, size: tuple[int, int] = SIZE) -> Image:
    """A square that moves to the right over grey noise, and a disc that stays."""
    width, height = size
    image = np.random.default_rng(seq).integers(0, 90, (height, width, 3), np.uint8)
    x0, y0, x1, y1 = (int(value) for value in square(seq))
    image[y0:y1, x0:x1] = (230, 40, 30)
    image[80:110, 20:50] = (30, 220, 60)
    return image


def square(seq: int) -> tuple[float, float, float, float]:
    left = 10.0 + 2 * seq % 100
    return left, 20.0, left + 30, 50.0


def frame(
    seq: int, size: tuple[int, int] = SIZE, stream: str = "main", broken: bool = False
) -> Frame:
    return Frame(stream, seq, seq, Fraction(1, 25), picture(seq, size), discontinuity=broken)


class Squares:
    """Stands in for ``retain.models.mamba.stage:Detect``: takes its options, sees nothing.

    ``host``: ``squares`` tells of ``picture``; an address of ``open_clips`` tells its truth; other
    words change what it does: ``empty`` finds nothing, ``cut`` begins anew at frame 12, ``odd``
    refuses its options as a stage does.
    """

    def __init__(
        self, host: str = "squares", compare: bool = True, classes: str = "", **options: object
    ) -> None:
        if host == "odd":
            raise UsageError("There is no detector 'odd'.", hint="Did you mean 'small'?")
        self.host, self.compare = host, compare
        self._clips: Clips | None = open_clips(host) if "://" in host else None

    def process(self, packet: Packet) -> Packet:
        frame = packet.frame
        found, plain = self._clip(frame) if self._clips is not None else self._squares(frame)
        reset = "another scene" if self.host == "cut" and frame.seq == 12 else ""
        recall = Recall(reset, 10, 20, 4000, 8000, {"detector": 10.0, "memory": 4.0})
        told = {"boxes": found, "recall": recall} | ({"plain": plain} if self.compare else {})
        return packet.plus(**told)

    def _squares(self, frame: Frame) -> tuple[Boxes, Boxes]:
        if self.host == "empty":
            return boxes_of([], [], []), boxes_of([], [], [])
        here, disc = square(frame.seq), (20.0, 80.0, 50.0, 110.0)
        missed = frame.seq % MISSED == MISSED - 1
        supports = (
            (Support(frame.seq - 1, frame.seconds - 0.04, square(frame.seq - 1), 0.7),
             Support(frame.seq - 3, frame.seconds - 0.12, square(frame.seq - 3), 0.3)),
            (),
        )  # fmt: skip
        found = boxes_of(
            [here, disc], [0.9, 0.8], [0, 1], [0.8 if missed else 0.0, 0.0],
            supports if missed else (),
        )  # fmt: skip
        rows = [1] if missed else [0, 1]
        plain = boxes_of([[here, disc][k] for k in rows], [[0.9, 0.8][k] for k in rows], rows)
        return found, plain

    def _clip(self, frame: Frame) -> tuple[Boxes, Boxes]:
        """All that is there; the detector alone misses the first object in each third frame."""
        assert self._clips is not None
        clip = self._clips[int(frame.meta["clip"])]
        truth = clip.truth(int(frame.meta["frame"]))
        some = np.flatnonzero(truth.real)
        parts = []
        for rows in (some, some[1:] if frame.seq % 3 == 2 else some):
            scores = np.full(len(rows), 0.9)
            parts.append(boxes_of(truth.boxes[rows].tolist(), scores.tolist(),
                                  truth.labels[rows].tolist(), names=clip.names))  # fmt: skip
        return parts[0], parts[1]

    def stats(self) -> Mapping[str, StatValue]:
        return {"readout": "none", "memory_bytes": 4000}

    def close(self) -> None: ...


class Colours:
    """A Host that finds red and green cells of 16 pixels."""

    names = ("red", "green")
    channels = 8
    digest = "colours"
    side = 160

    def describe(self, images: Sequence[Image]) -> list[Cells]:
        return [self._cells(image) for image in images]

    def _cells(self, image: Image) -> Cells:
        height, width = image.shape[0] // 16, image.shape[1] // 16
        part = torch.from_numpy(image[: 16 * height, : 16 * width].astype(np.float32) / 255)
        mean = part.reshape(height, 16, width, 16, 3).mean((1, 3)).reshape(-1, 3)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        corner = 16.0 * torch.stack([x, y], -1).reshape(-1, 2)
        rows = torch.cat([mean, mean.square(), corner / 160], 1)
        anchors = torch.cat([corner, corner + 16], 1)
        levels = torch.zeros(len(rows), dtype=torch.int64)
        return Cells(rows, anchors, levels, (image.shape[1], image.shape[0]), 1.0)

    def predict(self, rows: Tensor, cells: Cells, which: Tensor | None = None) -> Predicted:
        anchors = cells.anchors if which is None else cells.anchors[which]
        red, green = rows[:, 0] - rows[:, 1], rows[:, 1] - rows[:, 0]
        objectness = 16 * torch.maximum(red, green) - 6
        return Predicted(objectness, 8 * torch.stack([red, green], 1), anchors)

    def found(
        self, predicted: Predicted, cells: Cells, threshold: float = 0.01
    ) -> tuple[Found, Tensor]:
        scores, labels = predicted.scores.max(1)
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] >= threshold]
        boxes = predicted.boxes[order] / cells.scale
        return found_of(boxes.numpy(), scores[order].numpy(), labels[order].numpy()), order


class Pictures:
    """A source of ``picture``, a finite one."""

    def __init__(self, frames: int = 30, delay_s: float = 0.0) -> None:
        self._frames, self._delay_s = frames, delay_s

    def open(self) -> SourceInfo:
        return SourceInfo(kind="finite", description="pictures")

    def frames(self) -> Iterator[Frame]:
        for seq in range(self._frames):
            time.sleep(self._delay_s)
            yield frame(seq)

    def close(self) -> None: ...


def opened(host: str, bank: str, mode: str, carry: bool, *rest: object) -> object:
    """Stands in for ``stage.open_parts``: ``Colours``, with a read-out that changes boxes."""
    torch.manual_seed(0)
    readout = Gated(GatedConfig(Colours.channels, Colours.side)).eval()
    readout.scale.fill_(1.0)
    timed = stage.Timed(Colours())
    options = MemoryOptions(mode="none" if bank == "none" else "gated", carry=carry, capacity=40)
    reads = None if bank == "none" else readout
    return timed, lambda stream: Memory(timed, reads, options, stream), {"readout": bank}
