"""The neural profile: a map of pictures alone, in a hub, that goes on bit for bit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from retain.datasets.scene.room import Room
from retain.datasets.scene.views import view_of
from retain.models.onlinex import mapper as module
from retain.models.onlinex import weights
from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.network import OnlineX
from retain.models.scene.mapper import read_map
from retain.models.scene.stage import Reconstruct
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Pose, Route, SplatDelta

CONFIG = OnlineXConfig(
    side=32, dim=32, heads=2, encoder_depth=1, decoder_dim=32, decoder_heads=2, decoder_depth=1,
    director_depth=1, anchors=4, head_dim=16, mlp=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("onlinex") / "random.safetensors"
    weights.save(path, OnlineX(CONFIG))
    return str(path)


@pytest.fixture(scope="module")
def packets() -> list[Packet]:
    room = Room(seed=1, frames=24, width=64, height=48)
    out = []
    for seq in range(24):
        shot = room[seq]
        frame = Frame("room", seq, seq, Fraction(1, 30), shot.image)
        out.append(Packet(frame, {"view": view_of(shot)}))
    return out


def stage(file: str, **options: object) -> Reconstruct:
    return Reconstruct(profile="neural", weights=file, budget_mb=16, threads=1, **options)


def poses(outs: list[Packet | None]) -> np.ndarray:
    found = [out.results["pose"] for out in outs if out is not None]
    assert all(isinstance(pose, Pose) for pose in found)
    return np.stack([pose.c2w for pose in found if isinstance(pose, Pose)])


def test_a_map_grows_from_pictures_alone(file: str, packets: list[Packet]) -> None:
    run = stage(file)
    outs = [run.process(packet) for packet in packets]
    path = poses(outs)
    assert np.array_equal(path[0], np.eye(4))
    turns = path[:, :3, :3]
    np.testing.assert_allclose(
        turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9
    )
    held = [k for k, out in enumerate(outs) if out and out.results["pose"].held_out]
    assert held == [4, 12, 20]
    deltas = [out.results["splats"] for out in outs if out and "splats" in out.results]
    assert deltas
    assert all(isinstance(delta, SplatDelta) and delta.whole for delta in deltas)
    last = outs[-1].results["pose"]
    assert 256 < last.stable <= run.mapper.budget
    assert last.nbytes <= last.byte_budget == 16e6
    assert last.truth is not None


def test_a_frame_held_out_leaves_no_trace_in_the_map(file: str, packets: list[Packet]) -> None:
    run = stage(file)
    for packet in packets[:4]:
        run.process(packet)
    before = run.mapper.gaussians()
    assert run.process(packets[4]).results["pose"].held_out
    np.testing.assert_array_equal(run.mapper.gaussians().means, before.means)


def test_it_goes_on_bit_for_bit(file: str, packets: list[Packet], tmp_path: Path) -> None:
    whole, first = stage(file), stage(file)
    wanted = [whole.process(packet) for packet in packets]
    for packet in packets[:11]:
        first.process(packet)
    first.save(str(tmp_path / "state"))
    second = stage(file, resume=str(tmp_path / "state"))
    went_on = [second.process(packet) for packet in packets]
    assert went_on[:11] == [None] * 11
    assert np.array_equal(poses(went_on[11:]), poses(wanted[11:]))
    one, other = second.mapper.gaussians(), whole.mapper.gaussians()
    for name in ("means", "quats", "scales", "opacities", "colors", "codes"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_saved_map_is_read_without_options(
    file: str, packets: list[Packet], tmp_path: Path
) -> None:
    run = stage(file)
    for packet in packets[:4]:
        run.process(packet)
    run.save(str(tmp_path / "state"))
    found, camera = read_map(str(tmp_path / "state"))
    assert np.array_equal(found.means, run.mapper.gaussians().means)
    assert (camera.width, camera.height) == (64, 48)


def test_state_is_of_one_size_and_the_map_within_its_budget(
    file: str, packets: list[Packet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 300)
    run = stage(file)
    sizes = set()
    for packet in packets:
        pose = run.process(packet).results["pose"]
        assert pose.stable <= 300
        sizes.add(run.mapper.stats()["state_bytes"])
    assert pose.stable == 300
    assert len(sizes) == 1


def test_the_middle_of_a_picture_is_looked_at(packets: list[Packet]) -> None:
    from retain.kernels.geometry.camera import Camera

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (48, 64, 3), np.uint8)
    image, K = module.as_network(picture, Camera(50.0, 40.0, 32.0, 24.0, 64, 48), 48)
    np.testing.assert_allclose(image[0].permute(1, 2, 0) * 255, picture[:, 8:56], atol=1e-4)
    np.testing.assert_allclose(K[0], [[50, 0, 24], [0, 40, 24], [0, 0, 1]])


def test_what_cannot_be_is_refused(file: str, packets: list[Packet], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights called 'tinny'"):
        Reconstruct(profile="neural", weights="tinny")
    with pytest.raises(UsageError, match="cannot take given"):
        Reconstruct(profile="neural", weights=file, poses="given")
    with pytest.raises(UsageError, match="needs .* MB"):
        Reconstruct(profile="neural", weights=file, budget_mb=0.03).process(packets[0])
    run = stage(file)
    run.process(packets[0])
    run.save(str(tmp_path / "state"))
    torch.manual_seed(1)
    weights.save(tmp_path / "other.safetensors", OnlineX(CONFIG))
    with pytest.raises(StateError, match="another network"):
        stage(str(tmp_path / "other.safetensors"), resume=str(tmp_path / "state")).process(
            packets[1]
        )
    classic = Reconstruct(holdout=0, refine=0)
    classic.process(packets[0])
    classic.save(str(tmp_path / "classic"))
    with pytest.raises(StateError, match="neural map"):
        stage(file, resume=str(tmp_path / "classic")).process(packets[1])


def test_what_is_kept_out_moves_the_network_and_leaves_the_map(
    file: str, packets: list[Packet]
) -> None:
    every, some = stage(file, holdout=0), stage(file, holdout=0, write="every:6")
    told = [every.process(packet) for packet in packets]
    said = [some.process(packet) for packet in packets]
    np.testing.assert_array_equal(poses(told), poses(said))
    keyframes = [out.get("pose", Pose).keyframe for out in said if out is not None]
    assert [seq for seq, written in enumerate(keyframes) if written] == [0, 6, 12, 18]
    assert some.mapper is not None
    before = some.mapper.map.read("room").gaussians.means.tobytes()
    again = Packet(replace(packets[-1].frame, seq=25), packets[-1].results)
    some.process(again)
    assert some.mapper.map.read("room").gaussians.means.tobytes() == before


def test_between_0_and_1_what_is_fused_is_believed_less(file: str, packets: list[Packet]) -> None:
    told = []
    for score in (0.2, 0.3, 0.4):
        run = stage(file, holdout=0, write="scaled")
        for packet in packets[:2]:
            route = Route("blurred", "score", 0.0, 0.0, score, 0.2, 0.4, 0.0, 0.2, 0.4)
            run.process(packet.plus(route=route))
        assert run.mapper is not None
        told.append(run.mapper._fused.read("room")["weight"].sum(dtype=np.float64))  # type: ignore[union-attr]
    nothing, half, all_of_it = told
    assert half - nothing == pytest.approx(0.5 * (all_of_it - nothing), rel=1e-4)
    assert all_of_it > 1.5 * nothing
