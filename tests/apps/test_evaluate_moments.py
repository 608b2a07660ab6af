"""The evaluation of memories: fair budgets, baselines that are what they say, bars, results."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from retain.apps.evaluate_moments import ablations, offline, policies, results, run, streams, tables
from retain.apps.evaluate_moments.policies import CONTENDERS, Budget, Contender
from retain.apps.evaluate_moments.results import Bar, Score, Table
from retain.apps.evaluate_moments.run import EvalOptions, evaluate
from retain.apps.evaluate_moments.streams import Stream, planted
from retain.apps.evaluate_moments.tables import Options, recall_columns
from retain.datasets.held import coverage
from retain.datasets.planted import Event
from retain.memory.tokens import fit, tokens
from retain.pipeline.errors import UsageError

BY_NAME = {contender.name: contender for contender in CONTENDERS}


def walk(count: int = 300, dim: int = 24, seed: int = 0, **changes: object) -> Stream:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count // 10, dim)).repeat(10, axis=0)
    rows = rows + 0.05 * rng.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    times = np.arange(count) / 2.0
    values: dict[str, object] = {
        "change": policies.motion(rows.astype(np.float32)),
        "cuts": policies.motion(rows.astype(np.float32)),
    }
    return Stream("walk", rows.astype(np.float32), times, [], **(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.name)
@pytest.mark.parametrize("size", [(1280, 720), (160, 90)])
def test_every_policy_keeps_its_budget_and_answers_each_question(
    contender: Contender, size: tuple[int, int]
) -> None:
    stream, budget = walk(size=size), Budget(entries=24, tokens=6000)
    small = fit(*size, tokens(224, 224))
    for kept in contender.run(stream, budget, [40, 150, 299], 0):
        assert len(kept.frames) == len(kept.clear) <= budget.entries
        assert (np.diff(kept.frames) > 0).all()
        assert kept.frames.max() <= kept.asked
        paid = [tokens(*size) if clear else tokens(*small) for clear in kept.clear.tolist()]
        assert sum(paid) <= budget.tokens
    assert [k.asked for k in contender.run(stream, budget, [40, 299], 0)] == [40, 299]


@pytest.mark.parametrize("name", [c.name for c in CONTENDERS if not c.offline])
def test_causal_policies_do_not_see_what_comes_later(name: str) -> None:
    stream = walk()
    other = walk(seed=1)
    joined = Stream(
        "joined",
        np.concatenate([stream.features[:150], other.features[150:]]),
        stream.times_s,
        [],
        change=np.concatenate([stream.change[:150], other.change[150:]]),  # type: ignore[index]
        cuts=np.concatenate([stream.cuts[:150], other.cuts[150:]]),  # type: ignore[index]
    )
    budget = Budget(entries=12)
    (a,), (b,) = (BY_NAME[name].run(s, budget, [149], 5) for s in (stream, joined))
    assert a.frames.tolist() == b.frames.tolist()
    assert a.clear.tolist() == b.clear.tolist()


def test_a_policy_without_its_signal_sits_out() -> None:
    bare = walk(change=None, cuts=None)
    out = {contender.name for contender in CONTENDERS if not contender.can(bare)}
    assert out == {"pixel K-sigma FIFO", "AdaptiveDetector heap"}


def test_baselines_hold_what_they_say() -> None:
    stream, budget = walk(), Budget(entries=16)
    held = {
        name: BY_NAME[name].run(stream, budget, [299], 3)[0].frames.tolist()
        for name in ("recent", "cosine heap", "stride doubling", "uniform")
    }
    assert held["recent"] == list(range(284, 300))
    motion = policies.motion(stream.features)
    assert set(held["cosine heap"]) == set(np.argsort(-motion, kind="stable")[:16].tolist())
    assert set(range(0, 300, 32)) <= set(held["stride doubling"])
    assert (held["uniform"][0], held["uniform"][-1], len(held["uniform"])) == (0, 299, 16)


def test_the_queue_on_another_score_is_the_papers() -> None:
    """``k_sigma_fifo`` on the paper's own scores keeps what the paper's memory keeps."""
    from retain.memory.router import Router, RouterConfig

    stream, budget = walk(), Budget()
    router = Router(RouterConfig(mode="paper"), stream.features.shape[1])
    scores = [
        router.step(feature[None], (t,))[0].score
        for feature, t in zip(stream.features, stream.times_s.tolist(), strict=True)
    ]
    (mine,) = policies.k_sigma_fifo(np.array(scores), stream, budget, [299])
    (paper,) = BY_NAME["paper"].run(stream, budget, [299], 0)
    assert mine.frames.tolist() == paper.frames.tolist()
    assert mine.clear.tolist() == paper.clear.tolist()


def test_offline_marks_are_better_than_what_they_are_marks_for() -> None:
    stream = walk(600)
    far = {
        name: coverage(stream.features, stream.times_s, policy.run(stream, Budget(40), [599], 0)[0])
        for name, policy in BY_NAME.items()
    }
    worst = {name: float(c.p95) for name, c in far.items()}
    assert far["k-medoids"].mean <= far["uniform"].mean + 1e-3
    assert worst["k-centre"] <= min(worst["recent"], worst["uniform"]) + 1e-3


def test_farthest_points_by_hand() -> None:
    features = np.array([[1, 0], [0.99, 0.14], [0, 1], [-1, 0]], np.float32)
    assert offline.k_centre(features, 3).tolist() == [0, 3, 2]
    assert offline.k_centre(features, 9).tolist() == [0, 3, 2, 1]
    assert sorted(offline.k_medoids(features, 4).tolist()) == [0, 1, 2, 3]
    assert offline.uniform(features, 2).tolist() == [0, 3]


def test_events_fall_into_the_age_they_have() -> None:
    stream = walk(2600)
    stream.events.extend([Event(10.0, 12.0), Event(1290.0, 1292.0)])
    kept = policies.ranked(np.arange(2600.0), stream, Budget(64), [2599])
    columns = recall_columns(stream, kept, Budget(64))
    assert columns["held, 0-30 s"] == 1.0
    assert columns["held, > 10 min"] == 0.0
    assert columns[f"held, {tables.OLD}"] == 0.0
    assert "held, 30-120 s" not in columns


@pytest.mark.parametrize("fps", [1.0, 2.0, 5.0])
def test_old_events_are_held_at_the_product_budget(fps: float) -> None:
    """The bar 0.95, on seeds that nothing was tuned on; the published queue holds none."""
    held: dict[str, list[float]] = {"robust": [], "paper": []}
    for setting in ("weak, fast pan", "busy cuts"):
        stream = planted(setting, 77, fps)
        for name, values in held.items():
            kept = BY_NAME[name].run(stream, Budget(), tables.asks(stream), 0)
            values.append(recall_columns(stream, kept, Budget())[f"held, {tables.OLD}"])
    assert np.mean(held["robust"]) >= 0.95
    assert np.mean(held["paper"]) <= 0.15


def test_coverage_is_not_worse_than_a_random_sample() -> None:
    for setting in ("busy", "busy cuts"):
        stream, budget = planted(setting, 78, 2.0), Budget()
        last = [len(stream.times_s) - 1]
        mean = {
            name: coverage(
                stream.features, stream.times_s, BY_NAME[name].run(stream, budget, last, 0)[0]
            ).mean
            for name in ("robust", "reservoir")
        }
        assert mean["robust"] <= mean["reservoir"]


def test_the_turn_is_what_tells_a_flash() -> None:
    """Curvature's own ablation: without it more flashes are held."""
    stream, options = planted("many flashes", 79, 5.0), Options()
    share = {}
    for name in ("robust", "no flash rule (turn never looked at)"):
        config = ablations.CHANGES[name](stream, options)
        (kept,) = policies.memory(config, stream, [len(stream.times_s) - 1])
        share[name] = float(np.isin(stream.flashes, kept.frames).mean())
    assert share["robust"] < 0.2 < share["no flash rule (turn never looked at)"]


