"""Which frames the map takes in: what is kept out is tracked all the same, and leaves no trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scene_parts import LARGE, look, map_bytes, packet, room, told

from retain.datasets.scene.base import Shot
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import UsageError
from retain.pipeline.results import Pose, Route, State


def stage(write: str, **options: object) -> Reconstruct:
    return Reconstruct(**({"refine": 1, "threads": 1, "write": write} | options))  # type: ignore[arg-type]


def route(state: State, score: float = 0.3) -> Route:
    return Route(state, "score", 0.0, 0.0, score, 0.2, 0.4, 0.0, 0.2, 0.4)


def routed(mapping: Reconstruct, shots: Iterable[Shot], state: State, score: float = 0.3) -> list:
    """What the stage says of each shot, of all of which the router says ``state``."""
    outs = [mapping.process(packet(shot).plus(route=route(state, score))) for shot in shots]
    return [out.get("pose", Pose) for out in outs if out is not None]


def held(mapping: Reconstruct) -> tuple[bytes, bytes, list[int]]:
    """All that the map and its pictures are."""
    mapper = mapping.mapper
    assert mapper is not None
    views = mapper.views.snapshot("room").tensors  # type: ignore[union-attr]
    pictures = b"".join(views[name].tobytes() for name in sorted(views))
    return map_bytes(mapping), pictures, sorted(mapper.map.poses("room"))


def c2w(said: Sequence[Pose]) -> np.ndarray:
    return np.stack([pose.c2w for pose in said])


@pytest.mark.parametrize("poses", ["given", "estimated"])
def test_what_the_router_discards_is_tracked_and_leaves_the_map_as_it_is(poses: str) -> None:
    shots = room(16, LARGE, 200)
    mapping, all_of_it = stage("routed", poses=poses), stage("every", poses=poses)
    every = look(all_of_it, shots)
    said = routed(mapping, shots[:4], "clear")
    assert told(said) == told(every[:4])
    before = held(mapping)
    said += routed(mapping, shots[4:], "discard")
    assert held(mapping) == before != held(all_of_it)
    np.testing.assert_array_equal(c2w(said), c2w(every))
    assert [p.keyframe for p in said] == [p.keyframe for p in every]
    assert any(p.keyframe for p in said[4:])
    assert not any({"observe", "build", "fuse", "refine"} & set(p.parts_ms) for p in said[4:])


@pytest.mark.parametrize("poses", ["given", "estimated"])
def test_a_keyframe_that_was_kept_out_is_the_next_frames_that_is_let_in(poses: str) -> None:
    shots = room(22, LARGE, 200)
    keyframes = [p.keyframe for p in look(stage("every", poses=poses, refine=0, holdout=0), shots)]
    due = [seq for seq, is_one in enumerate(keyframes) if is_one]
    free = keyframes.index(False, due[2])  # the first frame after the third that is none
    mapping = stage("clear", poses=poses, refine=0, holdout=0)
    routed(mapping, shots[: due[0] + 1], "clear")
    routed(mapping, shots[due[0] + 1 : free], "blurred")
    assert held(mapping)[2] == [0]
    (late,) = routed(mapping, [shots[free]], "clear")
    mapper = mapping.mapper
    assert mapper is not None
    newest = sum(keyframes[:free]) - 1
    assert (late.keyframe, late.anchor) == (False, newest)
    assert sorted(mapper.map.poses("room")) == [0, newest], "those before it are passed over"
    assert mapper.map.read("room").first_seen.max() == free
    assert mapper.views.seqs("room")[-1] == free
    placed = mapper.map.poses("room")[newest] @ late.local
    np.testing.assert_allclose(placed, late.c2w, atol=1e-12)


def test_between_0_and_1_a_keyframe_is_believed_less() -> None:
    weights = []
    for score in (0.2 + 0.2 * 1.0, 0.2 + 0.2 * 0.25):
        mapping = stage("scaled", refine=0, holdout=0)
        shots = room(12)
        routed(mapping, shots[:1], "discard")
        said = routed(mapping, shots[1:], "blurred", score)
        assert any(p.keyframe for p in said)
        assert mapping.mapper is not None
        view = mapping.mapper.map.read("room")
        weights.append(view.weights[view.first_seen > 0].mean())
    assert weights[1] == pytest.approx(0.25 * weights[0], rel=1e-3)


@pytest.mark.parametrize("poses", ["estimated", "given"])
def test_without_depth_none_is_made_of_what_is_kept_out(poses: str) -> None:
    """The first keyframe is an empty map's; the tracker goes on with those that follow."""
    shots = [replace(s, depth=None) for s in room(26, LARGE, 90)]
    made = {}
    for rule in ("every", "random:0"):
        mapping = stage(rule, poses=poses, refine=0, holdout=0)
        look(mapping, shots)
        assert mapping.mapper is not None
        mapping.mapper.settle()
        made[rule] = set(mapping.mapper.map.poses("room"))
    assert len(made["every"]) > 2
    assert made["random:0"] <= {0}


@pytest.mark.parametrize(("poses", "rule"), [("given", "random:0.2"), ("estimated", "every:5")])
def test_a_saved_stage_goes_on_bit_for_bit_under_a_rule(
    poses: str, rule: str, tmp_path: Path
) -> None:
    shots = room(16, LARGE, 200)
    whole = stage(rule, poses=poses)
    said = look(whole, shots)
    for middle in (8, 13):
        first, path = stage(rule, poses=poses), str(tmp_path / f"{middle}")
        look(first, shots[:middle])
        first.save(path)
        second = stage(rule, poses=poses, resume=path)
        assert second.process(packet(shots[middle - 1])) is None
        assert told(look(second, shots[middle:])) == told(said[middle:])
        assert held(second) == held(whole)


def test_a_rule_by_the_router_needs_one() -> None:
    with pytest.raises(UsageError, match="did not see frame 0"):
        look(stage("routed"), room(1))
    with pytest.raises(UsageError, match="no write rule 'sometimes'"):
        stage("sometimes")
