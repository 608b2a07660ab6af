"""Tracker, builder, memory and refiner of one stream, joined: shots in, a map that grows."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from retain.datasets.scene.base import Shot
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.gaussians import CODE, Gaussians
from retain.kernels.rasterize.render import Rendered, render
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.keyframe import Keyframe
from retain.memory.gaussian.memory import GaussianMemory
from retain.memory.hub import Hub
from retain.memory.notes import Notes
from retain.memory.views import StoredView, ViewConfig, ViewMemory
from retain.models.curvestream import torch_threads
from retain.models.scene.anchor import Anchor
from retain.models.scene.builder import build, complete
from retain.models.scene.clock import Clock
from retain.models.scene.kind import Kind, kind_in, lens_of, map_config, plain, with_lens, words
from retain.models.scene.options import MapperOptions
from retain.models.scene.poses import KeyframePoses, Target
from retain.models.scene.refine import Refiner
from retain.models.scene.told import Told
from retain.models.scene.tracking.base import MakesDepth, Skips, Spares, Tracked
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import KNOWN, Pose, SplatDelta
from retain.pipeline.stage import StatValue

Matrix = NDArray[np.float64]

NOTES_BYTES = 1 << 20
"""For the counters and the path of a tracker that says no number of its own."""
VGA = 640 * 480
WINDOW = 8
"""Newest pictures that are refined against."""
MOST_STEPS = 64
"""Steps per keyframe where time decides how many there are."""
VIEW_EVERY = 3
"""Frames between two pictures kept, beside those of keyframes: the map must look right between
keyframes too."""
OLD_VIEWS = 2
"""Old pictures drawn beside the window's for each refinement (MonoGS)."""


