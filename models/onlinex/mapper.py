"""The neural profile of `retain reconstruct`: the network in place of tracker, builder and map.

It has the face of ``models.scene.mapper.Mapper``, so that the stage, the page, the report and the
exports do not know which of the two they have. What it remembers lies in one hub: ``state`` (anchor
tokens, the previous picture and its tokens, the pose: always the same bytes) and ``map`` (Gaussians
with the features they are fused by, at most ``budget``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retain.datasets.scene.base import Shot
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import Gaussians
from retain.memory.carry import Carry
from retain.memory.gaussian.keyframe import MapView
from retain.memory.hub import Hub
from retain.memory.notes import Notes
from retain.models.curvestream import torch_threads
from retain.models.onlinex import weights
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.fusion import Fused
from retain.models.onlinex.network import OnlineX
from retain.models.onlinex.types import Maps, State
from retain.models.scene.kind import Kind, kind_in, lens_of
from retain.models.scene.options import MapperOptions
from retain.models.scene.told import Told
from retain.pipeline.errors import SourceError, StateError, UsageError
from retain.pipeline.frame import Image
from retain.pipeline.results import Pose, SplatDelta
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.models.scene.refine import Refiner

Matrix = NDArray[np.float64]

MOST = 50_000
"""Gaussians at most, whatever the budget: all of them are looked through for every frame."""
TELL_EVERY = 5
"""Frames between two deltas; each is the whole map."""
_NOTES_BYTES = 1 << 14
_SEEN_FROM = 0.02
"""Opacity from which a Gaussian is part of what is read."""


class NeuralMapper:
    """Maps one stream of pictures without poses and depth; lengths are those of the training's
    rooms. Raises UsageError where the budget is too small or there are no such weights."""

    def __init__(self, stream: str, kind: Kind, options: MapperOptions) -> None:
        self.stream, self._options = stream, options
        self.kind = replace(kind, given=False, depth=False)
        self.net = weights.load(options.weights)
        self._digest = digest(self.net)
        self._carry = Carry(_shapes(self.net))
        fixed = self._carry.min_bytes + _NOTES_BYTES
        row = row_bytes(self.net.config)
        self.budget = min(MOST, (options.budget_bytes - fixed) // row - 1)
        if self.budget < self.net.config.gaussians:
            need = fixed + row * (self.net.config.gaussians + 1)
            raise UsageError(
                f"A neural map needs {need / 1e6:.1f} MB or more, not "
                f"{options.budget_bytes / 1e6:.1f}.",
                hint="Give it more with --memory-mb.",
            )
        self._fused, self._notes = Notes(row * (self.budget + 1)), Notes(_NOTES_BYTES)
        self.hub = Hub(options.budget_bytes, stream)
        self.hub.add("notes", self._notes)
        self.hub.add("state", self._carry)
        self.hub.add("map", self._fused)
        self.map = NeuralMap(self)
        self.seq = self.held_out = -1
        self._steps = self._keyframes = 0
        self.told = Told()

    def check(self, camera: Camera) -> None:
        """Any camera will do: the network is told of it with every picture."""

    @property
    def begun(self) -> bool:
        return self._keyframes > 0

    def look(self, shot: Shot, *, may_hold_out: bool, gate: float = 1.0) -> Pose:
        """Take in one shot. ``may_hold_out``: it may be kept from the map, to judge it by;
        ``gate``: 0 keeps it from the map too, between 0 and 1 it is believed less. The network's
        state sees it all the same, as a tracker would."""
        self.seq, parts = shot.seq, {}
        held = may_hold_out and self.begun
        with torch.no_grad(), torch_threads(self._options.threads):
            began = perf_counter()
            image, K = as_network(shot.image, shot.camera, self.net.config.side)
            out, state = self.net.step(image, K, self._state())
            c2w = self._pose(state)
            turned = torch.from_numpy(c2w).float()[None]
            self._carry.write(self.stream, {**state.tensors(), "pose": turned})
            self._steps = state.step
            parts["network"] = _ms(began)
            written = not held and gate > 0
            if written:
                began = perf_counter()
                known = self.net.fuse(self._known(), out.believed(gate), self.budget)
                self._fused.write(self.stream, _arrays(known))
                self._keyframes += 1
                parts["fuse"] = _ms(began)
        if held:
            self.held_out = shot.seq
        return Pose(
            state="tracked",
            reason="",
            c2w=c2w,
            anchor=self._keyframes - 1,
            local=np.eye(4),
            inliers=0,
            keyframe=written,
            held_out=held,
            active=self.net.config.gaussians,
            stable=len(self._fused.read(self.stream).get("weight", ())),
            nbytes=self.hub.nbytes,
            byte_budget=self.hub.budget_bytes,
            parts_ms=parts,
            truth=shot.c2w,
        )

    def _pose(self, state: State) -> Matrix:
        """Of the newest camera, its turn made a rotation again: products of thousands drift."""
        c2w = state.pose[0].double().numpy()
        if not np.isfinite(c2w).all():
            raise StateError(
                f"The network's pose of frame {self.seq} is not finite.",
                hint="Its weights are damaged or of another training; try --weights auto.",
            )
        u, _, vt = np.linalg.svd(c2w[:3, :3])
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = u @ vt, c2w[:3, 3]
        return out

    def settle(self) -> None:
        """The map is what it is: nothing waits."""

    @contextmanager
    def refining(self, seqs: Collection[int] | None = None) -> Iterator[Refiner]:
        """Raises UsageError: the network says the map, nothing refines it."""
        raise UsageError("A neural map is not refined.", hint="Leave out --finish and --refine.")
        yield  # a generator, as the other profile's is

    def delta(self, whole: bool = False) -> SplatDelta | None:
        """The whole map, now and then; None when nothing came since, or it is too early."""
        from retain.datasets.splats.splat import to_records

        if not whole and self._keyframes - self.told.of < TELL_EVERY:
            return None
        self.told.of, self.told.epoch = self._keyframes, self.told.epoch + 1
        view = self.map.read(self.stream)
        nothing = np.zeros(0, np.uint32)
        return SplatDelta(self.told.epoch, True, nothing, view.ids, to_records(view.gaussians))

    @property
    def nbytes(self) -> int:
        return self.hub.nbytes

    def stats(self) -> Mapping[str, StatValue]:
        return {
            "memory_bytes": self.nbytes,
            "budget_bytes": self.hub.budget_bytes,
            "poses": "estimated",
            "map_stable": len(self._fused.read(self.stream).get("weight", ())),
            "state_bytes": self._carry.nbytes(self.stream),
        }

    def save(self, path: str) -> None:
        """Write all memories to one file, atomically."""
        kind = self.kind
        self._notes.write(self.stream, {
            "camera": lens_of(kind.camera),
            "size": np.array([kind.camera.width, kind.camera.height]),
            "kind": np.array([kind.given, kind.depth, kind.codes], np.uint8),
            "unit": np.array([kind.unit]),
            "counters": np.array([self._steps, self._keyframes, self.held_out]),
            "budget": np.array([self._options.budget_bytes]),
            "weights": np.frombuffer(_lasting(self._options.weights).encode(), np.uint8),
            "digest": np.frombuffer(self._digest.encode(), np.uint8),
            "told": self.told.array(),
        })  # fmt: skip
        try:
            self.hub.snapshot(path, self.seq)
        finally:
            self._notes.reset(self.stream)  # saving leaves no trace in what is told of the memory

    def load(self, path: str) -> None:
        """Take all memories from ``path``. Raises StateError when it does not fit."""
        self.seq = self.hub.restore(path)
        notes = dict(self._notes.read(self.stream))
        self._notes.reset(self.stream)
        if notes.get("digest", np.zeros(0, np.uint8)).tobytes() != self._digest.encode():
            raise StateError(
                f"{path} was made by another network than these weights are.",
                hint="Name the weights it was made with: --weights FILE.",
            )
        try:
            self._steps, self._keyframes, self.held_out = map(int, notes["counters"])
        except (KeyError, ValueError) as error:
            raise StateError(f"{path} holds no neural map: {error}.") from error
        self.told = Told.told_in(notes, path)

    @staticmethod
    def open(path: str, options: MapperOptions) -> NeuralMapper:
        """The mapper whose state lies in ``path``. Raises StateError when that is no such map."""
        from retain.memory.snapshot import load

        file = load(path)
        if not is_neural(file.memories):
            raise StateError(f"{path} holds no neural map.", hint="Leave out --profile neural.")
        kind = kind_in(file.memories["notes"][1].tensors, path)
        mapper = NeuralMapper(file.stream, kind, options)
        mapper.load(path)
        return mapper

    def gaussians(self) -> Gaussians:
        """The map as the network says it, in the first camera's frame."""
        known = self._known()
        if known is None:
            return Gaussians.empty(codes=True)
        with torch.no_grad(), torch_threads(self._options.threads):
            return as_gaussians(self.net.scene(known))

    def _state(self) -> State:
        if not self._steps:
            return self.net.begin(1)
        return State(**self._carry.read(self.stream), step=self._steps)

    def _known(self) -> Fused | None:
        held = self._fused.read(self.stream)
        if not held:
            return None
        return Fused(1, **{name: torch.from_numpy(value) for name, value in held.items()})


