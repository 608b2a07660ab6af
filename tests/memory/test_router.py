"""The router: the published behaviour where it is published, and what robust mode repairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_parts import features

from retain.memory.router import Router, RouterConfig
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.results import Route

DIM = 32


def routes(config: RouterConfig, rows: np.ndarray, fps: float = 2.0) -> list[Route]:
    router = Router(config, rows.shape[1])
    return [router.step(row[None], [i / fps])[0] for i, row in enumerate(rows)]


def scored_stream(scores: np.ndarray) -> np.ndarray:
    """Features whose motion M is ``scores``; no turn counts when lambda is 0."""
    angles = np.concatenate([[0.0], np.cumsum(np.arccos(1 - scores))])
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def paper(gamma: float = 0.9, **changes: float) -> RouterConfig:
    return RouterConfig(mode="paper", lambda_=0.0, gamma=gamma, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gamma", "opening"), [(0.5, 1), (0.8, 2), (0.9, 5), (0.95, 10), (0.99, 41)]
)
def test_paper_opens_with_a_run_of_clear_frames(gamma: float, opening: int) -> None:
    """The run's length depends on the draw; ``opening`` is one measured elsewhere."""
    lengths, wanted = [], []
    for seed in range(40):
        scores = np.random.default_rng(seed).normal(1.0, 0.1, 150)
        decided = routes(paper(gamma), scored_stream(scores))[2:]
        lengths.append([route.state == "clear" for route in decided].index(False))
        mean = var = 0.0
        for run, score in enumerate(scores[1:]):
            mean = gamma * mean + (1 - gamma) * score
            var = gamma * var + (1 - gamma) * (score - mean) ** 2
            if score < mean + math.sqrt(var):
                wanted.append(run)
                break
    assert lengths == wanted
    assert min(lengths) <= opening <= np.median(lengths)


@pytest.mark.parametrize("gamma", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_paper_z_reaches_its_ceiling_first_and_never_passes_it(gamma: float) -> None:
    scores = np.random.default_rng(1).exponential(0.2, 400).clip(1e-3, 1.9)
    z = [route.z for route in routes(paper(gamma), scored_stream(scores))[2:]]
    ceiling = 1 / math.sqrt(1 - gamma)
    assert z[0] == pytest.approx(ceiling, rel=1e-6)
    assert max(z) <= ceiling + 1e-6


def test_paper_splits_gaussian_scores_16_34_50() -> None:
    scores = np.random.default_rng(2).normal(1.0, 0.1, 20_000)
    decided = routes(paper(0.99), scored_stream(scores))[200:]
    share = {s: np.mean([r.state == s for r in decided]) for s in ("clear", "blurred", "discard")}
    assert share["clear"] == pytest.approx(0.16, abs=0.01)
    assert share["blurred"] == pytest.approx(0.34, abs=0.01)
    assert share["discard"] == pytest.approx(0.50, abs=0.01)


def test_paper_keeps_every_frozen_frame_and_robust_only_the_first() -> None:
    rows = np.tile(features(1), (30, 1))
    assert {r.state for r in routes(RouterConfig(mode="paper"), rows)[2:]} == {"clear"}
    repaired = routes(RouterConfig(), rows)
    assert repaired[0].state == "clear"
    assert {(r.state, r.reason) for r in repaired[1:]} == {("discard", "duplicate")}


def test_paper_does_not_score_the_first_two_frames() -> None:
    decided = routes(RouterConfig(mode="paper"), features(5))
    assert [r.reason for r in decided[:2]] == ["warm-up", "warm-up"]
    assert math.isnan(decided[1].curvature)
    assert decided[2].state == "clear"


def test_a_threshold_no_score_can_reach_is_refused_in_paper_mode() -> None:
    with pytest.raises(UsageError, match=r"no frame would ever be Clear.*k2 < 3.16"):
        RouterConfig(mode="paper", gamma=0.9, k2=3.2)
    RouterConfig(mode="robust", gamma=0.9, k2=3.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.0}, "gamma must be between 0 and 1"),
        ({"k1": 2.0}, "k1 must be at most k2"),
        ({"half_life_s": 0.0}, "half_life_s must be > 0"),
        ({"mode": "best"}, "'paper' or 'robust', not 'best'"),
        ({"floor": math.nan}, "floor must be >= 0"),
        ({"max_gap_s": -1.0}, "max_gap_s must be > 0"),
    ],
)
def test_bad_options_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RouterConfig(**change)  # type: ignore[arg-type]


