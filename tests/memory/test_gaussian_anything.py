"""A Gaussian memory after whatever may be done to it, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from gaussian_parts import CONFIG, NAMES, SMALL, keyframe, observe, pose, stats
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.kernels.geometry import rigid
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.voxel_merge import cells
from retain.memory.gaussian.memory import GaussianMemory


class Viewer:
    """Knows the map from its changes alone."""

    def __init__(self) -> None:
        self.epoch, self.known = 0, dict[int, bytes]()

    def follow(self, memory: GaussianMemory) -> None:
        new = memory.changes("s", self.epoch)
        if new.whole:
            self.known = {}
        for id in new.removed.tolist():
            self.known.pop(id, None)
        self.known |= described(new.ids, new.gaussians)
        self.epoch = new.epoch


def described(ids: np.ndarray, gaussians: Gaussians) -> dict[int, bytes]:
    columns = [np.atleast_2d(getattr(gaussians, name).T) for name in (*NAMES, "codes")]
    rows = np.concatenate(columns).T
    return {int(id): row.tobytes() for id, row in zip(ids, rows, strict=True)}


PRUNED = ("opacity", "footprint", "free_space", "range", "budget")


OPERATIONS = st.lists(
    st.sampled_from(["write", "write", "write", "look", "look", "in the way", "correct", "refine",
                     "shrink", "follow", "restore"]), max_size=25,
)  # fmt: skip


def act(memory: GaussianMemory, what: str, rng: np.random.Generator, at: int) -> None:
    c2w = pose(at / 2)
    if what == "write":
        memory.write(
            "s", keyframe(at, c2w, SMALL, rng, noise=0.01), gate=float(rng.uniform(0.3, 1))
        )
    elif what in ("look", "in the way"):
        observe(memory, c2w, 5 * at, 1.0 if what == "look" else 1.3)
    elif what == "correct":
        shift = rigid.exp(0.1 * rng.standard_normal(6))
        memory.correct("s", {i: shift @ p for i, p in memory.poses("s").items() if i % 2})
    elif what == "refine":
        view = memory.read("s")
        g = view.gaussians
        new = replace(g, means=g.means.copy(), colors=rng.random(g.colors.shape, np.float32))
        new.means[::2] += rng.normal(0, 0.05, new.means[::2].shape).astype(np.float32)
        memory.update("s", view.ids.copy(), new)
    elif what == "shrink":
        memory.shrink_to("s", max(memory.min_bytes, int(memory.nbytes("s") * 0.95)))


def check(memory: GaussianMemory) -> None:
    """What must hold of any map."""
    state, counts = memory.snapshot("s"), stats(memory)
    assert memory.nbytes("s") <= CONFIG.byte_budget
    assert sum(a.nbytes for a in state.tensors.values()) <= memory.nbytes("s")
    view = memory.read("s")
    assert len(np.unique(view.ids)) == len(view.ids) == counts["active"] + counts["stable"]
    assert len(view.ids) <= counts["room"]
    keys = state.tensors["rows.keys"][: view.stable]
    assert len(np.unique(keys)) == len(keys)
    side = CONFIG.cell * 2.0 ** cells.level_of(keys)[:, None]
    index = np.stack([keys >> 40, keys >> 20, keys], axis=1) % 2**20 - 2**19
    inside = view.gaussians.means[: view.stable] / side - index
    assert (np.abs(inside - 0.5) < 0.501).all()
    assert (view.weights <= 20).all()
    assert counts["written"] == len(view.ids) + counts["merged"] + counts["expired"] + sum(
        counts[f"pruned_{cause}"] for cause in PRUNED
    )  # fmt: skip


def image(memory: GaussianMemory) -> tuple[Mapping[str, object], dict[str, bytes]]:
    state = memory.snapshot("s")
    return state.header, {name: array.tobytes() for name, array in state.tensors.items()}


@settings(deadline=None, max_examples=60)
@given(operations=OPERATIONS, seed=st.integers(0, 100))
def test_whatever_is_done(operations: list[str], seed: int) -> None:
    """Bounded, one per voxel, accounts that add up; a viewer of changes knows the map; a restored
    twin goes on with the same bits."""
    memory, viewer, rng = GaussianMemory(CONFIG), Viewer(), np.random.default_rng(seed)
    twin, twin_rng = None, None
    for at, what in enumerate([*operations, "follow"]):
        act(memory, what, rng, at)
        if twin and twin_rng:
            act(twin, what, twin_rng, at)
            assert image(twin) == image(memory)
            assert twin.nbytes("s") == memory.nbytes("s")
        if what == "restore":
            twin, twin_rng = GaussianMemory(CONFIG), np.random.default_rng()
            twin.restore("s", memory.snapshot("s"))
            twin_rng.bit_generator.state = rng.bit_generator.state
        if what == "follow":
            viewer.follow(memory)
            view = memory.read("s")
            assert viewer.known == described(view.ids, view.gaussians)
        check(memory)
