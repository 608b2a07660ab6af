"""Weights of torchvision from a file, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from rcnn_parts import NAMES, clip, tiny_base
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d

from retain.models.mamba.rcnn import build as build_module
from retain.models.mamba.rcnn.build import (
    ARCHITECTURES,
    build,
    coco_names,
    open_base,
    open_mamba,
)
from retain.models.mamba.rcnn.host import RCNNHost
from retain.models.mamba.rcnn.network import PIXEL, MambaRCNN
from retain.pipeline.errors import SourceError, UsageError

MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A random state dict of eight classes, as torchvision saves it."""
    torch.manual_seed(0)
    make = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(make(weights=None, weights_backbone=None, num_classes=9).state_dict(), file)
    yield file
    file.unlink()


def test_a_file_becomes_a_detector_with_memory_and_a_host(path: Path) -> None:
    model = open_mamba(MOBILE, path, NAMES)
    saved = torch.load(path, weights_only=True)
    own = model.state_dict()
    kept = [k for k in saved if "num_batches_tracked" not in k]
    assert all(torch.equal(own[k], saved[k]) for k in kept)
    assert {k for k in own if not k.startswith("geo.")} == set(kept)
    host = RCNNHost.open(MOBILE, path, NAMES)
    assert (host.names, host.channels, host.side) == (NAMES, 1024, 640)
    host._base.rpn.score_thresh = 0.0
    model.rpn.score_thresh = 0.0
    cells = host.describe([clip()[0].image])[0]
    seen = model.detect(clip()[0].image)
    assert len(cells.anchors) > 10
    assert torch.equal(cells.anchors, seen.proposals)


def test_checkpoints_and_old_names_are_understood(path: Path, tmp_path: Path) -> None:
    state = torch.load(path, weights_only=True)
    wanted = open_base(MOBILE, path, NAMES)[0].state_dict()
    # As in torchvision's first COCO files: another name of the RPN's convolution.
    for end in ("weight", "bias"):
        state[f"rpn.head.conv.{end}"] = state.pop(f"rpn.head.conv.0.0.{end}")
    old = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    torch.save({"model": dict(old), "epoch": 3}, tmp_path / "old.pth")
    got = open_base(MOBILE, tmp_path / "old.pth", NAMES)[0].state_dict()
    assert got.keys() == wanted.keys()
    assert all(torch.equal(v, wanted[k]) for k, v in got.items())


def test_a_missing_file_says_where_weights_come_from(tmp_path: Path) -> None:
    for name, known in ARCHITECTURES.items():
        with pytest.raises(SourceError, match="nothing is downloaded") as error:
            RCNNHost.open(name, tmp_path / "none.pth")
        assert known.file in str(error.value)
        assert getattr(torchvision.models.detection, known.weights).DEFAULT.url.endswith(known.file)
        assert f"{name}(weights={known.weights}.DEFAULT)" in str(error.value)


def test_weights_of_another_architecture_are_refused(path: Path) -> None:
    for other in ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"):
        with pytest.raises(UsageError, match=f"does not fit {other}.*mobilenet_v3_large"):
            open_base(other, path, NAMES)


def test_the_resnets_are_told_apart(tmp_path: Path) -> None:
    with torch.device("meta"):
        models = {n: build(n, 8) for n in ARCHITECTURES if "resnet" in n}
    one, two = models
    for own, other in ((one, two), (two, one)):
        # Empty memory, not one value drawn: only names and shapes matter.
        state = {k: torch.zeros(()).expand(v.shape) for k, v in models[own].state_dict().items()}
        torch.save(state, tmp_path / "resnet.pth")
        with pytest.raises(UsageError, match=f"does not fit {other}: .*looks like {own}.$"):
            open_base(other, tmp_path / "resnet.pth", NAMES)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"not weights")
    with pytest.raises(SourceError, match="damaged"):
        open_base(MOBILE, bad)
    bad.with_suffix(".safetensors").write_bytes(b"not weights")
    with pytest.raises(SourceError, match="damaged"):
        open_base(MOBILE, bad.with_suffix(".safetensors"))
    torch.save([1, 2], bad)
    with pytest.raises(SourceError, match="no state dict"):
        open_base(MOBILE, bad)
    torch.save({"weight": torch.zeros(3)}, bad)
    with pytest.raises(UsageError, match="no weights of a Faster R-CNN"):
        open_base(MOBILE, bad)


def test_classes_must_be_those_of_the_classifier(path: Path) -> None:
    with pytest.raises(UsageError, match="knows 8 classes, which are not COCO's"):
        RCNNHost.open(MOBILE, path)
    with pytest.raises(UsageError, match="knows 8 classes and the background, the list has 7"):
        RCNNHost.open(MOBILE, path, NAMES[:7])
    with pytest.raises(UsageError, match="no architecture 'fasterrcnn_resnet'"):
        open_base("fasterrcnn_resnet", path)


def test_the_first_coco_file_has_norms_without_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchvision opens it; known by its contents, whatever it is called."""

    def small(name: str, classes: int) -> FasterRCNN:
        base = tiny_base("conv")
        build_module._freeze_norms(base)
        return base

    path = tmp_path / "weights.pth"
    torch.save(small("", 8).state_dict(), path)
    monkeypatch.setattr(build_module, "build", small)

    def epsilons() -> set[float]:
        base = open_base("fasterrcnn_resnet50_fpn", path, NAMES)[0]
        return {m.eps for m in base.modules() if isinstance(m, FrozenBatchNorm2d)}

    assert epsilons() == {1e-5}
    own = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(build_module, "_NO_EPSILON", own)
    assert epsilons() == {0.0}
    coco = ARCHITECTURES["fasterrcnn_resnet50_fpn"].file
    monkeypatch.undo()
    assert coco.endswith(f"{build_module._NO_EPSILON}.pth")


def test_every_architecture_has_its_places_and_maps() -> None:
    for name, known in ARCHITECTURES.items():
        with torch.device("meta"):
            model = MambaRCNN(build(name, 90), coco_names(), known.levels)
        one = name.endswith("_v2")
        assert model.instance_places == (("fc5",) if one else ("fc6", "fc7"))
        assert {model.layer(k).key.in_features for k in model.instance_places} == {1024}
        assert model.layer(PIXEL).key.in_features == 256
        # The last maps before the subsampled one, which are the coarsest.
        maps = list(model.backbone.body.return_layers.values())
        assert list(known.levels) == maps[-2:]


def test_names() -> None:
    assert all(hasattr(torchvision.models.detection, name) for name in ARCHITECTURES)
    names = coco_names()
    assert len(names) == len(set(names)) == 90
    assert (names[0], names[16], names[89]) == ("person", "cat", "toothbrush")
    assert names[11] == "unused_12"
