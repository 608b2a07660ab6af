"""Training sequences: the same from the same seed, and true to their geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retain.kernels.geometry import rigid
from retain.models.onlinex.scenes import Batch, Pool, SceneConfig, Views, halved, open_pool
from retain.models.onlinex.types import inverse, transform
from retain.pipeline.errors import UsageError

CONFIG = SceneConfig(side=32, rooms=2, frames=6)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return open_pool(CONFIG)


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, n), getattr(b, n)) for n in Batch.__slots__[:-1]]
    pairs += [(getattr(a.between, n), getattr(b.between, n)) for n in Views.__slots__]
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_seed_draws_the_same_sequences_from_any_pool(pool: Pool, tmp_path: Path) -> None:
    drawn = pool.draw(3, 4, 7)
    assert same(drawn, pool.draw(3, 4, 7))
    assert not same(drawn, pool.draw(3, 4, 8))
    seen: list[int] = []
    kept = open_pool(CONFIG, tmp_path, lambda done, of: seen.append(done), threads=2)
    assert seen == [1, 2]
    assert same(drawn, kept.draw(3, 4, 7))
    assert same(
        drawn, open_pool(CONFIG, tmp_path, lambda *_: pytest.fail("drawn again")).draw(3, 4, 7)
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_splits_share_no_room() -> None:
    train, test = SceneConfig(rooms=400_000), SceneConfig(split="test", rooms=400_000)
    assert train.seed(0) > test.seed(399_999)


def test_sequences_begin_where_they_are(pool: Pool) -> None:
    drawn = pool.draw(3, 4, 1)
    assert torch.allclose(drawn.c2w[:, 0], torch.eye(4).expand(3, 4, 4), atol=1e-6)
    assert drawn.images.shape == (3, 4, 3, 32, 32)
    assert drawn.between.c2w.shape == (3, 3, 4, 4)
    steps = inverse(drawn.c2w[:, 0]) @ drawn.c2w[:, 1]
    moved = steps[:, :3, 3].norm(dim=1)
    assert (moved < 0.12).all()


def test_depth_moved_to_another_view_meets_its_surface_and_colour(pool: Pool) -> None:
    drawn = pool.whole(np.array([0, 1]), 3)
    side = 32
    pixels = torch.stack(torch.meshgrid(*2 * [torch.arange(side) + 0.5], indexing="xy"), -1)
    for b in range(2):
        K = drawn.K[b]
        rays = (pixels - K[:2, 2]) / K.diagonal()[:2]
        points = torch.cat([rays, torch.ones(side, side, 1)], -1) * drawn.depth[b, 0, ..., None]
        for view, at in ((drawn.seen, 1), (drawn.between, 0), (drawn.seen, 2)):
            c2w = view.c2w[b, at][None]
            there = transform(inverse(c2w), points.reshape(1, -1, 3))[0]
            place = there[:, :2] / there[:, 2:] * K.diagonal()[:2] + K[:2, 2]
            grid = (place / side * 2 - 1).reshape(1, side, side, 2)
            shown = torch.cat([view.images[b, at], view.depth[b, at][None]])[None]
            found = F.grid_sample(shown, grid, "bilinear", "border", align_corners=False)[0]
            inside = (grid.abs() < 0.95).all(-1)[0]
            met = (found[3] - there[:, 2].view(side, side)).abs() < 0.03 * found[3]
            assert (met & inside).sum() > 0.85 * inside.sum()
            gap = (found[:3] - drawn.clean[b, 0]).abs().mean(0)
            assert gap[met & inside].mean() < 0.04
            # The same labels, where no class ends.
            named = F.grid_sample(
                view.labels[b, at][None, None].float(),
                grid,
                "nearest",
                "border",
                align_corners=False,
            )[0, 0]
            alike = named == drawn.labels[b, 0]
            assert alike[met & inside].float().mean() > 0.95


def test_what_a_camera_does_is_on_the_input_alone(pool: Pool) -> None:
    taken, plain = pool.draw(2, 3, 3), pool.draw(2, 3, 3, jitter=False)
    assert torch.equal(taken.clean, plain.images)
    assert torch.equal(plain.images, plain.clean)
    gap = (taken.images - taken.clean).abs().mean().item()
    assert 0.005 < gap < 0.2


def test_paths_are_halved() -> None:
    poses = np.stack([rigid.exp(np.array([0.1, 0.2, 0, 1, 0, 0]) * i) for i in range(3)])
    out = halved(poses)
    assert np.allclose(out[::2], poses)
    assert np.allclose(out[3], rigid.exp([0.15, 0.3, 0, 1.5, 0, 0]))


def test_what_cannot_be_drawn_is_refused(pool: Pool) -> None:
    with pytest.raises(UsageError, match="7 in a row"):
        pool.draw(1, 7, 0)
    with pytest.raises(UsageError, match="train or test"):
        SceneConfig(split="val")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two frames"):
        SceneConfig(frames=1)
