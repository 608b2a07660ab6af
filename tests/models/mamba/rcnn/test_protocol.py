"""What each protocol reads: the past, or all of the clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rcnn_parts import clip, same, tiny_model

from retain.datasets.detect.base import Sample
from retain.datasets.detect.objects import ObjectVideo
from retain.models.mamba.rcnn import protocol
from retain.models.mamba.rcnn.protocol import run, shuffled, start_up
from retain.models.mamba.rcnn.stream import RcnnMemory, RcnnMemoryConfig
from retain.pipeline.errors import UsageError

CONFIG = RcnnMemoryConfig(capacity=200, key_set=100, proposals=10, warm=2)


class Changed(ObjectVideo):
    """Its frames from ``after`` on are those of another video."""

    def __init__(self, after: int, frames: int = 8) -> None:
        super().__init__(3, frames, 128, 96)
        self._after, self._other = after, clip(frames, 77)

    def __getitem__(self, index: int) -> Sample:
        own = super().__getitem__(index)
        return own if index < self._after else replace(own, image=self._other[index].image)


@pytest.mark.parametrize("after", [3, 5, 7])
def test_causal_results_do_not_change_with_what_comes_later(after: int) -> None:
    model = tiny_model()
    one, two = run(model, clip(), config=CONFIG), run(model, Changed(after), config=CONFIG)
    assert same(one[:after], two[:after])
    assert not same(one[after:], two[after:])


def test_offline_results_do() -> None:
    model = tiny_model()
    one, two = (run(model, c, "offline", CONFIG) for c in (clip(), Changed(7)))
    assert all(not same([a], [b]) for a, b in zip(one[:7], two[:7], strict=True))


def test_causal_is_frame_by_frame_with_a_warm_start() -> None:
    model, video = tiny_model(), clip()
    memory = RcnnMemory(model, "x", CONFIG)
    by_hand = [memory.look(s.image, s.seq, s.seconds) for s in video]
    assert same(run(model, video, config=CONFIG), by_hand)
    assert same(by_hand[:2], [model.detect(video[i].image).found for i in range(2)])


def test_causal_begins_anew_at_a_cut() -> None:
    model, video = tiny_model(), clip()
    video.cuts = (4,)
    got = run(model, video, config=CONFIG)
    assert same(got[4:6], [model.detect(video[i].image).found for i in (4, 5)])
    assert not same(got[6:], [model.detect(video[i].image).found for i in (6, 7)])


def test_offline_reads_from_the_first_frame_on_and_by_its_seed() -> None:
    model, video = tiny_model(), clip()
    one, again = run(model, video, "offline", CONFIG), run(model, video, "offline", CONFIG)
    assert same(one, again)
    assert not same(one[:1], [model.detect(video[0].image).found])
    other = run(model, video, "offline", CONFIG, seed=1)
    assert same(one[:1], other[:1])
    assert not same(one[1:], other[1:])


def test_offline_looks_at_frames_in_the_published_order(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[int, bool | None]] = []
    look = RcnnMemory.look

    def watched(self, image, seq, seconds=0.0, **how):  # type: ignore[no-untyped-def]
        looks.append((seq, how["read"]))
        return look(self, image, seq, seconds, **how)

    monkeypatch.setattr(RcnnMemory, "look", watched)
    monkeypatch.setattr(protocol, "START", 4)
    run(tiny_model(), clip(), "offline", CONFIG)
    assert looks[:5] == [(k, False) for k in (0, 0, 2, 5, 7)]
    assert looks[5] == (0, True)
    assert sorted(looks[5:]) == [(k, True) for k in range(8)]
    assert looks[5:] != sorted(looks[5:])


def test_orders() -> None:
    assert start_up(100) == [0, 0, 8, 15, 23, 30, 38, 46, 53, 61, 69, 76, 84, 91, 99]
    assert start_up(3) == [0, 0, 1, 2]
    assert start_up(1) == [0, 0]
    assert shuffled(1, 0) == [0]
    assert start_up(0) == shuffled(0, 0) == []
    with pytest.raises(UsageError, match="not 'shuffled'"):
        run(tiny_model(), clip(), "shuffled")  # type: ignore[arg-type]