def test_the_frame_of_a_question_is_clear() -> None:
    for config in (RouterConfig(), RouterConfig(mode="paper")):
        router = Router(config, DIM)
        for i, row in enumerate(np.tile(features(1), (12, 1)) + 1e-5 * features(12, seed=9)):
            (route,) = router.step(row[None], [i * 1.0], query=[i == 11])
        assert (route.state, route.reason) == ("clear", "query")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("mode", ["paper", "robust"])
def test_an_unusable_feature_leaves_no_trace(bad: float, mode: str) -> None:
    router = Router(RouterConfig(mode=mode), DIM)  # type: ignore[arg-type]
    rows = features(12)
    for i, row in enumerate(rows[:10]):
        router.step(row[None], [i * 1.0])
    before = router.state.history.tobytes(), router.state.numbers.tobytes()
    broken = np.full((1, DIM), bad, np.float32)
    (route,) = router.step(broken, [10.0])
    assert route.state == "discard"
    assert (router.state.history.tobytes(), router.state.numbers.tobytes()) == before


def test_a_flash_is_kept_once() -> None:
    rng = np.random.default_rng(0)
    scene, flash = rng.standard_normal((2, DIM))
    rows = scene + 0.05 * rng.standard_normal((30, DIM))
    rows[20] = flash
    decided = routes(RouterConfig(), rows)
    assert decided[20].state == "clear"
    assert decided[21].flash
    assert decided[21].state == "discard"


def test_a_hard_cut_is_flagged_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    scene, other = rng.standard_normal((2, DIM))
    rows = np.where(np.arange(40)[:, None] < 25, scene, other)
    decided = routes(RouterConfig(), rows + 0.05 * rng.standard_normal(rows.shape))
    assert [i for i, route in enumerate(decided) if route.cut] == [25]
    assert decided[25].reason == "hard-trigger"


def test_a_pan_that_starts_is_not_missed_by_robust_mode() -> None:
    """The turn is largest in a still scene; counted in full it makes the score fall here."""
    rng = np.random.default_rng(0)
    angle = np.concatenate([np.zeros(40), 0.06 * np.arange(1, 6)])
    rows = np.zeros((45, 384))
    rows[:, 0], rows[:, 1] = np.cos(angle), np.sin(angle)
    rows += 0.03 / math.sqrt(384) * rng.standard_normal(rows.shape)
    published, repaired = (
        routes(RouterConfig(mode=mode), rows)  # type: ignore[arg-type]
        for mode in ("paper", "robust")
    )
    assert published[40].state == "discard"
    assert repaired[40].state != "discard"


def test_time_running_backwards_and_discontinuities_restart_the_history_only() -> None:
    for back in (True, False):
        router = Router(RouterConfig(), DIM)
        rows = features(30)
        for i, row in enumerate(rows[:20]):
            router.step(row[None], [i * 1.0])
        mean = router.state.numbers[0, 3]
        (route,) = router.step(rows[20][None], [5.0 if back else 20.0], [not back])
        assert (route.state, route.reason) == ("clear", "hard-trigger")
        assert math.isnan(route.curvature)
        assert router.state.numbers[0, 3] == mean


def test_max_gap_keeps_a_frame_in_time_even_of_a_frozen_picture() -> None:
    router = Router(RouterConfig(max_gap_s=5.0), DIM)
    row = features(1)
    kept = [t for t in range(30) if router.step(row, [float(t)])[0].state != "discard"]
    assert kept == [0, 5, 10, 15, 20, 25]
    assert router.step(row, [30.0])[0].reason == "max-gap"


