"""Training clips: drawn once, looked at in many ways, labels staying labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gdkvm_parts import GRID, random_cache
from numpy.typing import NDArray

from retain.models.gdkvm import data, draw
from retain.models.gdkvm.augment import augment, corrupt, place


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def silent(done: int, of: int) -> None:
    """Tells nobody."""


@pytest.mark.parametrize("seed", range(20))
def test_augmented_clips_are_pictures_with_labels(seed: int) -> None:
    cache = random_cache()
    masks = cache.masks[0].copy()
    masks[3] = 255
    frames, labels = augment(cache.frames[0], masks, rng(seed))
    assert frames.dtype == np.float32
    assert frames.shape == labels.shape == cache.frames[0].shape
    assert 0 <= frames.min() <= frames.max() <= 1
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2, 255}
    assert set(np.unique(labels[3])) <= {0, 255}
    again = augment(cache.frames[0], masks, rng(seed))
    assert np.array_equal(frames, again[0])
    assert np.array_equal(labels, again[1])


def test_masks_move_with_their_pictures() -> None:
    masks = random_cache().masks[0]
    mirrored = 0
    for seed in range(24):
        moved, labels = place((masks == 1).astype(np.float32), masks, rng(seed))
        inside = labels == 1
        # Half of a border pixel's disagreement is rounding: a border is some 30 of 110 pixels.
        assert ((moved > 0.5) == inside).mean() > 0.97
        assert (moved[inside] > 0.5).mean() > 0.85
        ramp = np.tile(np.linspace(0.1, 1, GRID, dtype=np.float32), (1, GRID, 1))
        turned, _ = place(ramp, masks[:1], rng(seed))
        mirrored += turned[0, 14:18, 18].mean() < turned[0, 14:18, 13].mean()
    assert 0 < mirrored < 12


def runs(changed: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], changed.astype(np.int8), [0]))))
    return [int(stop - start) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def test_corruption_is_short_and_spares_the_first_frame() -> None:
    frames = np.full((20, 16, 16), 0.5, np.float32)
    hit = np.zeros(20, np.int64)
    for seed in range(200):
        out = corrupt(frames, rng(seed), 1.0)
        changed = (out != frames).any(axis=(1, 2))
        hit += changed
        assert 1 <= changed.sum() <= 5
        # The last two may be hit again, which can lengthen a run that ends there.
        assert all(length <= 3 for length in runs(changed[:-2]))
        assert len(runs(changed)) <= 2
        assert 0 <= out.min() <= out.max() <= 1
    assert hit[0] == 0
    assert (hit[1:] > 0).all()
    assert hit[-1] > 60  # half of the clips by itself


def test_corruption_can_be_switched_off_and_leaves_its_input_alone() -> None:
    frames = rng(0).random((6, 8, 8), np.float32)
    before = frames.copy()
    assert np.array_equal(corrupt(frames, rng(1), 0.0), before)
    corrupt(frames, rng(1), 1.0)
    assert np.array_equal(frames, before)
    assert np.array_equal(corrupt(frames[:1], rng(1), 1.0), before[:1])


@pytest.mark.parametrize("available", [2, 3, 10, 24])
def test_windows_lie_inside_the_clip(available: int) -> None:
    strides = set()
    for length in range(2, available + 1):
        for seed in range(30):
            window = data.times(rng(seed), available, length)
            assert len(window) == length
            assert 0 <= window.min() <= window.max() < available
            steps = {int(step) for step in np.diff(window)}
            assert len(steps) == 1 or steps in ({0, 1}, {0, -1})
            strides |= steps
    assert strides <= set(range(-4, 5))
    assert min(strides) < 0 < max(strides)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    def get(step: int, seed: int = 1) -> data.Batch:
        return data.batch(random_cache(), step, seed=seed, size=3, length=4, corruption=0.5)

    batch = get(7)
    assert batch.clip.shape == (3, 4, 1, GRID, GRID)
    assert batch.clip.dtype == torch.float32
    assert -1 <= batch.clip.min() <= batch.clip.max() <= 1
    assert batch.target.shape == (3, 4, GRID, GRID)
    assert batch.target.dtype == torch.int64
    assert torch.equal(batch.clip, get(7).clip)
    assert torch.equal(batch.target, get(7).target)
    assert not torch.equal(batch.clip, get(8).clip)
    assert not torch.equal(batch.clip, get(7, seed=2).clip)


def test_labels_of_fewer_objects() -> None:
    target = torch.tensor([0, 1, 2, 3, 255])
    assert data.only_objects(target, [3, 1]).tolist() == [0, 2, 0, 1, 255]


def fake_draw(place: Path, clips: int, size: int, seed: int, tell: data.Progress) -> None:
    for name in draw.ARRAYS:
        np.save(place / f"{name}.npy", np.full((clips, 3, size, size), seed, np.uint8))
        tell(clips, clips)


def test_phantoms_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "draw", fake_draw)
    first = data.phantoms(tmp_path, 4, 8, 1, silent)
    other = data.phantoms(tmp_path, 4, 8, 2, silent)
    assert (int(first.frames.max()), int(other.frames.max())) == (1, 2)
    monkeypatch.delattr(data, "draw")
    again = data.phantoms(tmp_path, 4, 8, 1, silent)
    assert np.array_equal(again.frames, first.frames)
    assert len(again) == 4


def test_an_interrupted_drawing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "draw", fake_draw)

    def interrupt(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.phantoms(tmp_path, 4, 8, 1, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_whoever_is_second_takes_what_the_first_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(place: Path, clips: int, size: int, seed: int, tell: data.Progress) -> None:
        monkeypatch.setattr(data, "draw", fake_draw)
        data.phantoms(tmp_path, clips, size, seed, silent)
        fake_draw(place, clips, size, seed, tell)

    monkeypatch.setattr(data, "draw", overtaken)
    assert len(data.phantoms(tmp_path, 4, 8, 1, silent)) == 4
    assert len(list(tmp_path.iterdir())) == 1


def test_real_phantoms_fill_the_cache(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cache = data.phantoms(tmp_path, 1, 32, 11, lambda *news: told.append(news))
    assert told == [(1, 1)]
    assert cache.frames.shape == cache.masks.shape == (1, draw.LENGTH, 32, 32)
    assert cache.frames.std() > 10
    assert set(np.unique(cache.masks)) == {0, 1, 2, 3}


@pytest.mark.slow
def test_processes_draw_what_one_would(tmp_path: Path) -> None:
    told: list[int] = []
    shared = data.phantoms(tmp_path, 8, 32, 11, lambda done, _: told.append(done))
    assert told == list(range(1, 9))
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in draw.ARRAYS:
        np.save(alone / f"{name}.npy", np.zeros((8, draw.LENGTH, 32, 32), np.uint8))
    draw.rows(alone, 11, 0, 1, lambda _: None)
    assert np.array_equal(np.load(alone / "frames.npy"), shared.frames)
    assert np.array_equal(np.load(alone / "masks.npy"), shared.masks)
