"""The stage that maps: tracks the camera, makes keyframes, keeps the map, says how it changed.

A frame that is not tracked never touches the map. Everything that is remembered lies in one hub:
``map`` (Gaussians), ``views`` (pictures to refine against), ``keyframes`` (what the tracker knows
places by) and ``notes`` (the tracker's path and the stage's counters).

What the rule ``write`` keeps out (memory/gate.py) is tracked like any other frame and told a pose.
It is no evidence for or against the map, no picture to refine by, and adds no Gaussians: when the
tracker is due to make a keyframe of it, the map gets that keyframe as the next frame sees it that
is let in. So the rule says when the map may grow, and the tracker how often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from retain.datasets.scene.base import Shot
from retain.datasets.scene.views import shot_of
from retain.memory.base import refuse_made
from retain.memory.gate import WriteRule
from retain.models.scene.kind import Kind
from retain.models.scene.mapper import Mapper
from retain.models.scene.options import MapperOptions
from retain.models.scene.told import Told
from retain.models.scene.tracking.base import Fit
from retain.models.scene.tracking.features import Kind as Features
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Result, Route, SplatDelta, View
from retain.pipeline.shares import Use
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from retain.models.onlinex.mapper import NeuralMapper

Poses = Literal["auto", "given", "estimated"]
Profile = Literal["classic", "neural"]

DELTA_S = 0.2
"""Seconds of the stream between two deltas of the map."""


class Reconstruct:
    """Adds ``pose`` to each packet, and ``splats`` to some; see the module's text.

    profile      ``classic``: tracked, built, merged and refined, without learned weights;
                 ``neural``: a network says poses and Gaussians (docs/onlinex.md). Of the options
                 below it knows budget_mb, holdout, whole_s, threads, write and resume
    weights      of the neural profile: shipped ones by name, or a file
    poses        ``given``: those of the source; ``estimated``: the tracker's; ``auto``: given if
                 the first frame has one
    budget_mb    bytes of all memories together, in 10^6
    holdout      every so many frames, one is kept from the map to judge it by; 0: none
    refine       gradient steps per keyframe; 0: none
    refine_ms    if not 0, steps are taken while they fit into so much time: for live sources.
                 Results then depend on the machine
    cell         metres of the map's finest cells
    seed         of what is drawn at random: old views to refine against
    whole_s      seconds of the stream after which a delta is the whole map, for receivers that may
                 miss one; 0: never
    fit          what estimated poses are fitted to, with depth: ``keyframe`` or ``map``; see
                 RgbdTracker
    features     corners that are matched, with depth: ``orb``, or ``xfeat`` of a network (extra
                 ``xfeat``)
    refine_poses whether estimated poses move too, when the finished map is refined
    threads      of torch and of the kernels; results are the same bits for the same number only
    write        which frames the map takes in: a WriteRule; the router's need its ``route``
    resume       a state saved by ``save``; frames it has seen are passed over

    One stage maps one stream.
    """

    def __init__(
        self,
        profile: Profile = "classic",
        weights: str = "auto",
        poses: Poses = "auto",
        budget_mb: float = 128.0,
        holdout: int = 8,
        refine: int = 2,
        refine_ms: float = 0.0,
        cell: float = 0.01,
        seed: int = 0,
        whole_s: float = 0.0,
        fit: Fit = "keyframe",
        features: Features = "orb",
        refine_poses: bool = True,
        threads: int = 2,
        write: str = "every",
        resume: str = "",
    ) -> None:
        if profile not in get_args(Profile):
            raise UsageError(f"The profile is classic or neural, not {profile!r}.")
        self.profile = profile
        if profile == "neural":
            from retain.models.onlinex.weights import opened

            if poses == "given":
                raise UsageError("The neural profile estimates poses; it cannot take given ones.")
            opened(weights)  # at once, not at the first frame
        if poses not in ("auto", "given", "estimated"):
            raise UsageError(f"Poses are auto, given or estimated, not {poses!r}.")
        if fit not in get_args(Fit):
            raise UsageError(f"Poses are fitted to a keyframe or the map, not to {fit!r}.")
        if features not in get_args(Features):
            raise UsageError(f"Features are orb or xfeat, not {features!r}.")
        if features == "xfeat":
            from retain.models.scene.tracking.xfeat import installed

            installed()  # at once, not at the first frame
        none = {"holdout": holdout, "refine": refine, "refine_ms": refine_ms, "whole_s": whole_s,
                "seed": seed}  # fmt: skip
        some = {"threads": threads, "budget_mb": budget_mb, "cell": cell}
        for name, value in (none | some).items():
            if not 0 <= value < float("inf") or (name in some and not value):
                least = "> 0" if name in some else ">= 0"
                raise UsageError(
                    f"The option {name!r} of reconstruct is {value}; it must be {least}."
                )
        self._poses, self._rule = poses, WriteRule.parse(write)
        self.options = MapperOptions(
            budget_bytes=int(budget_mb * 1e6), refine=refine, refine_s=refine_ms / 1000,
            cell=cell, seed=seed, threads=threads, fit=fit, features=features,
            refine_poses=refine_poses, weights=weights,
        )  # fmt: skip
        self._holdout = holdout
        self._resume = resume
        self.mapper: Mapper | NeuralMapper | None = None
        self._seen_to = -1
        self._whole_every_s = whole_s or float("inf")
        self._anew = bool(resume)
        """Whoever follows the map was not there for what a saved state has told of it."""
        if resume:
            from retain.memory.snapshot import load as check

            check(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Packet | None:
        frame = packet.frame
        refuse_made(frame)
        view = packet.results.get("view")
        if not isinstance(view, View):
            raise UsageError(
                f"Frames of {frame.stream!r} come without a camera, so nothing can be mapped.",
                hint="Use a scene source (retain reconstruct makes one of any video).",
            )
        shot = shot_of(frame, view)
        if self.mapper is None or self._resume or self._says_more(shot, self.mapper):
            self.mapper = self._begin(shot, frame)
        if frame.seq <= self._seen_to:
            return None
        mapper = self.mapper
        mapper.check(shot.camera)
        may_hold_out = self._due(frame.seq, mapper.held_out)
        out = mapper.look(shot, may_hold_out=may_hold_out, gate=self._gate(packet, mapper))
        results: dict[str, Result] = dict(packet.results)
        # Depth goes on only where it is needed: with the frames that judge the map.
        results["view"] = view if out.held_out else _light(view)
        results["pose"] = out
        if delta := self._delta(mapper, frame.seconds):
            results["splats"] = delta
        return Packet(frame, results)

    def _gate(self, packet: Packet, mapper: Mapper | NeuralMapper) -> float:
        route = packet.results.get("route")
        seen = route if isinstance(route, Route) else None
        return self._rule.gate(packet.frame.seq, seen, empty=not mapper.begun)

    def _delta(self, mapper: Mapper | NeuralMapper, seconds: float) -> SplatDelta | None:
        """What is told of the map with this frame; None when nothing changed or it is too early."""
        told = mapper.told
        if abs(seconds - told.seconds) < DELTA_S:
            return None
        delta = mapper.delta(whole=abs(seconds - told.whole_s) >= self._whole_every_s)
        if delta is not None:
            told.seconds = seconds
            told.whole_s = seconds if delta.whole else told.whole_s
        return delta

    def _due(self, seq: int, last: int) -> bool:
        """Whether a frame may be held out: from the middle of each ``holdout`` frames on, the first
        that is no keyframe. ``last``: the one before, or -1."""
        if not self._holdout or seq // self._holdout == last // self._holdout:
            return False
        return seq % self._holdout >= self._holdout // 2

    def _kind(self, shot: Shot) -> Kind:
        if self.profile == "neural":
            return replace(Kind.of(shot, given=False), depth=False)
        given = self._poses == "given" or (self._poses == "auto" and shot.c2w is not None)
        return Kind.of(shot, given=given)

    def _says_more(self, shot: Shot, mapper: Mapper | NeuralMapper) -> bool:
        """Whether ``shot`` has depth or a pose that the first one, of a covered lens say, lacked,
        and nothing is lost by beginning anew."""
        had, has = mapper.kind, self._kind(shot)
        less = has.given < had.given or has.depth < had.depth
        more = has.given > had.given or has.depth > had.depth
        return more and not less and not mapper.begun

    def _begin(self, shot: Shot, frame: Frame) -> Mapper | NeuralMapper:
        kind = mapper_of(self.profile)
        if not self._resume:
            return kind(frame.stream, self._kind(shot), self.options)
        mapper = kind.open(self._resume, self.options)
        given = mapper.kind.given
        if self._poses != "auto" and given != (self._poses == "given"):
            was = "given" if given else "estimated"
            raise StateError(f"{self._resume} was made with {was} poses, not {self._poses} ones.")
        if self._anew or frame.discontinuity:  # after a gap, deltas may have been lost with it
            mapper.told = Told(mapper.told.epoch)
        self._resume, self._seen_to = "", mapper.seq
        return mapper

    def save(self, path: str) -> None:
        """Write the memory to ``path``, atomically. Raises StateError while there is none."""
        if self.mapper is None:
            raise StateError("There is no map to save: no frame was seen yet.")
        self.mapper.save(path)

    def salvage(self, path: str) -> None:
        """What was mapped before a frame could not be."""
        if self.mapper is not None:
            self.mapper.save(path)

    def shrink_to(self, nbytes: int) -> None:
        """Remember within ``nbytes`` from now on. A neural map, once begun, keeps its size."""
        if isinstance(self.mapper, Mapper):
            self.mapper.shrink_to(nbytes)
        elif self.mapper is not None:
            raise UsageError("The size of a neural map cannot change.")
        self.options = replace(self.options, budget_bytes=nbytes)

    def use(self) -> Use:
        """What it may hold and what it needs."""
        if isinstance(self.mapper, Mapper):
            return self.mapper.hub.use()
        return Use(self.options.budget_bytes, 0)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._resume, self.mapper, self._anew = path, None, False

    def stats(self) -> Mapping[str, StatValue]:
        if self.mapper is None:
            return {"memory_bytes": 0}
        return self.mapper.stats()

    def close(self) -> None:
        pass


def mapper_of(profile: Profile) -> type[Mapper] | type[NeuralMapper]:
    """What maps a stream in this profile."""
    if profile == "classic":
        return Mapper
    from retain.models.onlinex.mapper import NeuralMapper

    return NeuralMapper


def _light(view: View) -> View:
    return msgspec.structs.replace(view, depth=None, labels=None, codes=None, names=())
