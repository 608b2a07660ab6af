"""One budget over the stages of a graph: whoever takes part, no more than there is."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retain.models.budget import TAKES, divided, outside, shares
from retain.pipeline.catalog import load_class
from retain.pipeline.errors import UsageError
from retain.pipeline.graph import Budget, Graph

REMEMBER, DETECT = "retain.models.curvestream:Remember", "retain.models.mamba.stage:Detect"
OBJECT = "retain.models.object.stage:SegmentObject"
RECONSTRUCT = "retain.models.scene.stage:Reconstruct"
OTHERS = ("retain.models.curvestream:Encode", "retain.models.gdkvm.stage:Segment")
STAGES = st.lists(st.sampled_from([*TAKES, *OTHERS]), min_size=1, max_size=7)


def chain(targets: list[str], budget: Budget | None = None) -> Graph:
    graph = Graph(nodes={}, edges=[], budget=budget)
    graph.source("in", "retain.pipeline.sources.synthetic:SyntheticSource")
    names = [graph.stage(f"s{k}", target) for k, target in enumerate(targets)]
    graph.sink("out", "retain.pipeline.sinks:Count")
    graph.connect("in", *names, "out")
    return graph


@settings(max_examples=150, deadline=None)
@given(STAGES, st.integers(0, 200_000_000), st.data())
def test_no_graph_gets_more_than_its_budget(
    targets: list[str], nbytes: int, data: st.DataObject
) -> None:
    taking = [f"s{k}" for k, target in enumerate(targets) if target in TAKES]
    some = st.dictionaries(st.sampled_from(taking), st.floats(0, 1e9)) if taking else st.just({})
    own = st.dictionaries(st.sampled_from(taking), st.integers(0, 30_000_000)) if taking else some
    graph = chain(targets, Budget(nbytes, data.draw(some), data.draw(own)))
    assert graph.budget is not None
    usual = {name: TAKES[graph.nodes[name].target].least({}) for name in taking}
    least = {**usual, **graph.budget.least}
    if sum(least.values()) > nbytes:
        with pytest.raises(UsageError, match=f"at least {sum(least.values())} bytes"):
            divided(graph)
        return
    told = shares(graph)
    assert set(told) == set(taking)
    assert sum(told.values()) <= nbytes
    assert all(told[name] >= least[name] for name in taking)
    made = divided(graph)
    for name in taking:  # what the stage makes of its option is no more, and a byte less at most
        takes = TAKES[graph.nodes[name].target]
        value = made.nodes[name].options[takes.option]
        assert isinstance(value, int | float)
        assert told[name] - 1 <= int(value * takes.unit) <= told[name]
    assert all(made.nodes[name] == node for name, node in graph.nodes.items() if name not in taking)


def test_a_graph_without_a_budget_is_left_alone() -> None:
    graph = chain([REMEMBER, DETECT])
    assert shares(graph) == {}
    assert divided(graph) == graph


def test_two_budgets_and_strange_names_are_refused() -> None:
    graph = chain([REMEMBER, OTHERS[0]], Budget(10**8))
    graph.stage("more", DETECT, budget_mb=3.0)
    with pytest.raises(UsageError, match="'more' has the option 'budget_mb', and the graph"):
        shares(graph)
    with pytest.raises(UsageError, match="speaks of 's1', which takes none"):
        shares(chain([REMEMBER, OTHERS[0]], Budget(10**8, {"s1": 2.0})))


def test_what_remembers_outside_of_the_budget_is_named() -> None:
    graph = chain([REMEMBER, *OTHERS, "retain.models.mamba.track:Track"], Budget(10**8))
    assert outside(graph) == ["s2", "s3"]


def test_options_that_are_told_a_budget_exist() -> None:
    for target, takes in TAKES.items():
        assert takes.option in inspect.signature(load_class(target)).parameters


def test_the_least_of_an_object_is_enough() -> None:
    """Eight objects in a 16:9 picture: the tracker's own hub takes them in."""
    from retain.models.object.features import Features
    from retain.models.object.tracker import Tracker, TrackerOptions

    for side in (120, 480):
        least = TAKES[OBJECT].least({"side": side})
        options = TrackerOptions(side=side, budget_bytes=least)
        tracker = Tracker("s", 8, (side, side * 16 // 9), options, Features())
        assert sum(tracker.hub.shares().values()) <= least


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("depth", [True, False])
def test_the_least_of_a_map_is_enough_for_640x480(given: bool, depth: bool) -> None:
    from retain.kernels.geometry.camera import Camera
    from retain.models.scene.kind import Kind
    from retain.models.scene.mapper import Mapper
    from retain.models.scene.options import MapperOptions

    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    options = MapperOptions(
        budget_bytes=TAKES[RECONSTRUCT].least({}), refine=0, refine_s=0, cell=0.01, seed=0,
        threads=1,
    )  # fmt: skip
    mapper = Mapper("s", Kind(camera, given=given, depth=depth, codes=False), options)
    assert sum(mapper.hub.shares().values()) <= options.budget_bytes


def test_the_least_of_the_others_is_enough() -> None:
    from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
    from retain.models.ditmem.imaginer import Imaginer
    from retain.models.ditmem.mind import Mind
    from retain.models.ditmem.weights import opened
    from retain.models.mamba.stage import open_parts

    least = {name: takes.least({}) for name, takes in TAKES.items()}
    FrameMemory(FrameMemoryConfig(dim=1280, byte_budget=least[REMEMBER]))
    mb = least[DETECT] / 1e6
    _, begin, _ = open_parts("small", "auto", "gated", True, mb, "cpu", "")
    assert len(begin("s").hub) == 3
    imagine = least["retain.models.ditmem.stage:Imagine"]
    assert len(Mind("s", Imaginer(opened("auto", "cpu"), "cpu"), imagine, 4).hub) == 3
