"""The Gaussian map: what fusing, looking and reading cost, and what its rules are worth in
pictures.

CPU time of one thread. The peer of the fusion is the same arithmetic in NumPy: sort all keys, sum
by voxel, one batched eigenvalue problem. Pictures: a procedural room on a loop, with a depth
sensor's errors and a ball rolling through, drawn from the stable map alone at frames that were not
keyframes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np

from retain.apps.bench import Row, script
from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.kernels.geometry import rigid
from retain.kernels.rasterize.render import render
from retain.kernels.voxel_merge import cells
from retain.memory.evolve import Policy
from retain.memory.gaussian import stable
from retain.memory.gaussian.arena import Arena
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.keyframe import Keyframe
from retain.memory.gaussian.memory import GaussianMemory
from retain.models.scene.builder import build

AREA = "memory"
NEW, APART = 20_000, 20.0


def measure(*, quick: bool) -> list[Row]:
    frames = 40 if quick else 120
    room = Room(1, frames=frames, kind="loop", sensor=True, moving=True)
    shots = [room[i] for i in range(frames)]
    return [*costs(shots, 20_000 if quick else 150_000, 3 if quick else 7), *pictures(shots)]


def keyframe(id: int, shot: Shot, shift: float = 0.0) -> Keyframe:
    """``shift`` metres along x: the same room once more."""
    assert shot.depth is not None
    assert shot.c2w is not None
    c2w = rigid.exp([0, 0, 0, shift, 0, 0]) @ shot.c2w
    built = build(shot.image, shot.depth, shot.camera, c2w)
    return Keyframe(id, shot.seq, c2w, built.gaussians, built.confidence, built.normals, built.size)


def costs(shots: list[Shot], size: int, repeats: int) -> list[Row]:
    memory, written = GaussianMemory(GaussianConfig(expire_unseen=False)), 0
    while int(memory.stats("s")["stable"]) < size:
        turn, number = divmod(written, len(shots) // 3)
        memory.write("s", keyframe(written, shots[3 * number], APART * turn))
        written += 1
    shift, last = APART * ((written - 1) // (len(shots) // 3)), shots[-2]
    assert last.c2w is not None
    c2w = rigid.exp([0, 0, 0, shift, 0, 0]) @ last.c2w
    items = iter([keyframe(written + i, s, shift) for i, s in enumerate(shots[:repeats])])
    view = memory.read("s")
    ids, colors = view.ids.copy(), np.ascontiguousarray(view.gaussians.colors[::-1])
    new = replace(view.gaussians, means=view.gaussians.means.copy(), colors=colors)
    arena = memory._streams["s"].arena
    rows = arena.stable + np.arange(min(NEW, arena.n - arena.stable))
    copies = iter([deepcopy(arena) for _ in range(repeats + 1)])
    policy = Policy(cap=1e9)
    fuse = best(lambda: stable.commit(next(copies), rows, 0.01, policy, 1), repeats)
    peer = best(lambda: fuse_in_numpy(arena, rows, 0.01), repeats)
    note = f"{len(rows) // 1000}k Gaussians into {arena.stable // 1000}k"
    out = [
        Row(name=f"fuse {note}", value=fuse, unit="ms", peer="NumPy", peer_value=peer,
            ratio=peer / fuse, bar="<= 10 ms", met=fuse <= 10),
    ]  # fmt: skip
    state = f"{(arena.n - arena.stable) // 1000}k active, {arena.stable // 1000}k stable"
    for name, do in (
        ("write back refined values", lambda: memory.update("s", ids, new)),
        ("observe a depth map", lambda: memory.observe("s", 1, last.camera, c2w, last.depth)),
        ("read", lambda: memory.read("s")),
        ("snapshot", lambda: memory.snapshot("s")),
        ("write a keyframe", lambda: memory.write("s", next(items))),
    ):
        out.append(Row(name=f"{name}; {state}", value=best(do, repeats), unit="ms"))
    return out


def best(do: Callable[[], object], repeats: int) -> float:
    """Least CPU milliseconds of this thread."""
    taken = []
    for _ in range(repeats):
        began = time.thread_time()
        do()
        taken.append(1000 * (time.thread_time() - began))
    return min(taken)


def fuse_in_numpy(arena: Arena, new: np.ndarray, cell: float) -> tuple[np.ndarray, ...]:
    """Means, covariances' axes and extents, opacities, colours and normals of the voxels that
    change."""
    keys = cells.pack(arena["means"][new], cells.level_of(arena["keys"][new]), cell)
    every = np.concatenate([arena["keys"][: arena.stable], keys])
    rows = np.concatenate([np.arange(arena.stable), new])
    _, inverse = np.unique(every, return_inverse=True)
    touched = np.unique(inverse[arena.stable :])
    rows, inverse = rows[np.isin(inverse, touched)], inverse[np.isin(inverse, touched)]
    group, count = np.searchsorted(touched, inverse), len(touched)
    w = arena["weights"][rows].astype(np.float64)
    total = np.bincount(group, w, count)

    def mean(values: np.ndarray) -> np.ndarray:
        flat = (w[:, None] * values.reshape(len(w), -1)).T
        sums = np.stack([np.bincount(group, column, count) for column in flat], axis=1)
        return (sums / total[:, None]).reshape(count, *values.shape[1:])

    centre = mean(arena["means"][rows])
    d = arena["means"][rows] - centre[group]
    turned = rigid.matrix(arena["quats"][rows]) * arena["scales"][rows][:, None, :]
    spread = turned @ turned.transpose(0, 2, 1) + d[:, :, None] * d[:, None, :]
    extent, axes = np.linalg.eigh(mean(spread))
    rest = (mean(arena[name][rows]) for name in ("opacities", "colors", "normals"))
    return (centre, rigid.quaternion(axes), np.sqrt(np.maximum(extent, 0)), *rest)


def pictures(shots: list[Shot]) -> list[Row]:
    """Held-out PSNR by policy, and with or without those that could not be confirmed."""
    base = GaussianConfig()
    plain, share = draw(shots, base)
    out = [Row(name="stable / built", value=100 * share, unit="%")]
    for name, config in (
        ("expire the unseen", replace(base, expire_unseen=True)),
        ("all stable at once", replace(base, confirmations=1)),
        ("damped", replace(base, policy=Policy("damped"))),
        ("attention", replace(base, policy=Policy("attention"))),
        ("replace", replace(base, policy=Policy("replace"))),
    ):
        other, _ = draw(shots, config)
        out.append(Row(name="held-out PSNR, stable map", value=plain, unit="dB", peer=name,
                       peer_value=other, ratio=plain / other))  # fmt: skip
    return out


def draw(shots: list[Shot], config: GaussianConfig) -> tuple[float, float]:
    """Mean PSNR of whole pictures, and stable Gaussians as a share of those built."""
    memory = GaussianMemory(config)
    for i, shot in enumerate(shots):
        assert shot.c2w is not None
        if i % 3 == 0:
            memory.write("s", keyframe(i, shot))
        if i % 3 == 1:
            memory.observe("s", shot.seq, shot.camera, shot.c2w, shot.depth)
    counts, g, scores = memory.stats("s"), memory.read("s", "stable").gaussians, []
    for shot in shots[2:-27:12]:  # the last keyframes are still active
        assert shot.c2w is not None
        drawn = np.clip(render(g, shot.camera, shot.c2w).color, 0, 1)
        scores.append(-10 * np.log10(((drawn - shot.image / 255) ** 2).mean()))
    return float(np.mean(scores)), int(counts["stable"]) / int(counts["written"])


if __name__ == "__main__":
    script(measure, "Gaussian memory")
