"""Gates that hold, selections that explain, heads that learn."""

from __future__ import annotations

import numpy as np
import object_parts as parts
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.memory.examples import Example, ExampleConfig, ExampleMemory
from retain.models.object import head, importance, learn, selection
from retain.models.object.features import Maps, digest
from retain.models.object.learn import MODES, Mode, Recipe
from retain.pipeline.errors import UsageError


def taught(mode: Mode, updates: int = 0, **recipe: object) -> tuple[learn.Learned, ExampleMemory]:
    """Heads after the first frame and ``updates`` updates, one per new frame."""
    extract, how = parts.Cheap(), parts.options(mode, **recipe).recipe
    memory: ExampleMemory | None = None
    learned = learn.untaught(1, how)
    for seq, (image, label) in enumerate(parts.crossing(updates + 1)):
        maps = extract(image)
        mask = torch.from_numpy((label == 1).astype(np.float32))
        masks = torch.nn.functional.avg_pool2d(mask[None], 4)
        if memory is None:
            shapes = {name: tuple(x.shape[1:]) for name, x in maps.items()}
            memory = ExampleMemory(ExampleConfig(shapes, (1, 16, 24), len(digest(maps)), 8))
        found = {name: x[0] for name, x in maps.items()}
        memory.write("s", Example(seq, seq / 25, found, masks, digest(maps), pinned=not seq))
        held = memory.read("s")
        if seq:
            learned = learn.teach(learned, held, digest(maps), how)
        else:
            learned = learn.teach_first(learned, held, how)
    assert memory is not None
    return learned, memory


def test_a_head_finds_what_it_was_shown() -> None:
    learned, _ = taught("none")
    image, label = parts.scene((60, 40))
    seen = head.logits(learned.theta, parts.Cheap()(image))[0].sigmoid().numpy()
    truth = label[2::4, 2::4] == 1
    assert seen[truth].mean() > 0.85
    assert seen[~truth].mean() < 0.1


def test_two_heads_at_once_are_two_heads_alone() -> None:
    maps = parts.Cheap()(parts.ground())
    theta = head.fresh(2)
    both = head.logits(theta, maps)
    for k in range(2):
        torch.testing.assert_close(both[k], head.logits(theta[k : k + 1], maps)[0])


def test_the_slope_is_that_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    maps: Maps = parts.Cheap()(parts.scene((40, 30))[0])
    maps = {name: x.double() for name, x in maps.items()}
    masks = torch.rand(1, 16, 24, generator=generator).double()
    theta = head.fresh(1).double()
    (slope,) = learn.gradients(theta, [(maps, masks, 0.5, True)])
    step = 1e-6
    for at in torch.randint(head.SIZE, (12,), generator=generator).tolist():
        ends = []
        for sign in (1, -1):
            moved = theta.clone()
            moved[0, at] += sign * step
            ends.append(0.25 * learn.misfit(head.logits(moved, maps).sigmoid(), masks))
        assert float(slope[0, at]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), abs=1e-7)


def test_gated_coordinates_hardly_move() -> None:
    before, memory = taught("hybrid", 3)
    held = importance.union(before.gates, head.SIZE)
    assert 0 < float(held.mean()) < 0.9
    now = memory.read("s").digest[-1]
    after = learn.teach(before, memory.read("s"), now, Recipe(mode="hybrid"))
    change = (after.theta - before.theta).abs()
    free = change[held == 0].max()
    assert free > 1e-3
    assert change[held > 0].max() < 1e-3 * free


def test_without_gates_everything_moves() -> None:
    before, memory = taught("fifo", 3)
    after = learn.teach(before, memory.read("s"), memory.read("s").digest[-1], Recipe(mode="fifo"))
    assert float(((after.theta - before.theta).abs() > 1e-6).float().mean()) > 0.9
    assert not before.gates.any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.integers(1, 5), updates=st.integers(1, 9))
def test_the_union_of_gates_grows_until_the_oldest_leaves(
    seed: int, kept: int, updates: int
) -> None:
    rng = np.random.default_rng(seed)
    size, bits = 37, importance.no_gates(2, kept, 37)
    gates = []
    for number in range(updates):
        before = importance.union(bits, size).numpy()
        gates.append(rng.random((2, size)) < 0.2)
        bits = importance.remember(bits, gates[-1])
        after = importance.union(bits, size).numpy()
        assert (after > 0).tolist() == np.any(gates[-kept:], axis=0).tolist()
        if number < kept:
            assert (after >= before).all()
    assert bits.shape == (2, kept, 5)


