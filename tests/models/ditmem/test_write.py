"""Which clips the bank takes in: what stays out is judged all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import imagine_parts as parts
import numpy as np
import pytest

from retain.models.ditmem.stage import Imagine
from retain.pipeline.errors import UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Novelty, Route, State

Make = Callable[..., Imagine]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parts.weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def make(weights: str) -> Make:
    return lambda **options: Imagine(weights, samples=1, **options)


def frames(count: int) -> list[Frame]:
    """A clip every 8."""
    return [parts.frame(n, fresh=n % 8 == 0 and n > 0) for n in range(count)]


def route(state: State, score: float = 0.3) -> Route:
    return Route(state, "score", 0.0, 0.0, score, 0.2, 0.4, 0.0, 0.2, 0.4)


def feed(stage: Imagine, seen: Sequence[Frame], discard: Callable[[int], bool]) -> list[Packet]:
    """What the stage says of frames that the router takes or discards."""
    routes = {True: route("discard"), False: route("clear")}
    outs = [stage.process(Packet(f, {"route": routes[discard(f.seq)]})) for f in seen]
    return [out for out in outs if out is not None]


def told(packets: Sequence[Packet]) -> list[str]:
    """Novelties to the last bit, without what is held."""
    found = [p.results["novelty"] for p in packets if "novelty" in p.results]
    return [repr((n.score, n.guided, n.alone, n.first, n.references)) for n in found]  # type: ignore[union-attr]


def state(stage: Imagine) -> bytes:
    """All of the bank, bit for bit."""
    mind = stage._mind
    assert mind is not None
    tensors = mind.clips.snapshot(mind.stream).tensors
    return b"".join(name.encode() + tensors[name].tobytes() for name in sorted(tensors))


def firsts(stage: Imagine) -> list[int]:
    """First frame of each clip held."""
    assert stage._mind is not None
    return [match.clip.span.first for match in stage._mind.clips.read(stage._mind.stream)]


def test_a_clip_that_the_router_discards_is_judged_and_leaves_the_bank_as_it_is(
    make: Make,
) -> None:
    stage = make(write="routed")
    feed(stage, frames(24), lambda seq: False)
    before = state(stage)
    assert stage._mind is not None
    nbytes = stage._mind.nbytes
    (said,) = [p for p in feed(stage, frames(32)[24:], lambda seq: True) if "novelty" in p.results]
    one = said.results["novelty"]
    assert isinstance(one, Novelty)
    assert np.isfinite(one.score)
    assert len(one.references) == 3
    assert (state(stage), stage._mind.nbytes) == (before, nbytes)


def test_a_clip_that_is_taken_in_part_counts_for_part_of_its_worth(make: Make) -> None:
    stage = make(write="routed")
    feed(stage, frames(24), lambda seq: 10 <= seq < 16 or seq >= 20)
    assert stage._mind is not None
    scores = stage._mind.clips.snapshot("main").tensors["scores"]
    np.testing.assert_allclose(scores, 0.3 * np.array([1, 2 / 8, 4 / 8]))


@pytest.mark.parametrize(
    ("rule", "held"), [("every:2", [0, 16, 32]), ("random:0", [0]), ("every", [0, 8, 16, 24, 32])]
)
def test_a_rule_that_counts_counts_clips(make: Make, rule: str, held: list[int]) -> None:
    stage = make(write=rule)
    parts.feed(stage, frames(40))
    assert firsts(stage) == held


def test_a_rule_that_lets_all_in_is_every(make: Make) -> None:
    one, other = make(), make(write="routed")
    said = feed(one, frames(32), lambda seq: False)
    assert told(feed(other, frames(32), lambda seq: False)) == told(said)
    assert state(one) == state(other)


@pytest.mark.parametrize("rule", ["routed", "random:0.5"])
@pytest.mark.parametrize("middle", [13, 21])
def test_a_saved_stage_goes_on_bit_for_bit_under_a_rule(
    make: Make, rule: str, middle: int, tmp_path: Path
) -> None:
    seen, path = frames(40), str(tmp_path / "state")
    whole, first = make(write=rule), make(write=rule)
    said = feed(whole, seen, lambda seq: seq % 16 > 10)
    before = feed(first, seen[:middle], lambda seq: seq % 16 > 10)
    first.save(path)
    second = make(write=rule, resume=path)
    after = feed(second, seen, lambda seq: seq % 16 > 10)
    assert told([*before, *after]) == told(said)
    assert state(second) == state(whole)


def test_what_cannot_be_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="did not see frame 0"):
        parts.feed(make(write="clear"), frames(1))
    with pytest.raises(UsageError, match="no write rule 'seldom'"):
        make(write="seldom")
    with pytest.raises(UsageError, match="no write rule"):
        make(what="fill", write="every:2")