def test_bars_know_their_side() -> None:
    assert Bar("", 0.96, 0.95).met
    assert not Bar("", 0.94, 0.95).met
    assert Bar("", 19.0, 20.0, at_least=False).met
    assert not Bar("", 21.0, 20.0, at_least=False).met


def small(calls: list[str], name: str) -> Table:
    calls.append(name)
    scores = [Score("robust", "held", "s", [0.5, 1.0]), Score("paper", "us", "s", [], False)]
    return Table(name, name.title(), "note", scores, [Bar("b", 1.0, 0.5)])


def test_an_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    stop = [True]

    def breaks(options: Options, tell: tables.Tell) -> Table:
        if stop[0]:
            raise KeyboardInterrupt
        return small(calls, "b")

    made = {"a": lambda options, tell: small(calls, "a"), "b": breaks}
    monkeypatch.setattr(run, "TABLES", made)
    options = EvalOptions(out=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate(options, lambda text: None)
    stop[0] = False
    both = evaluate(options, lambda text: None)
    assert calls == ["a", "b"]
    assert [table.name for table in both] == ["a", "b"]
    assert both[0].means() == {("s", "robust", "held"): 0.75, ("s", "paper", "us"): pytest.approx(
        math.nan, nan_ok=True)}  # fmt: skip
    assert evaluate(EvalOptions(out=tmp_path, only=("b",)), lambda text: None) == both[1:]
    assert calls == ["a", "b"]
    evaluate(EvalOptions(out=tmp_path, table=Options(seeds=1)), lambda text: None)
    assert calls == ["a", "b", "a", "b"]


def test_saved_tables_come_back_whole(tmp_path: Path) -> None:
    table = small([], "t")
    results.save(tmp_path / "x" / "moments.json", [(table, {"seeds": 2})])
    assert results.load(tmp_path / "x" / "moments.json") == [(table, {"seeds": 2})]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9}', '{"version": 1, "tables": 3}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "moments.json").write_text(text)
    with pytest.raises(UsageError, match="not a result of this evaluation"):
        evaluate(EvalOptions(out=tmp_path), lambda text: None)


