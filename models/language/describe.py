"""The stage that gives each frame of a scene language codes, for the map to keep."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from retain.memory import snapshot
from retain.memory.base import State
from retain.models.language.compress import Basis
from retain.models.language.teacher import SIDE, Teacher, make
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import View
from retain.pipeline.stage import StatValue

NAME = "language"


class Describe:
    """Puts the codes of what a teacher sees into each packet's ``view``, a grid of them.

    teacher   ``clip``, an OpenCLIP encoder, or ``classes`` of generated scenes
    dinoiser  checkpoint of CLIP-DINOiser, with ``clip``
    side      pixels of the shorter side that CLIP sees
    threads   of torch; results are the same bits for the same number only
    resume    a state saved by ``save``

    What it remembers is the basis its codes are in: fixed size, one stream.
    """

    def __init__(
        self,
        teacher: str = "clip",
        dinoiser: str = "",
        side: int = SIDE,
        device: str = "auto",
        download: bool = False,
        threads: int = 2,
        resume: str = "",
    ) -> None:
        self._teacher = make(
            teacher, dinoiser=dinoiser, side=side, device=device, download=download
        )
        self.basis = Basis(self._teacher.dim)
        self._threads, self._stream, self._seq = threads, "", -1
        self._kept: float = 1.0
        if resume:
            self.load(resume)

    def process(self, packet: Packet) -> Packet:
        from retain.models.curvestream import torch_threads

        frame, view = packet.frame, packet.results.get("view")
        if not isinstance(view, View):
            raise UsageError(f"Frames of {frame.stream!r} come without a view to put codes into.")
        with torch_threads(self._threads):
            features = self._teacher.dense(frame.image, view.labels)
        if frame.seq > self._seq:  # one that was seen before a resume teaches nothing again
            self._kept = self.basis.extend(features)
            self._stream, self._seq = frame.stream, frame.seq
        told = msgspec.structs.replace(view, codes=self.basis.codes(features), names=())
        return Packet(frame, {**packet.results, "view": told})

    def save(self, path: str) -> None:
        """Write the basis to ``path``, atomically. Raises StateError before the first frame."""
        if self._seq < 0:
            raise StateError("There is no language basis to save: no frame was seen yet.")
        state = State({"basis": self.basis.vectors}, {"floor": self.basis.floor})
        file = snapshot.MemoryFile(
            self._stream, self._seq, {NAME: ({"teacher": self._teacher.name}, state)}
        )
        snapshot.save(path, file)

    def salvage(self, path: str) -> None:
        """The basis of the frames before one that could not be described."""
        if self._seq >= 0:
            self.save(path)

    def load(self, path: str) -> None:
        """Continue from ``path``. Raises StateError when it is of another teacher."""
        teacher, basis, file = _read(path)
        if teacher != self._teacher.name or basis.dim != self._teacher.dim:
            raise StateError(f"{path} was made with the teacher {teacher!r}.")
        self.basis, self._stream, self._seq = basis, file.stream, file.seq

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "teacher": self._teacher.name,
            "directions": self.basis.rank,
            "kept": round(self._kept, 4),
            "memory_bytes": self.basis.vectors.nbytes,
        }

    def close(self) -> None:
        pass


def read_basis(path: str) -> tuple[str, Basis]:
    """The teacher's name and the basis in a file of ``Describe``. Raises StateError when it is
    none."""
    teacher, basis, _ = _read(path)
    return teacher, basis


def ask(teacher: Teacher, basis: Basis, word: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes that ``query.relevancy`` compares a map's with: of ``word`` [16], and of the teacher's
    canonical words [M, 16]. Not of unit length, for what the basis lacks is not seen."""
    others = [one for one in teacher.canonical if one != word]
    return basis.codes(teacher.text([word])[0]), basis.codes(teacher.text(others))


def _read(path: str) -> tuple[str, Basis, snapshot.MemoryFile]:
    file = snapshot.load(path)
    config, state = file.memories.get(NAME, ({}, State({}, {})))
    teacher, vectors = config.get("teacher"), state.tensors.get("basis")
    floor = state.header.get("floor")
    if not isinstance(teacher, str) or vectors is None or not isinstance(floor, float):
        raise StateError(f"{path} holds no language basis.")
    return teacher, Basis.of(vectors, floor), file
