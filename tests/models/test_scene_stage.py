"""The stage that maps, on tiny rooms: what it says, what it keeps, what never touches the map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scene_parts import LARGE, covered, look, map_bytes, packet, packets, room, told

from retain.datasets.scene.base import Shot
from retain.kernels.geometry import rigid
from retain.kernels.geometry.camera import Camera
from retain.kernels.rasterize.render import render
from retain.models.scene.mapper import read_map
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.packet import Packet
from retain.pipeline.results import SplatDelta, View

TINY_MB = 3.2


def stage(**options: object) -> Reconstruct:
    return Reconstruct(**({"refine": 1} | options))  # type: ignore[arg-type]


def noise(shot: Shot) -> Shot:
    """Another picture from the same place."""
    rng = np.random.default_rng(shot.seq)
    image = rng.integers(0, 256, shot.image.shape, np.uint8)
    assert shot.depth is not None
    return replace(shot, image=image, depth=np.full_like(shot.depth, 0.7))


def test_given_poses_are_taken_and_the_map_lies_where_the_room_is() -> None:
    mapping, shots = stage(), room(20)
    said = look(mapping, shots)
    assert {pose.state for pose in said} == {"tracked"}
    assert said[0].keyframe
    assert sum(pose.keyframe for pose in said) < len(said)
    assert all(pose.truth is None for pose in said)
    assert mapping.mapper is not None
    gaussians = mapping.mapper.map.read("room").gaussians
    (last,) = [shots[pose_at] for pose_at, pose in enumerate(said) if pose.held_out][-1:]
    assert last.c2w is not None
    assert last.depth is not None
    drawn = render(gaussians, last.camera, last.c2w)
    seen = (drawn.alpha > 0.5) & (last.depth > 0)
    assert seen.mean() > 0.7
    assert np.median(np.abs(drawn.depth - last.depth)[seen]) < 0.08


def test_estimated_poses_follow_the_true_path() -> None:
    shots = room(16, LARGE, 200)
    said = look(stage(poses="estimated", refine=0), shots)
    assert {pose.state for pose in said} == {"tracked"}
    assert shots[0].c2w is not None
    for pose, shot in zip(said, shots, strict=True):
        assert shot.c2w is not None
        assert pose.truth is not None
        off = rigid.inverse(rigid.inverse(shots[0].c2w) @ shot.c2w) @ pose.c2w
        assert np.linalg.norm(off[:3, 3]) < 0.03
        assert np.array_equal(pose.truth, shot.c2w)


@pytest.mark.parametrize("poses", ["given", "estimated"])
def test_a_lost_frame_never_touches_the_map(poses: str) -> None:
    shots = room(12, LARGE, 200)
    blind = [covered(s) if poses == "estimated" else replace(s, c2w=None) for s in shots[5:8]]
    mapping = stage(poses=poses)
    look(mapping, shots[:5])
    before = map_bytes(mapping)
    said = look(mapping, blind)
    assert [pose.state for pose in said] == ["lost"] * 3
    assert all(pose.reason and not pose.keyframe and not pose.held_out for pose in said)
    assert map_bytes(mapping) == before
    after = look(mapping, shots[8:])
    assert after[0].state == "recovered"
    assert after[-1].state == "tracked"


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_pose_that_is_no_motion_is_lost(bad: float) -> None:
    shots = room(6)
    assert shots[3].c2w is not None
    broken = shots[3].c2w.copy()
    broken[0, 3] = bad
    mapping = stage()
    look(mapping, shots[:3])
    before = map_bytes(mapping)
    # Readers drop such poses; this one comes from a program.
    out = mapping.mapper.look(replace(shots[3], c2w=broken), may_hold_out=False)  # type: ignore[union-attr]
    assert out.state == "lost"
    assert np.isfinite(out.c2w).all()
    assert map_bytes(mapping) == before


def test_frames_without_depth_add_nothing_and_end_nothing() -> None:
    shots = [replace(s, depth=None) if 4 <= s.seq < 8 else s for s in room(16)]
    mapping = stage()
    look(mapping, shots[:4])
    before = map_bytes(mapping)
    said = look(mapping, shots[4:8])
    assert map_bytes(mapping) == before
    assert {pose.state for pose in said} == {"tracked"}
    assert look(mapping, shots[8:])[-1].active > said[-1].active


def test_a_clip_that_begins_with_a_covered_lens_is_mapped_all_the_same() -> None:
    shots = room(10, LARGE, 200)
    start = [replace(covered(s), c2w=None) for s in shots[:3]]
    said = look(stage(), [*start, *shots[3:]])
    assert {pose.state for pose in said[:3]} == {"starting"}
    assert said[3].keyframe
    assert said[-1].active > 0
    assert all(pose.truth is None for pose in said[3:])  # taken as given


def test_depth_without_a_unit_and_depth_in_metres_do_not_mix() -> None:
    """A stream that was begun without depth goes on without."""
    shots = room(14, LARGE, 100)
    bare = [replace(s, depth=None) for s in shots]
    late = [*bare[:10], *shots[10:]]
    one, two = stage(poses="estimated", refine=0), stage(poses="estimated", refine=0)
    look(one, bare[:10])
    assert one.mapper is not None
    if not one.mapper.begun:
        pytest.skip("the tracker has not begun by then")
    assert told(look(two, late)[10:]) == told(look(one, bare[10:]))


def test_a_frame_without_language_codes_is_no_error_in_a_map_that_keeps_them() -> None:
    shots = [replace(s, labels=None, codes=None, names=()) if s.seq else s for s in room(12)]
    assert sum(pose.keyframe for pose in look(stage(), shots)) > 1


def test_another_camera_and_no_camera_are_said_in_a_sentence() -> None:
    shots = room(3)
    mapping = stage()
    look(mapping, shots[:2])
    c = shots[2].camera
    small = room(3, (48, 36))[2]
    with pytest.raises(UsageError, match="are 48x36 pixels now; they were 96x72"):
        mapping.process(packet(small))
    zoomed = Camera(c.fx * 1.5, c.fy, c.cx, c.cy, c.width, c.height)
    pictures = stage(poses="estimated")
    pictures.process(packet(replace(shots[0], depth=None)))
    with pytest.raises(UsageError, match="made with one camera"):
        pictures.process(packet(replace(shots[1], depth=None, camera=zoomed)))
    with pytest.raises(UsageError, match="without a camera"):
        mapping.process(Packet(packet(shots[2]).frame))
    broken = packet(shots[2])
    broken.results["view"] = View((0.0, 50.0, 48.0, 36.0))
    with pytest.raises(UsageError, match="no usable camera"):
        mapping.process(broken)


@pytest.mark.parametrize("poses", ["given", "estimated"])
def test_a_lens_that_focuses_changes_nothing_of_the_map(poses: str) -> None:
    """Every second picture is cut out of the middle: as from a lens a third longer."""
    size, frames = ((192, 144), 100) if poses == "estimated" else ((96, 72), 150)
    shots = [zoomed(s) if s.seq % 2 else s for s in room(13, size, frames)]
    mapping = stage(poses=poses, refine=2)
    said = look(mapping, shots)
    assert {pose.state for pose in said} == {"tracked"}
    assert mapping.mapper is not None
    assert len(np.unique([v.lens[0] for v in mapping.mapper.views.read("room")])) == 2
    gaussians = mapping.mapper.map.read("room").gaussians
    for shot, pose in zip(shots, said, strict=True):
        drawn = render(gaussians, shot.camera, pose.c2w)
        assert shot.depth is not None
        seen = (drawn.alpha > 0.5) & (shot.depth > 0)
        assert np.median(np.abs(drawn.depth - shot.depth)[seen]) < 0.1


def zoomed(shot: Shot) -> Shot:
    c = shot.camera
    height, width = 3 * c.height // 4, 3 * c.width // 4
    y, x = (c.height - height) // 2, (c.width - width) // 2
    part = np.s_[y : y + height, x : x + width]
    cut = Camera(c.fx, c.fy, c.cx - x, c.cy - y, width, height)
    assert shot.depth is not None
    image = cv2.resize(shot.image[part], (c.width, c.height), interpolation=cv2.INTER_LINEAR)
    depth = cv2.resize(shot.depth[part], (c.width, c.height), interpolation=cv2.INTER_NEAREST)
    camera = cut.resized(c.width, c.height)
    return replace(shot, image=image, depth=depth, camera=camera, labels=None, codes=None, names=())


def test_a_thing_that_moves_leaves_the_path_alone() -> None:
    shots = room(16, LARGE, 200, moving=True)
    said = look(stage(poses="estimated", refine=0), shots)
    assert sum(pose.state == "tracked" for pose in said) >= 14
    assert shots[0].c2w is not None
    assert shots[-1].c2w is not None
    off = rigid.inverse(rigid.inverse(shots[0].c2w) @ shots[-1].c2w) @ said[-1].c2w
    assert np.linalg.norm(off[:3, 3]) < 0.05


@pytest.mark.parametrize("megabytes", [TINY_MB, 8.0])
def test_bytes_never_exceed_the_budget(megabytes: float) -> None:
    mapping = stage(budget_mb=megabytes, refine=0, holdout=0)
    said = look(mapping, room(60, frames=60))
    assert all(0 < pose.nbytes <= pose.byte_budget == megabytes * 1e6 for pose in said)
    stats = mapping.stats()
    assert stats["memory_bytes"] <= stats["budget_bytes"]
    if megabytes == TINY_MB:
        assert stats["map_pruned_budget"] > 0, "the budget was never felt"


def test_a_budget_that_holds_nothing_is_said() -> None:
    with pytest.raises(UsageError, match="need at least .* bytes"):
        look(stage(budget_mb=0.5), room(1))


def test_frames_held_out_never_enter_the_map() -> None:
    """Whatever is on them, the map is the same, bit for bit."""
    shots = room(24)
    one, two = stage(), stage()
    said = look(one, shots)
    held = {shot.seq for shot, pose in zip(shots, said, strict=True) if pose.held_out}
    assert len(held) == 3
    assert not any(pose.held_out and pose.keyframe for pose in said)
    again = look(two, [noise(s) if s.seq in held else s for s in shots])
    assert told(again) == told(said)
    assert map_bytes(two) == map_bytes(one)
    assert one.mapper is not None
    assert not held & set(map(int, one.mapper.views.seqs("room")))


def test_depth_goes_on_only_with_frames_that_judge_the_map() -> None:
    mapping = stage(refine=0)
    for given in packets(room(12)):
        out = mapping.process(given)
        assert out is not None
        pose, view = out.results["pose"], out.get("view", View)
        assert (view.depth is not None) == pose.held_out  # type: ignore[attr-defined]


def test_deltas_add_up_to_the_map() -> None:
    """A receiver that sets and forgets as it is told has the map's Gaussians in the end."""
    mapping, held = stage(), {}
    for given in packets(room(40, frames=60)):
        out = mapping.process(given)
        assert out is not None
        if "splats" not in out.results:
            continue
        delta = out.get("splats", SplatDelta)
        if delta.whole:
            held.clear()
        for gone in delta.removed.tolist():
            held.pop(gone, None)
        held.update(zip(delta.ids.tolist(), delta.records, strict=True))
    assert mapping.mapper is not None
    last = mapping.mapper.delta()
    for gone in last.removed.tolist() if last else ():
        held.pop(gone, None)
    if last:
        held.update(zip(last.ids.tolist(), last.records, strict=True))
    whole = mapping.mapper.delta(whole=True)
    assert whole is not None
    assert whole.whole
    assert set(held) == set(whole.ids.tolist())
    assert all(
        np.array_equal(held[key], record)
        for key, record in zip(whole.ids.tolist(), whole.records, strict=True)
    )