def test_a_change_of_frame_rate_keeps_the_statistics_half_life() -> None:
    """After the same seconds of the same new level, 30 and 1 frames per second agree."""
    means = []
    for fps in (30.0, 1.0):
        router = Router(RouterConfig(lambda_=0.0, half_life_s=8.0, clip_sigmas=1e6), 2)
        early, late = np.full(20, 0.02), np.full(int(24 * fps), 0.2)
        rows = scored_stream(np.concatenate([early, late]))
        times = np.concatenate([np.arange(21.0), 20 + np.arange(1, len(late) + 1) / fps])
        for row, t in zip(rows, times.tolist(), strict=True):
            router.step(row[None], [t])
        means.append(router.state.numbers[0, 3])
    assert means[0] == pytest.approx(means[1], rel=0.02)
    assert means[0] == pytest.approx(0.2 - 0.18 * 0.5**3, rel=0.05)


def test_one_extreme_score_does_not_blind_the_router() -> None:
    scores = np.random.default_rng(3).normal(0.01, 0.001, 60)
    scores[40], scores[45] = 1.5, 0.05
    decided = routes(RouterConfig(lambda_=0.0), scored_stream(scores))
    assert decided[41].state == "clear"
    assert decided[46].state == "clear"


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    cut=st.integers(1, 59),
    mode=st.sampled_from(["paper", "robust"]),
)
def test_what_comes_later_changes_nothing(seed: int, cut: int, mode: str) -> None:
    rows = features(60, seed=seed)
    config = RouterConfig(mode=mode)  # type: ignore[arg-type]
    assert repr(routes(config, rows[:cut])) == repr(routes(config, rows)[:cut])


@pytest.mark.parametrize("mode", ["paper", "robust"])
def test_a_saved_router_goes_on_bit_for_bit(mode: str) -> None:
    config = RouterConfig(mode=mode)  # type: ignore[arg-type]
    rows = features(80)
    router = Router(config, DIM)
    for i, row in enumerate(rows[:37]):
        router.step(row[None], [i / 3])
    saved = router.state.tensors()
    other = Router(config, DIM)
    other.state.load(saved["router.history"], saved["router.numbers"])
    for i, row in enumerate(rows[37:], 37):
        assert repr(router.step(row[None], [i / 3])) == repr(other.step(row[None], [i / 3]))
    assert router.state.history.tobytes() == other.state.history.tobytes()


def test_a_batch_decides_as_its_streams_alone() -> None:
    rows = np.stack([features(50, seed=seed) for seed in range(5)], axis=1)
    batch = Router(RouterConfig(), DIM, streams=5)
    alone = [Router(RouterConfig(), DIM) for _ in range(5)]
    for i, row in enumerate(rows):
        together = batch.step(row, np.full(5, i * 0.5))
        apart = [router.step(row[k : k + 1], [i * 0.5])[0] for k, router in enumerate(alone)]
        assert repr(together) == repr(apart)


def test_wrong_shapes_and_foreign_states_are_refused() -> None:
    router = Router(RouterConfig(), DIM)
    with pytest.raises(UsageError, match=r"expects features \[1, 32\] and 1 times"):
        router.step(np.zeros((1, 5), np.float32), [0.0])
    saved = Router(RouterConfig(), 5).state.tensors()
    with pytest.raises(StateError, match=r"history is float32 \[1, 2, 5\].*needs"):
        router.state.load(saved["router.history"], saved["router.numbers"])
    own = router.state.tensors()
    own["router.numbers"][0, 1] = 7
    with pytest.raises(StateError, match="impossible history position"):
        router.state.load(own["router.history"], own["router.numbers"])


def test_options_are_read_as_they_were_written() -> None:
    for config in (RouterConfig(), RouterConfig(mode="paper", k2=0.5), RouterConfig(max_gap_s=3.0)):
        assert RouterConfig.from_json(config.as_json()) == config
    plain = RouterConfig().as_json()
    for wrong in ({**plain, "new": 1}, {**plain, "k1": "0"}, {**plain, "mode": 1}, {"k1": 0.0}):
        with pytest.raises(StateError, match="router options of another version"):
            RouterConfig.from_json(wrong)
    with pytest.raises(UsageError, match="k1 must be"):
        RouterConfig.from_json({**plain, "k1": 5.0})
