"""Worlds as a stream."""

from __future__ import annotations

import numpy as np
import pytest

from retain.datasets.worlds.config import WorldConfig
from retain.datasets.worlds.draw import draw
from retain.datasets.worlds.source import WorldSource, overlap
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame


def frames(source: str, **options: float) -> list[Frame]:
    opened = WorldSource(source, **options)  # type: ignore[arg-type]
    opened.open()
    return list(opened.frames())


def test_the_clips_of_a_world_come_one_after_the_other() -> None:
    found = frames("worlds://pendulum?seed=4&world=2&clips=3&first=1&scale=2&rate=10")
    drawn = draw(WorldConfig("pendulum", split="test"), 5, 6, 4).frames[2, 1:4]
    assert [f.seq for f in found] == list(range(24))
    assert [f.seq for f in found if f.discontinuity] == [8, 16]
    assert [f.seconds for f in found[:3]] == [0.0, 0.1, 0.2]
    assert found[9].meta == {"clip": 1, "frame": 1}
    grey = np.rint(255 * drawn[1, 1, 0]).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    assert (found[9].image == grey[:, :, None]).all()


def test_from_a_clip_on_another_law_holds_and_nothing_else_differs() -> None:
    plain, changed = frames("worlds://ball?clips=4"), frames("worlds://ball?clips=4&change=2")
    same = [np.array_equal(a.image, b.image) for a, b in zip(plain, changed, strict=True)]
    assert all(same[:16])
    assert all(same[16:18])
    assert all(same[24:26])
    assert not all(same[18:24])


def test_what_is_left_out_leaves_no_hole_in_the_numbers() -> None:
    found = frames("worlds://rolling?clips=2", fps=4.0, limit=6)
    assert [(f.seq, f.pts) for f in found] == [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]
    assert [f.discontinuity for f in found] == [False] * 4 + [True, False]
    closed = WorldSource("worlds://ball")
    closed.close()
    assert not list(closed.frames())
    info = WorldSource("worlds://ball?clips=5&scale=3").open()
    assert (info.width, info.fps, info.declared_frames, info.duration_s) == (36, 8.0, 40, 5.0)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("worlds://bal", "no address of worlds.*ball, balls"),
        ("world://ball", "no address of worlds"),
        ("worlds://ball?seeds=3", "no 'seeds'.*'seed'"),
        ("worlds://ball?seed=x", "'seed' of worlds cannot be 'x'"),
        ("worlds://ball?side=4", "'side' of worlds cannot be '4'"),
        ("worlds://ball?split=tset", "no split of worlds called 'tset'.*'test'"),
        ("worlds://balls?split=odd&odd=flip", "no odd law"),
    ],
)
def test_an_address_that_means_nothing_is_refused(source: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        WorldSource(source)


@pytest.mark.parametrize(
    ("other", "common"),
    [
        ("worlds://ball", True),
        ("worlds://ball?seed=0&clips=1&first=11&scale=4&side=24", True),
        ("worlds://ball?change=3", True),
        ("worlds://ball?first=12", False),
        ("worlds://ball?seed=1", False),
        ("worlds://ball?world=1", False),
        ("worlds://ball?split=train", False),
        ("worlds://pendulum", False),
    ],
)
def test_addresses_with_a_clip_in_common_are_known(other: str, common: bool) -> None:
    assert overlap("worlds://ball?clips=12", other) is common
    assert overlap(other, "worlds://ball?clips=12") is common