KINDS: dict[str, dict[str, object]] = {
    "given": {},
    "estimated": {"poses": "estimated"},
    "pictures": {"poses": "estimated", "refine": 0},
}


def clip(kind: str) -> list[Shot]:
    if kind == "given":
        return list(room(20))
    if kind == "estimated":
        return list(room(16, LARGE, 200))
    return [replace(s, depth=None) for s in room(26, LARGE, 90)]


def test_pictures_alone_are_mapped_and_refined() -> None:
    """Each keyframe whose depth is worked out is a picture to refine against, at its own pose."""
    mapping, shots = stage(poses="estimated", refine=0), clip("pictures")
    look(mapping, shots)
    mapper = mapping.mapper
    assert mapper is not None
    poses, views = mapper.map.poses("room"), mapper.views.read("room")
    assert len(views) == len(poses) > 1
    assert all(np.array_equal(view.local, np.eye(4)) for view in views)
    assert sorted(view.anchor for view in views) == sorted(poses)
    with mapper.refining() as refiner:
        assert len(refiner) == len(views)
        refiner.take([0, 1])
    assert np.isfinite(refiner.loss)
    gaussians = mapper.map.read("room").gaussians
    drawn = render(gaussians, shots[0].camera, poses[views[0].anchor])
    wanted, seen = views[0].image / 255, drawn.alpha > 0.5
    assert seen.mean() > 0.3
    assert np.abs(drawn.color - wanted)[seen].mean() < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_stage_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    options, shots = KINDS[kind], clip(kind)
    middle = 3 * len(shots) // 4
    whole, first = stage(**options), stage(**options)
    said = look(whole, shots)
    if kind == "pictures":
        assert said[-1].active + said[-1].stable > 0, "nothing was mapped"
    look(first, shots[:middle])
    path = str(tmp_path / "state.safetensors")
    first.save(path)
    second = stage(**options, resume=path)
    for given in packets(shots[:middle]):
        assert second.process(given) is None
    assert told(look(second, shots[middle:])) == told(said[middle:])
    assert map_bytes(second) == map_bytes(whole)
    # Saving leaves no trace either.
    assert told(look(first, shots[middle:])) == told(said[middle:])