def read_neural(
    path: str, notes: Mapping[str, np.ndarray], weights: str = ""
) -> tuple[Gaussians, Camera]:
    """All Gaussians of a saved state with these ``notes``, and the camera that saw them.
    ``weights``: where those it was made with lie now, if not where they did.

    Raises StateError when it is damaged or was made with others, UsageError when they are gone."""
    try:
        (budget,), name = map(int, notes["budget"]), notes["weights"].tobytes().decode()
    except (KeyError, ValueError) as error:
        raise StateError(f"{path} holds no neural map: {error}.") from error
    options = MapperOptions(
        budget_bytes=budget, refine=0, refine_s=0.0, cell=1.0, seed=0, threads=1,
        weights=weights or name,
    )  # fmt: skip
    try:
        mapper = NeuralMapper.open(path, options)
    except (UsageError, SourceError) as error:
        if weights:
            raise
        raise UsageError(
            f"The weights that {path} was made with cannot be read: {error.what}",
            hint="Name where they lie now: --weights FILE.",
        ) from error
    return mapper.gaussians(), mapper.kind.camera


class NeuralMap:
    """What is read of the map, as of a ``GaussianMemory``; all of it is stable."""

    def __init__(self, mapper: NeuralMapper) -> None:
        self._mapper = mapper

    def read(self, stream: str, query: str = "all") -> MapView:
        """``active``: nothing, since what came with the newest frame is fused already."""
        found = self._mapper.gaussians() if query != "active" else Gaussians.empty(codes=True)
        n, seq = len(found), self._mapper.seq
        return MapView(
            found,
            np.arange(n, dtype=np.uint32),
            n,
            np.ones(n, np.float32),
            np.zeros((n, 3), np.float32),
            found.means,
            np.full(n, seq, np.int32),
            np.full(n, seq, np.int32),
        )

    def poses(self, stream: str) -> dict[int, Matrix]:
        """None: poses are those of their frames, nothing corrects them later."""
        return {}


