"""A Gaussian map as arrays for a snapshot, and back, with all checked that could break it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from retain.kernels.geometry.rigid import is_rigid
from retain.memory.base import State
from retain.memory.gaussian.arena import Arena, columns
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.stream import COUNTS, MIN_ROWS, Stream
from retain.memory.gaussian.window import NONE
from retain.pipeline.errors import StateError

_NUMBERS = ("rows", "peak", "stable", "epoch", "seq", "whole_before", *COUNTS)
_MOST = 2**31 - 1


def state(s: Stream) -> State:
    """Rows in use, ids that died, poses and counters."""
    a, k = s.arena, s.keyframes
    tensors: dict[str, NDArray[Any]] = {f"rows.{name}": a[name].copy() for name in a.arrays}
    tensors |= {
        "ids.died": a.died[: a.peak].copy(),
        "poses.ids": k.ids.copy(),
        "poses.seqs": k.seqs.copy(),
        "poses.c2w": k.c2w.copy(),
        "poses.window": np.array(k.window, np.int32),
    }
    numbers = {"rows": a.rows, "peak": a.peak, "stable": a.stable, "epoch": s.epoch, "seq": s.seq}
    return State(tensors, {**numbers, "whole_before": s.whole_before, **s.counts})


def stream(saved: State, config: GaussianConfig) -> Stream:
    """Raises StateError unless ``saved`` is a map that a memory of ``config`` could have made."""
    numbers = _numbers(saved.header)
    if numbers["rows"] < MIN_ROWS:
        raise StateError(f"The snapshot's map has room for {numbers['rows']}, under {MIN_ROWS}.")
    tensors = dict(saved.tensors)
    # It may have had more room than this memory begins with. What the arrays fill is known to
    # exist; more than that and one's own is not given to whoever wrote the number.
    largest = Stream.rows_in(config, config.byte_budget)
    s = Stream(config, min(numbers["rows"], max(largest, len(_peek(tensors, "ids.died")))))
    _load_poses(s, tensors, config.window)
    _load_rows(s.arena, tensors, numbers, config.codes)
    _check_rows(s)
    if tensors:
        raise StateError(f"The snapshot has arrays too many: {sorted(tensors)}.")
    s.epoch, s.seq, s.whole_before = numbers["epoch"], numbers["seq"], numbers["whole_before"]
    s.counts = {name: numbers[name] for name in COUNTS}
    return s


def _numbers(header: Mapping[str, Any]) -> dict[str, int]:
    if set(header) != set(_NUMBERS):
        raise StateError("The snapshot's header does not belong to a Gaussian map.")
    for name in _NUMBERS:
        value, least = header[name], -1 if name == "seq" else 0
        most = 2**62 if name in COUNTS else _MOST
        if type(value) is not int or not least <= value <= most:
            raise StateError(f"The snapshot's {name} cannot be {value!r}.")
    return {name: header[name] for name in _NUMBERS}


def _taken(
    tensors: dict[str, Any], name: str, dtype: DTypeLike, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Take an array out of ``tensors``; None in ``shape`` stands for any length."""
    array = tensors.pop(name, None)
    if array is None:
        raise StateError(f"The snapshot has no array {name!r}.")
    fits = array.ndim == len(shape) and all(
        wanted in (None, side) for side, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        raise StateError(
            f"{name!r} is {array.dtype} {list(array.shape)}, expected {np.dtype(dtype)}"
            f" {['any' if side is None else side for side in shape]}."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StateError(f"{name!r} holds values that are not finite.")
    return np.asarray(array)


def _load_poses(s: Stream, tensors: dict[str, Any], window: int) -> None:
    k = s.keyframes
    slots = len(k.ids)
    k.ids[:] = _taken(tensors, "poses.ids", np.int64, (slots,))
    k.seqs[:] = _taken(tensors, "poses.seqs", np.int64, (slots,))
    k.c2w[:] = _taken(tensors, "poses.c2w", np.float64, (slots, 4, 4))
    k.window = [int(slot) for slot in _taken(tensors, "poses.window", np.int32, (None,))]
    known = k.ids[k.ids != NONE]
    if len(np.unique(known)) != len(known) or (known < 0).any():
        raise StateError("The snapshot's keyframes are not all different.")
    if not all(is_rigid(pose) for pose in k.c2w[k.ids != NONE]):
        raise StateError("The snapshot has a keyframe whose pose is not rigid.")
    inside = len(set(k.window)) == len(k.window) <= window
    if not inside or any(not 0 <= at < slots or k.ids[at] == NONE for at in k.window):
        raise StateError("The snapshot's window is not one of its keyframes.")


def _load_rows(a: Arena, tensors: dict[str, Any], numbers: Mapping[str, int], codes: bool) -> None:
    n = len(_peek(tensors, "rows.ids"))
    a.n, a.stable, a.peak = n, numbers["stable"], numbers["peak"]
    if not a.stable <= n <= a.peak <= a.rows:
        raise StateError(f"The snapshot cannot hold {n} Gaussians, {a.stable} of them stable.")
    for name, (dtype, width) in columns(codes).items():
        shape = (n,) if width == 1 else (n, width)
        a[name][:] = _taken(tensors, f"rows.{name}", dtype, shape)
    a.died[: a.peak] = _taken(tensors, "ids.died", np.int32, (a.peak,))


def _peek(tensors: Mapping[str, Any], name: str) -> NDArray[Any]:
    array = tensors.get(name)
    if array is None or array.ndim != 1:
        raise StateError(f"The snapshot has no list of numbers {name!r}.")
    return np.asarray(array)


def _check_rows(s: Stream) -> None:
    """Ids and voxels all different, anchors that exist, Gaussians that are some."""
    a = s.arena
    ids, anchor = a["ids"], a["anchor"]
    if len(ids) and not (ids.min() >= 0 and ids.max() < a.peak):
        raise StateError("The snapshot has ids out of range.")
    a.row_of[ids] = np.arange(a.n)
    if int((a.row_of >= 0).sum()) != a.n:
        raise StateError("The snapshot has an id twice.")
    slots = len(s.keyframes.ids)
    if len(anchor) and not (anchor.min() >= 0 and anchor.max() < slots):
        raise StateError("The snapshot has Gaussians without a keyframe.")
    if (s.keyframes.ids[anchor] == NONE).any():
        raise StateError("The snapshot has Gaussians without a keyframe.")
    keys = a["keys"]
    if (keys < 0).any() or len(np.unique(keys[: a.stable])) != a.stable:
        raise StateError("The snapshot has two stable Gaussians in one voxel.")
    lengths = np.linalg.norm(a["quats"].astype(np.float64), axis=1)
    if (np.abs(lengths - 1) > 1e-2).any() or (a["scales"] <= 0).any() or (a["weights"] < 0).any():
        raise StateError("The snapshot holds values that are no Gaussians.")