def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="recal") as error:
        evaluate(EvalOptions(out=tmp_path, only=("recal",)), lambda text: None)
    assert "recall" in str(error.value.hint)


def test_pixel_differences_by_hand() -> None:
    thumbs = np.zeros((3, 36, 64, 3), np.uint8)
    thumbs[1] = 255
    assert streams.pixel_change(thumbs).tolist() == [0.0, 255.0, 255.0]


def test_pyscenedetect_sees_a_cut_where_it_is() -> None:
    pytest.importorskip("scenedetect")
    rng = np.random.default_rng(0)
    thumbs = np.full((20, 36, 64, 3), 60, np.uint8)
    thumbs[9:] = 200
    thumbs = thumbs + rng.integers(0, 4, thumbs.shape, np.uint8)
    values = streams.adaptive(thumbs, 5.0)
    assert values is not None
    assert np.flatnonzero(values > streams.CUT).tolist() == [9]


def test_a_table_has_a_value_per_seed_policy_and_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CONTENDERS", [BY_NAME["recent"], BY_NAME["reservoir"]])
    drawn = [(seed, walk(120, seed=seed)) for seed in (4, 5)]
    told: list[str] = []
    values = tables.judge(
        drawn, Options(), lambda seed, stream, kept: {"asked": float(len(kept))}, told.append
    )
    assert values == {
        ("recent", "asked", "walk"): [1.0, 1.0],
        ("reservoir", "asked", "walk"): [1.0, 1.0],
    }
    assert told == ["walk"]


def test_a_question_about_an_event_is_answered_by_a_frame_of_it() -> None:
    stream = walk(200)
    stream.events.extend([Event(10.0, 12.0), Event(40.0, 42.0)])
    held = policies.ranked((np.arange(200) == 21).astype(float), stream, Budget(1), [199])
    assert held[0].frames.tolist() == [21]
    assert tables.query_columns(0, stream, held)["recall@1"] == 0.5
