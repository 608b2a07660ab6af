"""How a state of an earlier version becomes one of today's: the one place that says so.

A memory, by the ``kind`` in its configuration, is at version 1 + the number of its steps here; one
that is not named is at version 1. A step takes a state from one version to the next, on what a file
holds of it, in place. Where something was not kept then, it takes the value with which the memory
did what it did then, or leaves the state for its memory to refuse: nothing is guessed. Whatever a
step makes, the memory checks when it takes the state. docs/states.md says how one is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from retain.pipeline.errors import StateError
from retain.pipeline.versions import refuse_newer, version_of


@dataclass(slots=True)
class Saved:
    """A memory as a file holds it."""

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    header: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.config.get("kind", ""))


Step = Callable[[Saved], None]


def _frames_2(saved: Saved) -> None:
    """Rows know how many seconds of the stream they stand for; before, it was one each."""
    saved.tensors["rows.mass"] = np.ones(saved.tensors["rows.seconds"].shape)
    saved.tensors.pop("rows.least", None)


def _gaussians_2(saved: Saved) -> None:
    """The most Gaussians there were are counted (ids are handed out from the lowest, so their table
    is as long), and those that left for being out of reach."""
    saved.header["peak"] = len(saved.tensors["ids.died"])
    saved.header["pruned_range"] = 0


def _gaussians_3(saved: Saved) -> None:
    """Gaussians know whether something spoke against them, a byte each, so there is room for fewer:
    in a full map the least believed leave, and all get new ids. Before, all left that no other
    keyframe could see."""
    tensors, header = saved.tensors, saved.header
    columns = [name for name in tensors if name.startswith("rows.")]
    row = 8 + sum(tensors[name].itemsize * math.prod(tensors[name].shape[1:]) for name in columns)
    header["rows"] = room = int(header["rows"]) * row // (row + 1)
    n, stable = len(tensors["rows.ids"]), int(header["stable"])
    if max(n, int(header["peak"])) > room:
        leaving = np.argsort(tensors["rows.weights"][:stable], kind="stable")[: max(0, n - room)]
        for name in columns:
            tensors[name] = np.delete(tensors[name], leaving, axis=0)
        header["stable"], header["peak"] = stable - len(leaving), n - len(leaving)
        header["epoch"] = header["whole_before"] = int(header["epoch"]) + 1
        tensors["rows.ids"] = np.arange(header["peak"], dtype=np.int32)
        tensors["ids.died"] = np.zeros(header["peak"], np.int32)
    tensors["rows.doubted"] = np.zeros(len(tensors["rows.ids"]), np.uint8)
    saved.config["expire_unseen"] = True


def _keyframes_2(saved: Saved) -> None:
    """There are several kinds of corners; before, only one."""
    saved.config["features"] = "orb"


def _delta_2(saved: Saved) -> None:
    """Frames that are not written are counted; before, all were written."""
    saved.header["skipped"] = 0


def _notes_2(saved: Saved) -> None:
    """Those of a map say what has been told of it (before, a map that went on was told anew), and
    those of clips how many were offered, and the router's gates (before, it had no say)."""
    added: dict[str, np.ndarray] = {}
    if {"camera", "size", "kind", "counters"} <= set(saved.tensors):
        added = {"told": np.array([0, 0, -np.inf, -np.inf])}
    elif {"scores", "described", "places"} <= set(saved.tensors):
        added = {"offered": np.zeros(1, np.int64), "gates": np.zeros(0)}
    for name, array in added.items():
        saved.tensors.setdefault(name, array)
        saved.header["layout"].setdefault(name, [str(array.dtype), *array.shape])


STEPS: Mapping[str, tuple[Step, ...]] = {
    "frames": (_frames_2,),
    "gaussians": (_gaussians_2, _gaussians_3),
    "gated-delta": (_delta_2,),
    "keyframes": (_keyframes_2,),
    "layer": (_delta_2,),
    "notes": (_notes_2,),
}

_UNMARKED: Mapping[str, Callable[[Saved], int]] = {
    "frames": lambda saved: 1 + ("rows.mass" in saved.tensors),
    "gaussians": lambda saved: 1 + ("peak" in saved.header) + ("rows.doubted" in saved.tensors),
    "keyframes": lambda saved: 1 + ("features" in saved.config),
}
"""Versions as they show in files from before they were written down. Nothing is added here."""


def newest(kind: str) -> int:
    """Today's version of a memory of this kind."""
    return 1 + len(STEPS.get(kind, ()))


def unmarked(saved: Saved) -> int:
    """The version of a memory in a file that does not say."""
    return _UNMARKED[saved.kind](saved) if saved.kind in _UNMARKED else 1


def bring_up(saved: Saved, version: int) -> None:
    """Make today's of a state of this version. Raises StateError when it has not what every state
    of that version has."""
    for step in STEPS.get(saved.kind, ())[version - 1 :]:
        try:
            step(saved)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise StateError(f"It is no {saved.kind!r} of version {version}: {error!r}.") from error


def _file_2(header: dict[str, Any]) -> dict[str, Any]:
    """Memories say their versions (0: it shows), and the file who wrote it."""
    memories = {name: {**told, "version": 0} for name, told in header["memories"].items()}
    return {**header, "by": "", "memories": memories}


_FILE_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_file_2,)
SCHEMA = "retain-memory"
FILE_VERSION = 1 + len(_FILE_STEPS)


def file_header(path: object, header: dict[str, Any]) -> dict[str, Any]:
    """The header of a memory file as it is today. Raises StateError for a newer one or none."""
    if not (version := version_of(header["schema"], SCHEMA)):
        raise StateError(f"{path} has the schema {header['schema']!r}; it is no memory file.")
    refuse_newer(f"{path} is a memory file", version, FILE_VERSION, header.get("by"))
    for step in _FILE_STEPS[version - 1 :]:
        header = step(header)
    return header