def digest(net: OnlineX) -> str:
    """SHA-256 of a network's configuration and weights."""
    sha = hashlib.sha256(repr(net.config).encode())
    for name, value in sorted(net.state_dict().items()):
        sha.update(name.encode())
        sha.update(value.contiguous().numpy().tobytes())
    return sha.hexdigest()


def _lasting(name: str) -> str:
    """The name of weights as it can be read from any folder."""
    path = weights.locate(name)
    return name if path.parent == weights.locate("auto").parent else os.path.realpath(path)


def is_neural(memories: Mapping[str, object]) -> bool:
    """Whether a saved state is of this profile, by the names of its memories."""
    return {"state", "map", "notes"} <= set(memories) and "keyframes" not in memories


def as_network(image: Image, camera: Camera, side: int) -> tuple[Tensor, Tensor]:
    """The middle square of ``image`` uint8 [H, W, 3] as f32 [1, 3, side, side] in 0..1, and its
    intrinsics f32 [1, 3, 3] in pixels."""
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = np.ascontiguousarray(image[top : top + edge, left : left + edge])
    scale = side / edge
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = square if scale == 1 else cv2.resize(square, (side, side), interpolation=way)
    K = torch.tensor([
        [camera.fx * scale, 0.0, (camera.cx - left) * scale],
        [0.0, camera.fy * scale, (camera.cy - top) * scale],
        [0.0, 0.0, 1.0],
    ])  # fmt: skip
    return torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255, K[None]


def as_gaussians(maps: Maps) -> Gaussians:
    """Those of the first of a batch that can be seen."""
    arrays = {name: getattr(maps, name)[0].numpy() for name in Maps.__slots__}
    some = arrays["opacities"] > _SEEN_FROM
    return Gaussians(
        means=arrays["centres"][some],
        quats=arrays["quats"][some],
        scales=np.maximum(arrays["scales"][some], 1e-6),
        opacities=np.clip(arrays["opacities"][some], 0, 1),
        colors=np.clip(arrays["colours"][some], 0, 1),
        codes=arrays["codes"][some],
    )


def row_bytes(config: OnlineXConfig) -> int:
    """Of one Gaussian in the map: key, weight, values, features."""
    return 8 + 4 * (1 + 14 + config.language + config.head_dim)


def _shapes(net: OnlineX) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in net.begin(1).tensors().items()}


def _arrays(known: Fused) -> dict[str, np.ndarray]:
    return {name: getattr(known, name).numpy() for name in ("keys", "weight", "values", "features")}


def _ms(began: float) -> float:
    return round(1000 * (perf_counter() - began), 3)