def test_a_saved_map_is_read_without_its_options(tmp_path: Path) -> None:
    mapping, shots = stage(cell=0.02), room(10)
    look(mapping, shots)
    path = tmp_path / "map.safetensors"
    mapping.save(str(path))
    gaussians, camera = read_map(str(path))
    assert mapping.mapper is not None
    mine = mapping.mapper.map.read("room").gaussians
    assert camera == shots[0].camera
    assert np.array_equal(gaussians.means, mine.means)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(StateError):
        read_map(str(path))
    with pytest.raises(StateError):
        stage(resume=str(path))


def test_a_state_of_another_kind_is_refused_each_time(tmp_path: Path) -> None:
    mapping, shots = stage(), room(6)
    look(mapping, shots)
    path = str(tmp_path / "state.safetensors")
    mapping.save(path)
    other = stage(poses="estimated", resume=path)
    for given in packets(shots[:2]):  # no fresh map behind the caller's back
        with pytest.raises(StateError, match="made with given poses"):
            other.process(given)
    with pytest.raises(StateError):
        stage(resume=path, cell=0.05).process(packet(shots[0]))
    with pytest.raises(StateError, match="no map"):
        stage().save(path)


@pytest.mark.parametrize(
    "options",
    [{"poses": "guessed"}, {"holdout": -1}, {"refine": -1}, {"cell": 0.0}, {"budget_mb": -1.0},
     {"threads": 0}, {"refine_ms": -1.0}, {"refine_ms": float("nan")}, {"cell": float("nan")},
     {"budget_mb": float("inf")}],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Reconstruct(**options)  # type: ignore[arg-type]
