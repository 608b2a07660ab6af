"""Flow matching: what is drawn, what is compared, what a sampler gives back."""

from __future__ import annotations

import torch
from torch import Tensor

from retain.models.ditmem import flow
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig
from retain.models.ditmem.inject import MemoryRows

CONFIG = DitConfig(side=8, frames=4, dim=32, depth=1, heads=2)


class Knows(VideoDit):
    """Foresees one clip exactly, whatever it is shown."""

    def __init__(self, clip: Tensor) -> None:
        super().__init__(CONFIG)
        self.clip = clip

    def forward(
        self,
        noisy: Tensor,
        s: Tensor,
        clean: Tensor,
        given: Tensor,
        memory: MemoryRows | None = None,
    ) -> Tensor:
        x = self.clip * 2 - 1
        return (noisy - x) / s[:, None, None, None, None]  # noise - x, from (1 - s) x + s noise


def clip() -> Tensor:
    return torch.rand(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def given() -> Tensor:
    return torch.tensor([[True, True, False, False], [True, False, True, False]])


def test_who_knows_the_clip_has_no_loss_and_samples_it() -> None:
    model = Knows(clip())
    noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    s = torch.tensor([0.3, 0.9])
    assert float(flow.losses(model, clip(), given(), s, noise).max()) < 1e-9
    out = flow.sample(model, clip(), given(), steps=3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(out, clip(), atol=1e-5, rtol=0)


def test_the_loss_is_of_the_frames_that_are_not_given() -> None:
    model = Knows(clip())
    noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    s = torch.tensor([0.5, 0.5])
    hidden = ~given()[:, :, None, None, None]
    wrong_where_given = torch.where(hidden, clip(), clip() + 1)
    assert float(flow.losses(model, wrong_where_given, given(), s, noise).max()) < 1e-9
    wrong_where_free = torch.where(hidden, clip() + 1, clip())
    assert float(flow.losses(model, wrong_where_free, given(), s, noise).min()) > 1


def test_a_sample_keeps_what_is_given_reads_nothing_else_and_repeats() -> None:
    torch.manual_seed(0)
    model = VideoDit(CONFIG)
    torch.nn.init.normal_(model.head.weight, std=0.1)

    def made(frames: Tensor, seed: int = 3) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        return flow.sample(model, frames, given(), steps=4, generator=g)

    known = given()[:, :, None, None, None]
    out = made(clip())
    assert torch.equal(torch.where(known, out, 0.0), torch.where(known, clip(), 0.0))
    assert torch.equal(out, made(torch.where(known, clip(), 0.77)))
    assert not torch.equal(out, made(clip(), seed=4))
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_contexts_always_give_something_and_never_all() -> None:
    drawn = flow.contexts(4000, 6, torch.Generator().manual_seed(0))
    assert bool(drawn[:, 0].all())
    assert not bool(drawn.all(1).any())
    first_two = (drawn == (torch.arange(6) < 2)).all(1).float().mean()
    assert 0.5 < float(first_two) < 0.6  # those of the other half that happen to be the same


def test_times_are_moved_towards_noise() -> None:
    u = torch.linspace(0, 1, 5)
    s = flow.shifted(u)
    assert float(s[0]) == 0
    assert float(s[-1]) == 1
    assert bool((s[1:-1] > u[1:-1]).all())
    assert bool((s.diff() > 0).all())


def test_surprise_is_the_loss_and_repeats() -> None:
    g = torch.Generator()
    model = Knows(clip())
    assert float(flow.surprise(model, clip(), given(), generator=g.manual_seed(0)).max()) < 1e-9
    other = flow.surprise(model, clip().flip(1), given(), generator=g.manual_seed(0))
    again = flow.surprise(model, clip().flip(1), given(), generator=g.manual_seed(0))
    assert float(other.min()) > 0.01
    assert torch.equal(other, again)
