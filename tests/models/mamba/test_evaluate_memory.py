"""The table of a memory: what is counted, and that a memory and controls are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mamba_parts as parts
import pytest
from mamba_parts import HOST

from retain.apps import evaluation_detect as job
from retain.datasets.detect import degrade
from retain.datasets.detect.base import Sample, Truth, truth_of
from retain.models.mamba import evaluate as judge
from retain.pipeline.errors import UsageError


class Squares:
    """A clip of a red square that moves. Its truth is one cell, as the host's boxes are."""

    notes: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    rate = 24.0

    def __init__(self, name: str, left: float, names: tuple[str, ...]) -> None:
        self.name, self.names, self._left = name, names, left
        self.numbers: Sequence[int] = range(24)

    def __len__(self) -> int:
        return 24

    def truth(self, index: int) -> Truth:
        x = 16 * round(self._left / 16)
        return truth_of((160, 96), [[x, 32, x + 16, 48]], [0], [0], [0])

    def __getitem__(self, index: int) -> Sample:
        image = parts.picture(16 * round(self._left / 16), seed=int(self._left))
        image[48:64] = image[64:80]
        return Sample(index, index / 24, image, self.truth(index))


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> list[judge.Described]:
    monkeypatch.setattr(degrade, "degrade", lambda image, *rest: parts.dulled(image))
    names = (("red",), ("object",))
    made = [Squares(f"s{k}", 20 + 60 * k, names[k]) for k in range(2)]
    return [judge.describe(HOST, clip, "strong", 1) for clip in made]


def test_classes_are_the_hosts_by_name_or_by_what_it_says(clips: list[judge.Described]) -> None:
    for clip in clips:
        assert clip.hit.any()
        assert not clip.hit[:5].any()
        assert {int(k) for truth in clip.truths for k in truth.labels} == {0}


def test_rows_differ_in_what_they_remember(clips: list[judge.Described]) -> None:
    rows = {way.name: way for way in judge.ways(parts.gated(), parts.gated(), None)}
    scores = {name: judge.run(HOST, way, clips, cuts=False) for name, way in rows.items()}
    assert scores["plain"].deg < 0.1
    assert scores["plain, frames not spoilt"].deg > 0.4
    assert scores["carry"].deg > 0.4
    assert scores["bank"].deg > 0.2
    assert scores["no-memory control"].deg < 0.1
    assert {tuple(score.by_clip) for score in scores.values()} == {("s0", "s1")}


def test_a_memory_of_another_clip_never_sees_this_one(clips: list[judge.Described]) -> None:
    way = replace(judge.ways(parts.gated(), None, None)[-1], name="astray")
    assert way.foreign
    assert judge.run(HOST, way, clips).deg < 0.1


def test_ghosts_are_counted_after_cuts(clips: list[judge.Described]) -> None:
    rows = {way.name: way for way in judge.ways(parts.gated(), None, None)}
    plain, carry = (judge.run(HOST, rows[name], clips) for name in ("plain", "carry"))
    assert carry.ghosts_kept > plain.ghosts_kept + 0.5


def score(name: str, deg: float, cln: float = 0.8) -> judge.Score:
    return judge.Score(name, deg, cln, 1.0, 0, 0.0, 0.0, 1.0, {"a": (deg, cln)})


def test_bars_are_met_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    good = [
        score("plain", 0.2), score("no-memory control", 0.25), score("carry", 0.6),
        score("bank", 0.5), score("bank + carry", 0.65), score("bank of another clip", 0.19),
    ]  # fmt: skip
    assert all(row.met for row in job.bars(good, "strong"))
    assert len(job.bars(good, "mild")) < len(job.bars(good, "strong"))
    bad = [replace(s, deg=0.3, cln=0.7) if s.name == "bank" else s for s in good]
    assert [row.met for row in job.bars(bad, "strong")].count(False) == 3
    assert job.bars(good[:1], "strong") == []
    spoilt, untouched, _ = job.scored(good[3], good)
    assert (spoilt.value, spoilt.peer_value, spoilt.ratio) == (50.0, 20.0, 2.5)
    assert untouched.name == "bank, untouched frames"
    job.show(good)
    assert "bank + carry" in capsys.readouterr().out


def test_seeds_are_averaged_and_cuts_are_told_by_the_first() -> None:
    def of(deg: float, ghosts: float) -> list[judge.Score]:
        return [judge.Score("a", deg, 0.8, 1.0, 1, ghosts, by_clip={"x": (deg, 0.8)})]

    (whole,) = judge.mean({4: of(0.2, 1.0), 5: of(0.6, float("nan"))})
    assert whole.deg == pytest.approx(0.4)
    assert whole.by_clip["x"] == (pytest.approx(0.4), pytest.approx(0.8))
    assert whole.by_seed == {4: (0.2, 0.8), 5: (0.6, 0.8)}
    assert (whole.resets, whole.ghosts) == (2, 1.0)


def test_each_seed_spoils_other_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "degrade", lambda image, *rest: parts.dulled(image))
    clip = Squares("s", 20, ("red",))
    scores = {s.name: s for s in job.over_seeds(HOST, "none", [clip], "strong", range(1, 3))}
    assert list(scores["plain"].by_seed) == [1, 2]
    job.show(list(scores.values()))


def test_without_weights_there_is_no_table(clips: list[judge.Described]) -> None:
    assert [s.name for s in job.table(HOST, "none", clips)][-1] == "carry"
    with pytest.raises(UsageError, match="train mamba"):
        job.table(HOST, "auto", clips)
    with pytest.raises(UsageError):
        job.opened([])
