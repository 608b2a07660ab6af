"""Training on worlds: repeatable, continued bit for bit, and only what shall learn learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from retain.datasets.worlds.config import WorldConfig
from retain.models.ditmem import evaluate, study, train
from retain.models.ditmem.backbone import VideoDit
from retain.models.ditmem.config import DitConfig, EncoderConfig
from retain.models.ditmem.encoder import MemoryEncoder
from retain.models.ditmem.guided import GuideConfig, Guided
from retain.models.training import Progress
from retain.pipeline.errors import StateError, UsageError

DIT = DitConfig(side=12, frames=8, dim=24, depth=1, heads=2)
ENCODER = EncoderConfig(wide=(8, 8), references=2)
BASE = train.Recipe(DIT, steps=4, batch=3)


def guide(**changes: str) -> GuideConfig:
    return replace(GuideConfig(DIT, ENCODER, params=4, rank=2), **changes)  # type: ignore[arg-type]


def fitted(out: Path, **changes: str) -> train.MemoryRun:
    torch.manual_seed(5)
    run = train.MemoryRun(train.MemoryRecipe(guide(**changes), BASE), VideoDit(DIT), out)
    train.run(run)
    return run


def test_a_backbone_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = train.BackboneRun(BASE, tmp_path / "whole")
    train.run(whole)

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.run(train.BackboneRun(BASE, tmp_path / "parts"), stop)
    rest = train.BackboneRun(BASE, tmp_path / "parts")
    train.run(rest)
    for name, value in whole.average.items():
        assert torch.equal(value, rest.average[name]), name


@pytest.mark.parametrize("training", ["frozen", "lora", "joint"])
def test_only_what_shall_learn_learns(tmp_path: Path, training: str) -> None:
    torch.manual_seed(5)
    before = VideoDit(DIT).state_dict()
    after = fitted(tmp_path, training=training).guided
    moved = {
        name
        for name, value in before.items()
        if not torch.equal(value, after.state_dict()[_place(name, training)])
    }
    assert moved == (set(before) if training == "joint" else set())
    assert any("encoder" in n for n, p in after.named_parameters() if p.requires_grad)


def _place(name: str, training: str) -> str:
    """Where a weight of the backbone is after LoRA was added to it."""
    head, _, last = f"dit.{name}".rpartition(".")
    low = training == "lora" and head.rpartition(".")[2] in ("q", "k", "v", "o")
    return f"{head}.base.{last}" if low else f"dit.{name}"


def test_worlds_of_training_are_not_those_judged_on() -> None:
    clips, params = train.worlds(BASE, 3, 2)
    again, _ = train.worlds(BASE, 3, 2)
    other, _ = train.worlds(BASE, 4, 2)
    assert clips.shape == (3, 2, 8, 1, 12, 12)
    assert params.shape == (3, 4)
    assert torch.equal(clips, again)
    assert not torch.equal(clips, other)
    test = evaluate.unseen(replace(BASE.world(), split="test"), 3, 1, 3)
    assert not torch.equal(test.frames, clips[:, 0])
    assert torch.equal(test.other[:, :2], test.frames[:, :2])
    assert not torch.equal(test.other, test.frames)


def test_two_balls_are_judged_one_by_one() -> None:
    test = evaluate.unseen(WorldConfig("balls", split="test"), 16, 1, 3)
    assert test.centres.shape == (16, 8, 2, 2)
    miss = evaluate.places(test.kind, test.frames) - test.centres[:, evaluate.GIVEN :].numpy()
    assert float(abs(miss).mean()) < 0.15


def test_no_clip_is_a_reference_to_itself_and_useless_ones_are_of_another_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = train.MemoryRecipe(guide(training="frozen"), BASE, shuffled=0.5)
    run = train.MemoryRun(made, VideoDit(BASE.dit), tmp_path)
    seen: dict[str, torch.Tensor] = {}
    branch = MemoryEncoder.branch

    def shown(encoder: MemoryEncoder, clips: torch.Tensor) -> torch.Tensor:
        seen["references"] = clips
        return branch(encoder, clips)

    def loss(dit: VideoDit, target: torch.Tensor, *rest: object) -> torch.Tensor:
        seen["target"] = target
        return target.new_zeros(())

    monkeypatch.setattr(MemoryEncoder, "branch", shown)
    monkeypatch.setattr(train, "flow_loss", loss)
    known, broken = made.guide.encoder.references, 0
    for step in range(8):
        run.loss(step)
        clips, _ = train.worlds(BASE, step, 1 + known)
        assert torch.equal(seen["target"], clips[:, 0])
        for world, given in enumerate(seen["references"]):
            if torch.equal(given, clips[world, 1:]):
                continue
            broken += 1
            other = clips[world - 1, 1:]
            assert not torch.equal(given, other), "their order is broken too"
            frames = {frame.numpy().tobytes() for frame in other[0]}
            assert {frame.numpy().tobytes() for frame in given[0]} == frames
    assert 0 < broken < 8 * BASE.batch
    with pytest.raises(UsageError, match="two worlds"):
        train.MemoryRecipe(made.guide, replace(BASE, batch=1))


def test_disorder_is_never_the_order_nor_that_backwards() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {tuple(train.disorder(3, generator).tolist()) for _ in range(60)}
    assert drawn == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)}


def test_a_study_judges_every_condition_and_does_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "WORLDS", 4)
    monkeypatch.setattr(evaluate, "SAMPLES", 2)
    monkeypatch.setattr(evaluate, "STEPS", 2)
    for row in ("frozen", "oracle", "LoRA alone"):
        changed = {**study.ROWS[row], "rank": 2, "encoder": ENCODER}
        monkeypatch.setitem(study.ROWS, row, changed)
    told: list[str] = []

    def tell(text: str, progress: Progress) -> None:
        told.append(text)

    rows = ("frozen", "oracle", "LoRA alone")
    found = study.run(rows, range(2), tmp_path, tell, base=BASE, steps=2)
    assert len(told) == 2 * (BASE.steps + 3 * 2)
    assert set(found["frozen"][0].single) == {"none", "right", "wrong", "shuffled"}
    assert set(found["oracle"][1].mean) == {"none", "right", "wrong"}
    assert set(found["LoRA alone"][0].single) == {"none"}
    assert len(found["frozen"][0].usual) == 4
    part = study.novelty(found["frozen"])
    assert part is not None
    assert 0 <= part.low <= part.value <= part.high <= 1

    told.clear()
    assert study.run(rows, range(2), tmp_path, tell, base=BASE, steps=2) == found
    assert not told
    (tmp_path / "oracle-1.json").write_text('{"recipe"')
    with pytest.raises(StateError, match="no result of this study"):
        study.run(rows, range(2), tmp_path, tell, base=BASE, steps=2)
    with pytest.raises(UsageError, match="no row"):
        study.recipe("forzen", BASE)


def test_nothing_is_read_where_nothing_is_shown() -> None:
    names = dict(Guided(guide(training="lora", source="none")).named_parameters())
    assert not any(name.startswith("pairs") for name in names)
    assert any(name.startswith("pairs") for name, _ in Guided(guide()).named_parameters())


def test_the_guide_survives_json() -> None:
    config = guide(training="joint", reader="cross")
    assert GuideConfig.from_json(config.as_json()) == config
    with pytest.raises(UsageError, match="parameters"):
        Guided(GuideConfig(DIT, ENCODER, source="oracle"))


def test_chances_are_of_pairs() -> None:
    import numpy as np

    assert evaluate.auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert evaluate.auc(np.array([0.0, 1.0]), np.array([1.0, -1.0])) == pytest.approx(0.375)
