"""Gaussian memory: the life of a Gaussian, and what holds whatever is done to a map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gaussian_parts import CAMERA, NAMES, keyframe, look, observe, pose, stats
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.kernels.geometry import rigid
from retain.kernels.rasterize.gaussians import Gaussians
from retain.kernels.rasterize.render import render
from retain.kernels.voxel_merge import cells
from retain.kernels.voxel_merge.reference import covariances
from retain.memory.evolve import Policy
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.keyframe import Keyframe
from retain.memory.gaussian.memory import GaussianMemory
from retain.pipeline.errors import UsageError

ROOMY = GaussianConfig(byte_budget=4 << 20, window=3, keyframes=16, cell=0.08, expire_unseen=True)
ALL_IN = replace(ROOMY, confirmations=1)
HERE = np.eye(4)


def walk(memory: GaussianMemory, count: int, start: int = 0, noise: float = 0.0) -> None:
    """Keyframes, each seen again from a bit further on."""
    for i in range(start, start + count):
        memory.write("s", keyframe(i, pose(i), noise=noise))
        observe(memory, pose(i + 0.5), 5 * i + 2)


def stable_map(config: GaussianConfig = ALL_IN) -> GaussianMemory:
    """A map of one keyframe, made stable by empty ones after it."""
    memory = GaussianMemory(config)
    memory.write("s", keyframe(0, HERE))
    flush(memory, 1)
    return memory


def flush(memory: GaussianMemory, first_id: int) -> None:
    """Push the window out with keyframes of nothing."""
    for i in range(first_id, first_id + memory.config["window"]):  # type: ignore[operator]
        memory.write("s", nothing(i))


def nothing(id: int) -> Keyframe:
    none = np.zeros(0, np.float32)
    return Keyframe(
        id, 5 * id, HERE, Gaussians.empty(True), none, np.zeros((0, 3), np.float32), none
    )


def test_what_another_keyframe_saw_becomes_stable_and_the_rest_expires() -> None:
    memory = GaussianMemory(ROOMY)
    written = memory.write("s", keyframe(0, HERE))
    assert len(written) == CAMERA.width * CAMERA.height
    observe(memory, HERE)  # before there is another keyframe, a look confirms nothing
    memory.write("s", nothing(1))
    half = look(HERE)[0].copy()
    half[:, 16:] *= 2  # there, something else is seen
    for _ in range(3):
        memory.observe("s", 1, CAMERA, HERE, half)
    flush(memory, 2)
    assert stats(memory)["expired"] == len(written) // 2
    view = memory.read("s", "stable")
    assert view.stable == len(view.ids) == stats(memory)["promoted"] > 0
    assert (view.gaussians.means[:, 0] < 0.01).all()
    assert set(view.ids.tolist()) <= set(written.tolist())


def test_one_camera_needs_three_keyframes() -> None:
    for looks, survive in ((1, False), (2, True)):
        memory = GaussianMemory(replace(ROOMY, confirmations=3))
        memory.write("s", keyframe(0, HERE))
        for i in range(looks):
            memory.write("s", nothing(1 + i))
            observe(memory, HERE)
            observe(memory, HERE)
        flush(memory, 10)
        assert (stats(memory)["stable"] > 0) == survive


def test_what_could_not_be_seen_again_is_kept_but_not_what_was_contradicted() -> None:
    memory = GaussianMemory(replace(ROOMY, expire_unseen=False))
    written = memory.write("s", keyframe(0, HERE))
    memory.write("s", nothing(1))
    partly = look(HERE)[0].copy()
    partly[:, :8] = 0  # not measured
    partly[:, 8:16] *= 0.5  # hidden
    partly[:, 16:24] *= 1.5  # in the way
    partly[:, 24:] *= 1.04  # another surface, just behind
    memory.observe("s", 1, CAMERA, HERE, partly)
    flush(memory, 2)
    means = memory.read("s", "stable").gaussians.means
    assert stats(memory)["expired"] == pytest.approx(len(written) // 2, abs=48)
    assert (means[:, 0] > 0.2).mean() < 0.15  # one column, at the edge between the two


def test_the_gate_scales_confidence_and_shuts() -> None:
    memory = GaussianMemory(ROOMY)
    one = keyframe(0, HERE)
    assert not len(memory.write("s", one, gate=0))
    assert stats(memory)["window"] == 0
    memory.write("s", one, gate=0.25)
    np.testing.assert_allclose(memory.read("s").weights, one.confidence / 4)
    with pytest.raises(ValueError, match="gate"):
        memory.write("s", keyframe(1, HERE), gate=1.5)


def test_committing_the_same_frame_twice_leaves_the_centres() -> None:
    memory = stable_map()
    before = memory.read("s", "stable")
    means, ids, weights = before.gaussians.means.copy(), before.ids.copy(), before.weights.copy()
    memory.write("s", replace(keyframe(0, HERE), id=20))
    flush(memory, 21)
    after = memory.read("s", "stable")
    np.testing.assert_array_equal(after.ids, ids)
    np.testing.assert_allclose(after.gaussians.means, means, atol=1e-6)
    np.testing.assert_allclose(after.weights, np.minimum(2 * weights, 20), rtol=1e-6)


SUMS = ("keys", "means", "quats", "scales", "opacities", "colors", "normals", "weights")


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(4)))
def test_under_the_cap_the_order_of_keyframes_does_not_matter(order: list[int]) -> None:
    maps = []
    for ids in (range(4), order):
        memory = GaussianMemory(replace(ALL_IN, policy=Policy(cap=1e6)))
        for i in ids:
            memory.write("s", keyframe(i, pose(i), noise=0.01))
        flush(memory, 10)
        state = memory.snapshot("s").tensors
        rows = {name: state[f"rows.{name}"][np.argsort(state["rows.keys"])] for name in SUMS}
        shape = [torch.from_numpy(rows.pop(name)) for name in ("quats", "scales")]
        maps.append(rows | {"spread": covariances(*shape).numpy()})
    for name, array in maps[0].items():
        np.testing.assert_allclose(array, maps[1][name], atol=1e-5, rtol=1e-5, err_msg=name)


def test_the_weight_stops_at_the_cap_and_the_map_follows() -> None:
    memory = GaussianMemory(replace(ALL_IN, policy=Policy(cap=2.0)))
    for i in range(12):
        memory.write("s", replace(keyframe(0, HERE), id=i))
    flush(memory, 20)
    view = memory.read("s", "stable")
    assert view.weights.max() == 2.0


def test_replace_keeps_the_newest_word() -> None:
    memory = stable_map(replace(ALL_IN, policy=Policy("replace")))
    other = keyframe(0, HERE)
    other.gaussians.colors[:] = 0.125
    memory.write("s", replace(other, id=20))
    flush(memory, 21)
    np.testing.assert_allclose(memory.read("s", "stable").gaussians.colors, 0.125, atol=1e-6)


def test_what_is_in_the_way_three_times_is_believed_half() -> None:
    memory = stable_map(replace(ALL_IN, min_weight=0.02))
    weights = memory.read("s", "stable").weights.copy()
    for _ in range(2):
        observe(memory, HERE, nearer=1.5)
    observe(memory, HERE)  # seen after all: it starts anew
    for _ in range(2):
        observe(memory, HERE, nearer=1.5)
    np.testing.assert_array_equal(memory.read("s", "stable").weights, weights)
    observe(memory, HERE, nearer=1.5)
    np.testing.assert_allclose(memory.read("s", "stable").weights, weights / 2)
    for _ in range(30):
        observe(memory, HERE, nearer=1.5)
    counts = stats(memory)
    assert counts["pruned_free_space"] > 0.9 * len(weights)
    assert counts["stable"] < 0.1 * len(weights)


def test_hidden_ones_are_let_be() -> None:
    memory = stable_map()
    weights = memory.read("s", "stable").weights.copy()
    for _ in range(9):
        observe(memory, HERE, nearer=0.5)
        memory.observe("s", 9, CAMERA, HERE, None)
        memory.observe("s", 9, CAMERA, HERE, np.zeros_like(look(HERE)[0]))
    np.testing.assert_array_equal(memory.read("s", "stable").weights, weights)


def test_faint_and_huge_ones_go() -> None:
    memory = stable_map()
    view = memory.read("s", "stable")
    new = Gaussians(*(getattr(view.gaussians, n).copy() for n in NAMES))
    new.opacities[:10], new.scales[10:30] = 0.001, 5.0
    memory.update("s", view.ids.copy(), new)
    observe(memory, HERE)
    counts = stats(memory)
    assert (counts["pruned_opacity"], counts["pruned_footprint"]) == (10, 20)


def test_last_seen_moves_only_for_what_was_seen() -> None:
    memory = stable_map()
    half = look(HERE)[0].copy()
    half[:, 16:] = 0
    memory.observe("s", 77, CAMERA, HERE, half)
    view = memory.read("s", "stable")
    left = view.gaussians.means[:, 0] < -0.1
    assert (view.last_seen[left] == 77).all()
    assert (view.last_seen[view.gaussians.means[:, 0] > 0.1] == 0).all()
    assert (view.first_seen == 0).all()


def test_gaussians_follow_their_keyframe() -> None:
    memory = GaussianMemory(replace(ALL_IN, cell=0.001))
    for i in range(4):
        memory.write("s", keyframe(i, pose(i)))
    assert stats(memory)["stable"] > 0
    before = memory.read("s")
    means, ids = before.gaussians.means.copy(), before.ids.copy()
    normals, born, weights = before.normals.copy(), before.born.copy(), before.weights.copy()
    moved = rigid.exp([0.02, -0.3, 0.1, 0.2, -0.1, 0.4])
    memory.correct("s", {i: moved @ pose(i) for i in (0, 2)} | {99: HERE})
    after = memory.read("s")
    row = {int(id): i for i, id in enumerate(after.ids)}
    # Those that came to lie in one voxel merged.
    kept = np.array([int(id) in row and after.weights[row[id]] == w for id, w in zip(
        ids.tolist(), weights, strict=True)])  # fmt: skip
    assert kept.mean() > 0.95
    now = np.array([row[int(id)] for id in ids[kept]])
    near_old = np.abs(after.gaussians.means[now] - means[kept]).max(axis=1) < 1e-6
    moved_as = rigid.transform(moved, means[kept])
    near_new = np.abs(after.gaussians.means[now] - moved_as).max(axis=1) < 1e-5
    assert (near_old | near_new).all()
    stable = np.arange(len(ids))[kept] < before.stable
    assert near_new[stable].all()  # of keyframe 0
    assert near_old.any()
    assert near_new[~stable].any()
    np.testing.assert_allclose(
        after.normals[now][stable], (normals @ moved[:3, :3].T)[kept][stable], atol=1e-5
    )
    np.testing.assert_array_equal(after.born[now][stable], born[kept][stable])
    np.testing.assert_allclose(memory.poses("s")[2], moved @ pose(2))


def test_walls_that_meet_after_a_correction_become_one() -> None:
    """The same wall twice, 40 cm apart by a wrong pose: corrected, it is one wall again."""
    memory = GaussianMemory(ALL_IN)
    right, wrong = keyframe(0, HERE), rigid.exp([0, 0, 0, 0, 0, 0.4])
    memory.write("s", right)
    g = right.gaussians
    shifted = replace(g, means=(g.means + np.float32([0, 0, 0.4])).astype(np.float32))
    memory.write("s", replace(right, id=1, c2w=wrong, gaussians=shifted))
    flush(memory, 2)
    twice = stats(memory)["stable"]
    memory.correct("s", {1: HERE})
    once = stats(memory)["stable"]
    assert once < 0.6 * twice
    view = memory.read("s", "stable")
    alone = stable_map().read("s", "stable")
    assert once == alone.stable
    np.testing.assert_allclose(np.sort(view.weights), np.sort(2 * alone.weights), rtol=1e-4)
    with pytest.raises(ValueError, match="rigid"):
        memory.correct("s", {1: np.zeros((4, 4))})


def test_a_full_table_of_poses_hands_gaussians_on() -> None:
    memory = GaussianMemory(replace(ALL_IN, keyframes=5))
    walk(memory, 9)
    kept = memory.poses("s")
    assert len(kept) == 5
    assert {6, 7, 8} <= set(kept)  # the window
    shift = rigid.exp([0, 0, 0, 0.5, 0, 0])
    before = memory.read("s").gaussians.means.astype(np.float64).mean(axis=0)
    memory.correct("s", {i: shift @ c2w for i, c2w in kept.items()})
    after = memory.read("s").gaussians.means.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(after - before, (0.5, 0, 0), atol=0.03)  # all of them moved


def test_refined_values_are_read_back_and_change_the_voxel() -> None:
    memory = stable_map()
    view = memory.read("s")
    ids = view.ids.copy()
    epoch = memory.changes("s", 0).epoch
    new = Gaussians(*(getattr(view.gaussians, n).copy() for n in NAMES))
    new.colors[5] = 0.5
    new.means[7] += np.float32(1.0)
    memory.update("s", ids, new)
    changed = memory.changes("s", epoch)
    assert set(changed.ids.tolist()) == {int(ids[5]), int(ids[7])}
    assert not changed.whole
    state = memory.snapshot("s").tensors
    level = cells.level_of(state["rows.keys"])
    np.testing.assert_array_equal(
        cells.pack(state["rows.means"], level, ROOMY.cell)[7], state["rows.keys"][7]
    )
    with pytest.raises(ValueError, match="finite"):
        memory.update("s", ids, replace(new, means=new.means * np.float32(np.nan)))
    with pytest.raises(ValueError, match="extent"):
        memory.update("s", ids, replace(new, scales=new.scales * 0))


def test_a_full_map_follows_the_camera() -> None:
    """What the window sees stays; of the rest, the least sure goes first."""
    small, large = (GaussianMemory(replace(ALL_IN, byte_budget=b)) for b in (250_000, 4 << 20))
    for memory in (small, large):
        walk(memory, 45)  # not yet full circle
    assert stats(small)["pruned_budget"] > 0 == stats(large)["pruned_budget"]
    one, all_of_it = small.snapshot("s").tensors, large.snapshot("s").tensors
    seen = large.read("s", "stable").last_seen >= 5 * 43
    recent = all_of_it["rows.keys"][: len(seen)][seen]
    assert np.isin(recent, one["rows.keys"]).mean() > 0.95


def test_shrinking_keeps_the_newest_keyframe_whole() -> None:
    memory = GaussianMemory(ALL_IN)
    walk(memory, 8)
    newest = memory.write("s", keyframe(8, pose(8)))
    means = memory.read("s", "active").gaussians.means[-len(newest) :].copy()
    rows = 2 * len(newest) + 10
    memory.shrink_to("s", memory.min_bytes + 160 * (rows - 64))
    assert stats(memory)["stable"] > 0
    left = {row.tobytes() for row in memory.read("s", "active").gaussians.means}
    assert {row.tobytes() for row in means} <= left
    assert memory.changes("s", 3).whole


def test_drift_can_be_told_from_where_a_gaussian_was_born() -> None:
    memory = stable_map()
    view = memory.read("s", "stable")
    np.testing.assert_array_equal(view.born, view.gaussians.means)
    memory.correct("s", {0: rigid.exp([0, 0, 0, 0.03, 0, 0.04])})
    view = memory.read("s", "stable")
    moved = np.linalg.norm(view.gaussians.means - view.born, axis=1)
    np.testing.assert_allclose(np.median(moved), 0.05, rtol=1e-3)


def test_what_is_stable_looks_as_it_did_when_it_was_active() -> None:
    """A still scene without noise: as well covered, and as true within half a decibel."""
    camera = CAMERA.resized(96, 72)
    memory = GaussianMemory(replace(ALL_IN, cell=0.02, window=2))
    for i in range(4):
        one = keyframe(i, pose(i / 8), camera)
        one.gaussians.opacities[:] = 0.97
        memory.write("s", one)
    truth = 0.5 + 0.5 * np.sin(3 * camera.unproject(look(HERE, camera)[0]))
    errors = []
    for part in ("active", "stable"):
        drawn = render(memory.read("s", part).gaussians, camera, HERE)
        seen = drawn.alpha > 0.8
        assert seen.mean() > 0.95
        colour = drawn.color[seen] / drawn.alpha[seen, None]
        errors.append(-10 * np.log10(((colour - truth[seen]) ** 2).mean()))
    assert errors[1] > errors[0] - 0.5


def test_bad_input_is_refused() -> None:
    memory = GaussianMemory(replace(ROOMY, codes=True))
    one = keyframe(0, HERE)
    memory.write("s", one)
    with pytest.raises(ValueError, match="before"):
        memory.write("s", one)
    with pytest.raises(ValueError, match="codes"):
        memory.write("s", replace(one, id=1, gaussians=replace(one.gaussians, codes=None)))
    with pytest.raises(ValueError, match="depth"):
        memory.observe("s", 0, CAMERA, HERE, np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="confidence"):
        replace(one, confidence=one.confidence[:-1])
    with pytest.raises(ValueError, match="rigid"):
        replace(one, c2w=np.zeros((4, 4)))
    with pytest.raises(UsageError, match="all, stable"):
        memory.read("s", "everything")  # type: ignore[arg-type]
    for wrong in ({"window": 0}, {"keyframes": 3}, {"cell": 0.0}, {"front": (-1.0, 0.1)}):
        with pytest.raises(UsageError):
            replace(ROOMY, **wrong)
    with pytest.raises(UsageError, match="at least"):
        GaussianMemory(GaussianConfig(byte_budget=1000))