class Mapper:
    """Maps one stream of one kind."""

    def __init__(self, stream: str, kind: Kind, options: MapperOptions) -> None:
        from retain.models.scene.tracking.make import make_tracker

        self.stream, self.kind, self._options = stream, kind, options
        self.views = ViewMemory(ViewConfig(kind.camera.width, kind.camera.height))
        self.tracker, keyframes = make_tracker(
            stream, given=kind.given, depth=kind.depth, fit=options.fit,
            features=options.features,
        )  # fmt: skip
        self._notes = Notes(NOTES_BYTES + _state_bytes(self.tracker, kind.camera))
        self._keyframes = keyframes
        self._measure(kind.unit)
        self._anchor = self._newest = Anchor(-1, np.eye(4))
        """The newest keyframe that the map was given, and the newest that the tracker made."""
        self.told = Told()
        self._viewed = -1
        self.seq = -1
        """Of the last frame looked at."""
        self.held_out = -1
        """Seq of the last frame that was kept from the map."""
        self._rng = np.random.default_rng(options.seed)

    def _measure(self, unit: float) -> None:
        """An empty map in which ``unit`` counts as a metre, beside the other memories."""
        self.kind, options = replace(self.kind, unit=unit), self._options
        config = map_config(self.kind, options.budget_bytes, options.cell)
        self.map = GaussianMemory(config)
        self.hub = Hub(options.budget_bytes, self.stream)
        self.hub.add("notes", self._notes)
        self.hub.add("keyframes", self._keyframes)
        self.hub.add("views", self.views)
        self.hub.add("map", self.map, weight=4.0)

    def check(self, camera: Camera) -> None:
        """Raises UsageError for a camera that this map cannot be made with."""
        first = self.kind.camera
        size, other = (f"{c.width}x{c.height}" for c in (first, camera))
        if size != other:
            raise UsageError(
                f"Pictures of {self.stream!r} are {other} pixels now; they were {size}.",
                hint="A map is made of pictures of one size; give each its own run.",
            )
        if camera != first and isinstance(self.tracker, MakesDepth):
            raise UsageError(
                f"The camera of {self.stream!r} has a focal length of {camera.fx:.1f} pixels now; "
                f"it was {first.fx:.1f}.",
                hint="Without depth, a map is made with one camera; give each its own run.",
            )

    def look(self, shot: Shot, *, may_hold_out: bool, gate: float = 1.0) -> Pose:
        """Take in one shot. ``may_hold_out``: it may be kept from the map, to judge it by;
        ``gate``: how much of it the map takes, see ``_write``."""
        clock, self.seq = Clock(), shot.seq
        if not self.kind.depth:
            shot = replace(shot, depth=None)  # metres would not fit lengths in another unit
        if (may_hold_out or not gate) and self.begun and isinstance(self.tracker, Spares):
            self.tracker.spare()
        with clock("track"):
            tracked = self.tracker.track(shot, self._draw)
        if tracked.correction:
            with clock("loop"):
                self._correct(tracked.correction)
        if tracked.keyframe and not self.begun and isinstance(self.tracker, MakesDepth):
            self._measure(self.tracker.unit)
        known = tracked.state in KNOWN
        held = may_hold_out and known and not tracked.keyframe and self.begun
        if tracked.keyframe:
            self._newest = Anchor(self._newest.id + 1, tracked.c2w)
        if known and not held:
            self._write(shot, tracked, gate, clock)
        if held:
            self.held_out = shot.seq
        self._take_dense(clock)
        counts = self.map.stats(self.stream)
        return Pose(
            state=tracked.state,
            reason=tracked.reason,
            c2w=tracked.c2w,
            anchor=self._anchor.id,
            local=self._anchor.local(tracked.c2w),
            inliers=int(tracked.inliers),
            keyframe=bool(tracked.keyframe),
            held_out=held,
            active=int(counts["active"]),
            stable=int(counts["stable"]),
            nbytes=self.nbytes,
            byte_budget=self.hub.budget_bytes,
            parts_ms=clock.parts,
            truth=None if self.kind.given else shot.c2w,
        )

    def _write(self, shot: Shot, tracked: Tracked, gate: float, clock: Clock) -> None:
        """What the map takes of a shot. ``gate`` 0: nothing; a keyframe that is due then is the
        next shot's that is let in (of pictures alone it is left out); between 0 and 1 its Gaussians
        are believed less."""
        if not gate:
            if tracked.keyframe and isinstance(self.tracker, Skips):
                self.tracker.skip()
            return
        due = tracked.keyframe or (self.kind.depth and self._newest is not self._anchor)
        if due:
            self._anchor = self._newest
        if shot.depth is not None:
            self._learn(shot, tracked.c2w, gate if due else 0.0, clock)

    def _learn(self, shot: Shot, c2w: Matrix, sure: float, clock: Clock) -> None:
        """What a shot with depth says of the map, and what it adds as a keyframe, if ``sure``."""
        assert shot.depth is not None
        with clock("observe"):
            full = replace(shot, depth=complete(shot.depth))
            self.map.observe(self.stream, shot.seq, shot.camera, c2w, full.depth)
        if sure:
            self._add(self._anchor, full, c2w, sure, clock)
        if sure or shot.seq - self._viewed >= VIEW_EVERY:
            self._keep(shot, self._anchor.id, self._anchor.local(c2w))
        if sure:
            self._refine(clock)

    def settle(self) -> None:
        """The stream is over: what was waiting is taken in, and all of the map becomes stable."""
        self._take_dense(Clock(), last=True)
        self.map.settle(self.stream)

    def _take_dense(self, clock: Clock, *, last: bool = False) -> None:
        """Keyframes that have got depth since, where the tracker makes it."""
        if not isinstance(self.tracker, MakesDepth):
            return
        with clock("depth"):
            found = self.tracker.dense(last=last)
        for dense in found:
            assert dense.shot.depth is not None
            full = replace(dense.shot, depth=complete(dense.shot.depth))
            self._add(Anchor(dense.keyframe, dense.c2w), full, dense.c2w, 1.0, clock)
            self._keep(dense.shot, dense.keyframe, np.eye(4))
            self._refine(clock)

    def _add(self, anchor: Anchor, shot: Shot, c2w: Matrix, sure: float, clock: Clock) -> None:
        """The keyframe ``anchor`` becomes Gaussians, as ``shot`` at ``c2w`` sees them.
        ``shot.depth`` may hold guesses (negative)."""
        assert shot.depth is not None
        codes = shot.codes
        if self.kind.codes and codes is None:
            codes = np.zeros((1, CODE), np.float32)  # a frame that is not labelled names nothing
        with clock("build"):
            built = build(
                shot.image, shot.depth, shot.camera, c2w, shot.labels, codes, unit=self.kind.unit
            )
        with clock("fuse"):
            self.map.write(
                self.stream,
                Keyframe(
                    anchor.id, shot.seq, anchor.c2w, built.gaussians,
                    built.confidence, built.normals, built.size,
                ),
                sure,
            )  # fmt: skip

    def _keep(self, shot: Shot, anchor: int, local: Matrix) -> None:
        """Keep a picture to refine against. It moves with the keyframe ``anchor``."""
        assert shot.depth is not None
        lens = lens_of(shot.camera)
        depth = shot.depth / np.float32(self.kind.unit)
        view = StoredView(shot.seq, anchor, local, lens, shot.image, depth)
        self.views.write(self.stream, view)
        self._viewed = shot.seq

    def _draw(self, camera: Camera, c2w: Matrix) -> Rendered:
        """The stable map as ``camera`` sees it; before there is one, the active window."""
        stable = self.map.read(self.stream, "stable").gaussians
        part = stable if len(stable) else self.map.read(self.stream, "active").gaussians
        return render(part, camera, c2w)

    def _refine(self, clock: Clock) -> None:
        """Steps on the newest pictures and a few old ones, drawn anew each time."""
        timed = self._options.refine_s > 0
        steps = MOST_STEPS if timed else self._options.refine
        if not steps:
            return
        with clock("refine"):
            held = self.views.seqs(self.stream)
            newest, old = held[-WINDOW:], held[:-WINDOW]
            drawn = self._rng.choice(old, min(OLD_VIEWS, len(old)), replace=False)
            chosen = [int(seq) for seq in (*drawn, *newest)]
            with self.refining(chosen) as refiner:
                count = steps if len(refiner) else 0  # keyframes of all pictures may be forgotten
                order = self._rng.permutation(np.resize(np.arange(len(refiner)), count))
                refiner.take(order, self._options.refine_s if timed else np.inf)

    @contextmanager
    def refining(self, seqs: Collection[int] | None = None) -> Iterator[Refiner]:
        """A refiner of the whole map on the pictures of the frames ``seqs``, or on all that are
        kept, whose poses then move too if they are estimated and ``refine_poses`` is on; what it
        has done by the end goes into the map, also when it is interrupted."""
        poses, camera = self.map.poses(self.stream), self.kind.camera
        targets = [
            Target(
                with_lens(camera, one.lens),
                poses[one.anchor] @ one.local,
                one.image,
                one.depth * np.float32(self.kind.unit),
                one.anchor,
            )
            for one in self.views.read(self.stream, seqs)
            if one.anchor in poses
        ]
        view = self.map.read(self.stream, "all")
        unit, moving = self.kind.unit, self._moving(targets, poses) if seqs is None else None
        ids, refiner = view.ids.copy(), Refiner(view.gaussians, targets, unit=unit, poses=moving)
        try:
            with torch_threads(self._options.threads):
                yield refiner
        finally:
            if refiner.steps:
                self.map.update(self.stream, ids, refiner.gaussians())
                if moving is not None:
                    self.map.repose(self.stream, moving.moved())

    def _moving(
        self, targets: Sequence[Target], poses: Mapping[int, Matrix]
    ) -> KeyframePoses | None:
        """The poses of keyframes whose pictures are ``targets``, to be refined. The oldest one
        stays, or the whole map could wander."""
        if self.kind.given or not self._options.refine_poses or not targets:
            return None
        seen = sorted({target.keyframe for target in targets})
        return KeyframePoses(targets, poses, seen[:1], self.kind.unit)

    def _correct(self, poses: Mapping[int, Matrix]) -> None:
        """Keyframes have new poses after a loop closure; the map follows."""
        self.map.correct(self.stream, poses)
        same = self._anchor is self._newest
        self._newest = self._newest.moved(poses)
        self._anchor = self._newest if same else self._anchor.moved(poses)

    def delta(self, whole: bool = False) -> SplatDelta | None:
        """How the map changed since the last one, None when it did not; or all of it."""
        from retain.datasets.splats.splat import to_records

        changes, told = self.map.changes(self.stream, 0 if whole else self.told.of), self.told
        if changes.epoch == told.of and not (whole and told.of):
            return None
        told.of, told.epoch = changes.epoch, told.epoch + 1
        records = to_records(changes.gaussians)
        return SplatDelta(told.epoch, changes.whole, changes.removed, changes.ids, records)

    @property
    def begun(self) -> bool:
        """Whether there was a keyframe."""
        return self._anchor.id >= 0

    @property
    def nbytes(self) -> int:
        """Of all that is remembered. The tracker's own state counts as what it is promised."""
        return self.hub.nbytes + self._notes.min_bytes

    def stats(self) -> Mapping[str, StatValue]:
        counts = self.map.stats(self.stream)
        return {
            "memory_bytes": self.nbytes,
            "budget_bytes": self.hub.budget_bytes,
            "poses": "given" if self.kind.given else "estimated",
            **{f"map_{name}": value for name, value in counts.items()},
        }

    def shrink_to(self, nbytes: int) -> None:
        """Live within ``nbytes`` from now on. Raises UsageError for too few."""
        self.hub.shrink_to(nbytes)
        self._options = replace(self._options, budget_bytes=nbytes)

    def save(self, path: str) -> None:
        """Write all memories to one file, atomically."""
        camera, kind = self.kind.camera, self.kind
        own = {
            "camera": lens_of(camera),
            "size": np.array([camera.width, camera.height]),
            "kind": np.array([kind.given, kind.depth, kind.codes], np.uint8),
            "unit": np.array([kind.unit]),
            "counters": np.array([self._anchor.id, self._viewed, self.held_out]),
            "anchor": self._anchor.c2w,
            "random": words(self._rng),
            "told": self.told.array(),
        }
        if self._newest is not self._anchor:
            own |= {"newest": np.array([self._newest.id]), "newest.c2w": self._newest.c2w}
        tracked = {f"track.{name}": plain(value) for name, value in self.tracker.state().items()}
        self._notes.write(self.stream, own | tracked)
        try:
            self.hub.snapshot(path, self.seq)
        finally:
            self._notes.reset(self.stream)  # saving leaves no trace in what is told of the memory

    def load(self, path: str) -> None:
        """Take all memories from ``path``. Raises StateError when it does not fit."""
        self.seq = self.hub.restore(path)
        notes = dict(self._notes.read(self.stream))
        self._notes.reset(self.stream)
        if kind_in(notes, path) != self.kind:
            raise StateError(f"{path} was saved from a stream of another kind or camera.")
        try:
            anchor, self._viewed, self.held_out = map(int, notes["counters"])
            self._anchor = self._newest = Anchor(anchor, notes["anchor"].reshape(4, 4))
            if "newest" in notes:
                self._newest = Anchor(int(notes["newest"][0]), notes["newest.c2w"].reshape(4, 4))
            self._rng.bit_generator.state = json.loads(notes["random"].tobytes())
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise StateError(f"{path} holds no map of a scene: {error}.") from error
        self.told = Told.told_in(notes, path)
        mark = "track."
        self.tracker.restore({k[len(mark) :]: v for k, v in notes.items() if k.startswith(mark)})

    @staticmethod
    def open(path: str, options: MapperOptions) -> Mapper:
        """The mapper whose state lies in ``path``. Raises StateError when that is no map, or was
        made with other options."""
        from retain.memory.snapshot import load

        file = load(path)
        notes = file.memories["notes"][1].tensors if "notes" in file.memories else {}
        mapper = Mapper(file.stream, kind_in(notes, path), options)
        mapper.load(path)
        return mapper


def read_map(path: str, weights: str = "") -> tuple[Gaussians, Camera]:
    """All Gaussians of a saved state, and the camera that saw them; its options do not matter.
    ``weights``: of a neural map, where they lie now. Raises StateError when ``path`` is no map."""
    from retain.memory.snapshot import load
    from retain.models.onlinex.mapper import is_neural, read_neural

    memories = load(path).memories
    if is_neural(memories):
        return read_neural(path, memories["notes"][1].tensors, weights)
    if not {"map", "notes"} <= set(memories):
        raise StateError(f"{path} holds no map of a scene.")
    config, state = memories["map"]
    memory = GaussianMemory(GaussianConfig.of(config))
    memory.restore("map", state)
    return memory.read("map").gaussians, kind_in(memories["notes"][1].tensors, path).camera


def _state_bytes(tracker: object, camera: Camera) -> int:
    """The most that the tracker's state takes. What it says holds up to ``VGA`` pixels; pictures
    are the part of it that grows."""
    most = getattr(tracker, "max_bytes", 0)
    return int(most * max(1.0, camera.width * camera.height / VGA))
