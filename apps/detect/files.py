"""The files of `retain detect` that other programs read: results.jsonl, COCO, MOT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from retain.apps.detect.arms import Rows
from retain.pipeline.errors import RetainError
from retain.pipeline.frame import Frame
from retain.pipeline.results import Boxes

TOLD_SUPPORTS = 3
"""Remembered rows that are written down of a box."""


class Row(msgspec.Struct, frozen=True):
    """One box on a line of results.jsonl."""

    box: tuple[float, float, float, float]
    """x1 y1 x2 y2 in pixels of the frame."""
    score: float
    label: str
    track: int = -1
    memory: float = 0.0
    supports: tuple[tuple[int, tuple[float, float, float, float], float], ...] = ()
    """(seq, box there, share) of what was remembered."""


class Line(msgspec.Struct, frozen=True):
    """What is read back of a line of results.jsonl."""

    seq: int
    seconds: float
    size: tuple[int, int]
    results: dict[str, Any]
    clip: int = -1
    frame: int = -1

    def rows(self, name: str) -> tuple[Row, ...] | None:
        """``boxes`` or ``plain``; None where the line has none."""
        told = self.results.get(name)
        return None if told is None else msgspec.convert(told, tuple[Row, ...])


def told_rows(found: Boxes) -> list[Row]:
    """``found`` for a line of results.jsonl."""
    supports = found.supports or ((),) * len(found.scores)
    return [
        Row(
            _box(box),
            round(float(score), 5),
            found.names[label],
            int(track),
            round(float(memory), 4),
            tuple((s.seq, _box(s.box), round(s.share, 4)) for s in held[:TOLD_SUPPORTS]),
        )
        for box, score, label, track, memory, held in zip(
            found.boxes, found.scores, found.labels, found.tracks, found.memory, supports,
            strict=True,
        )
    ]  # fmt: skip


def _box(box: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(value), 2) for value in box)
    return x0, y0, x1, y1


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a results.jsonl, one in memory at a time. Raises RetainError for others."""
    decoder = msgspec.json.Decoder(Line)
    with path.open("rb") as file:
        for place, line in enumerate(file, 1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise RetainError(f"Line {place} of {path} cannot be read: {error}.") from error


def mot_lines(frame: Frame, found: Boxes, rows: Rows) -> str:
    """Lines of MOT's result files: frames and coordinates count from 1."""
    lines = []
    for row in rows:
        x0, y0, x1, y1 = (float(value) for value in found.boxes[row])
        box = ",".join(f"{value:.2f}" for value in (x0 + 1, y0 + 1, x1 - x0, y1 - y0))
        score = f"{found.scores[row]:.4f}"
        lines.append(f"{frame.seq + 1},{int(found.tracks[row])},{box},{score},-1,-1,-1\n")
    return "".join(lines)


def write_coco(path: Path, lines: Path, names: Sequence[str], stream: str) -> None:
    """``detections.json`` from a results.jsonl: one object that ``pycocotools.COCO`` opens, whose
    ``annotations`` are also what ``COCO.loadRes`` takes. One line in memory at a time.

    Picture ids are ``seq`` + 1; categories count from 1 in the order of ``names``.
    """
    place = {name: k for k, name in enumerate(names, 1)}
    with path.open("w", encoding="utf-8") as file:
        categories = [{"id": k, "name": name} for name, k in place.items()]
        file.write(f'{{"info": {json.dumps({"description": stream})},\n')
        file.write(f'"categories": {json.dumps(categories)},\n"images": [')
        for k, line in enumerate(read_lines(lines)):
            width, height = line.size
            image = {"id": line.seq + 1, "width": width, "height": height,
                     "file_name": f"{line.seq:06d}", "seconds": line.seconds}  # fmt: skip
            file.write((",\n" if k else "\n") + json.dumps(image))
        file.write('],\n"annotations": [')
        count = 0
        for line in read_lines(lines):
            for row in line.rows("boxes") or ():
                count += 1
                annotation = _annotation(count, line.seq + 1, place[row.label], row)
                file.write((",\n" if count > 1 else "\n") + json.dumps(annotation))
        file.write("]}\n")


def _annotation(number: int, image: int, category: int, row: Row) -> dict[str, Any]:
    x0, y0, x1, y1 = row.box
    width, height = round(x1 - x0, 2), round(y1 - y0, 2)
    told: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x0, y0, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "score": row.score,
        "memory": row.memory,
    }
    return told | ({"track_id": row.track} if row.track >= 0 else {})


def boxes_of(rows: Sequence[Row], names: Sequence[str]) -> tuple[Any, Any, Any, Any]:
    """Boxes [N, 4], scores, labels as places in ``names`` (-1 for others) and tracks [N]."""
    places = {name: k for k, name in enumerate(names)}
    return (
        np.array([row.box for row in rows], np.float32).reshape(-1, 4),
        np.array([row.score for row in rows], np.float32),
        np.array([places.get(row.label, -1) for row in rows], np.int64),
        np.array([row.track for row in rows], np.int64),
    )