def test_a_gate_marks_what_matters_most() -> None:
    u = torch.tensor([[0.1, 1.0, 0.6, 0.5], [0.0, 0.0, 0.0, 0.0]])
    gate = importance.gate_of(u, 0.5)
    assert gate.tolist() == [[False, True, True, False], [False] * 4]


def test_holding_is_the_minimum_of_the_penalised_step() -> None:
    theta, before = torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 1.0]])
    gates = torch.tensor([[1.0, 0.0]])
    held = importance.hold(theta, before, gates, gamma=3.0, rate=0.1)
    x = torch.linspace(0, 3, 30_001)
    cost = (x - 2) ** 2 / 0.2 + 3 * (x - 1) ** 2
    assert float(held[0, 0]) == pytest.approx(float(x[cost.argmin()]), abs=2e-4)
    assert float(held[0, 1]) == 2.0


def test_a_planted_combination_is_recovered() -> None:
    rng = torch.Generator().manual_seed(3)
    digests = torch.randn(24, 200, generator=rng)
    mean = digests.mean(0)
    now = mean + 0.8 * (digests[3] - mean) + 0.5 * (digests[17] - mean)
    psi = selection.explained(digests, now, sparsity=0.1, most=24, steps=300)
    assert set(np.argsort(-psi)[:2]) == {3, 17}
    assert psi[3] > psi[17] > 5 * np.sort(psi)[-3]
    few = selection.explained(digests, now, sparsity=0.1, most=1, steps=300)
    assert np.flatnonzero(few).tolist() == [3]


def test_what_is_not_selected_is_not_learnt_from() -> None:
    learned, memory = taught("rmscl", 3)
    examples, recipe = memory.read("s"), Recipe(mode="rmscl", most=1)
    now = examples.digest[2]
    chosen = selection.explained(examples.digest, now, recipe.sparsity, recipe.most)
    assert np.flatnonzero(chosen).tolist() == [2]
    after = learn.teach(learned, examples, now, recipe)
    examples._masks[1] = 255 - examples._masks[1]
    again = learn.teach(learned, examples, now, recipe)
    assert torch.equal(after.theta, again.theta)


def test_predicted_masks_teach_as_far_as_they_are_certain() -> None:
    found = torch.full((2, 4, 4), 0.3)
    masks = torch.zeros(2, 4, 4)
    masks[0, 1:3, 1:3] = 0.9
    doubtful = masks.clone()
    doubtful[0, 0, 0] = 0.5  # nobody knows
    wrong = found.clone()
    wrong[0, 0, 0] = 0.99
    same, other = (learn.misfit(f, doubtful, known=False) for f in (found, wrong))
    assert float(same) == pytest.approx(float(other))
    assert learn.misfit(wrong, masks, known=False) > learn.misfit(found, masks, known=False)
    wrong[1] = 0.99  # of an object that is not shown
    assert learn.misfit(wrong, masks) == learn.misfit(torch.stack([wrong[0], found[1]]), masks)


def test_the_first_frame_keeps_its_say() -> None:
    pinned = np.array([True, True, False, False])
    weights = selection.balanced(np.array([0.0, 0.0, 5.0, 1.0]), pinned, anchor=0.7)
    assert np.square(weights[:2]).tolist() == pytest.approx([0.35, 0.35])
    assert np.square(weights[2:]).sum() == pytest.approx(0.3)
    alone = selection.balanced(np.array([1.0, 1.0]), pinned[:2], anchor=0.7)
    assert np.square(alone).sum() == pytest.approx(1.0)
    faded = selection.recent(np.ones(4), pinned, fade=0.5)
    assert faded.tolist() == [1.0, 1.0, 0.5, 1.0]


@pytest.mark.parametrize("mode", MODES)
def test_learning_is_deterministic(mode: Mode) -> None:
    one, two = (taught(mode, 2)[0] for _ in range(2))
    assert torch.equal(one.theta, two.theta)
    assert np.array_equal(one.gates, two.gates)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"mode": "hybird"}, "hybrid"),
        ({"threshold": 1.0}, "threshold"),
        ({"anchor": 0.0}, "anchor"),
    ],
)
def test_a_recipe_that_is_none_is_refused(wrong: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Recipe(**wrong)  # type: ignore[arg-type]
