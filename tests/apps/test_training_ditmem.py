"""The bars of `retain eval ditmem`: each is met by a study that meets it, and missed by another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retain.apps import training_ditmem as job
from retain.models.ditmem.study import Result


def results(right: float, shuffled: float, odd: float) -> dict[str, list[Result]]:
    rng = np.random.default_rng(0)
    noise = rng.uniform(0.9, 1.1, 60)

    def of(value: float) -> list[float]:
        return (value * noise).tolist()

    errors = {"none": of(2.0), "right": of(right), "wrong": of(2.1), "shuffled": of(shuffled)}
    filled = {"none": of(0.02), "right": of(0.01), "linear": of(0.03)}
    memory = Result(errors, errors, of(0.0), (odd + rng.normal(0, 0.5, 60)).tolist(), filled)
    oracle = {"none": of(2.0), "right": of(0.9), "wrong": of(2.1)}
    return {
        "frozen": [memory],
        "frozen+LoRA": [memory],
        "oracle": [Result(oracle, oracle, of(0.0), of(1.0), filled)],
    }


def test_a_study_that_keeps_every_promise() -> None:
    rows = job.bars(results(1.2, 1.9, 2.0), {"constant velocity": 1.8})
    assert rows
    assert all(row.met for row in rows), [row.name for row in rows if not row.met]


def test_each_promise_can_be_missed() -> None:
    rows = job.bars(results(1.95, 1.9, 0.0), {"constant velocity": 1.8})
    missed = [row.name for row in rows if not row.met]
    for words in ("one sample", "shuffled", "constant velocity", "AUC", "oracle"):
        assert any(words in name for name in missed), words


def test_lora_is_held_against_the_untouched_backbone_too() -> None:
    found = results(1.2, 1.9, 2.0)
    (lora,) = found["frozen+LoRA"]
    worse = {**lora.single, "none": [2 * v for v in lora.single["none"]]}
    right = {**worse, "right": [1.5 * v for v in lora.single["right"]]}
    found["frozen+LoRA"] = [replace(lora, single=right)]
    rows = {row.name.split(" [")[0]: row for row in job.bars(found, {"constant velocity": 1.8})}
    assert rows["frozen+LoRA: lowers one sample by"].met, "its own backbone is worse without"
    assert not rows["frozen+LoRA: … of the untouched backbone"].met
