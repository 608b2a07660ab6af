"""Detectors by name and by file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from yolox_parts import official

from retain.models.mamba.hosts.names import COCO, names_for
from retain.models.mamba.hosts.open import open_host
from retain.models.mamba.hosts.yolox_net import Plan
from retain.pipeline.errors import SourceError, UsageError

RCNN = "fasterrcnn_mobilenet_v3_large_320_fpn"
TINY = Plan(8, 1, False, 3)


@pytest.fixture(params=[".pth", ".pt", ".PTH", ".safetensors"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"mine{request.param}"
    if request.param == ".safetensors":
        save_file(official(TINY), path)
    else:
        torch.save({"model": official(TINY)}, path)
    return path


def test_a_yolox_is_known_by_its_file(weights: Path, tmp_path: Path) -> None:
    host = open_host(str(weights), "cpu", side=64)
    assert host.names == ("class_0", "class_1", "class_2")
    assert host.side == 64
    (tmp_path / "names.txt").write_text("cat\n\n dog \nred fox\n", "utf-8")
    named = open_host(str(weights), "cpu", names=tmp_path / "names.txt")
    assert named.names == ("cat", "dog", "red fox")
    assert named.digest == host.digest


def test_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save(official(TINY), tmp_path / "a.pth")
    bad = {"two.txt": b"cat\ndog\n", "twice.txt": b"cat\ncat\ndog\n", "raw.txt": b"\xff\xfe\x00"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    for name, kind, says in (
        ("two.txt", UsageError, "2 names, but the weights know 3 classes"),
        ("twice.txt", UsageError, "'cat' more than once"),
        ("raw.txt", SourceError, "cannot be read"),
        ("none.txt", SourceError, "cannot be read"),
    ):
        with pytest.raises(kind, match=says):
            open_host(str(tmp_path / "a.pth"), "cpu", names=tmp_path / name)


def test_eighty_classes_are_those_of_coco() -> None:
    assert names_for(80) == COCO
    assert len(set(COCO)) == 80
    assert [COCO[k] for k in (0, 2, 11, 16, 79)] == [
        "person",
        "car",
        "stop sign",
        "dog",
        "toothbrush",
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smal", "Did you mean 'small'"),
        ("yolo", "Or give the file of a YOLOX"),
        ("fasterrcnn_mobilenet_v3_large_320:w.pth", f"Did you mean '{RCNN}'"),
        (RCNN, f"Write {RCNN}:WEIGHTS.pth"),
        ("weights.caffemodel", "There is no detector"),
    ],
)
def test_unknown_names_say_what_there_is(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_host(name, "cpu")


def test_missing_files_are_named() -> None:
    for name in ("gone.onnx", "gone.safetensors", f"{RCNN}:gone.pth"):
        with pytest.raises(SourceError, match="gone"):
            open_host(name, "cpu")


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n")
    for name, options in (
        ("small", {"side": 320}),
        ("small", {"names": tmp_path / "names.txt"}),
        (f"{RCNN}:w.pth", {"side": 320}),
    ):
        with pytest.raises(UsageError, match="means nothing"):
            open_host(name, "cpu", **options)  # type: ignore[arg-type]


def test_weights_of_torchvision_are_no_yolox(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v2

    torch.save(mobilenet_v2(weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match="w.pth is not a YOLOX"):
        open_host(str(tmp_path / "w.pth"), "cpu")
