"""A host by name or file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retain.models.encoders.base import choose_device
from retain.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from retain.models.mamba.host import Host

SMALL = ("small",)
"""Hosts whose weights come with the package."""
TORCHVISION = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
)
"""Architectures of torchvision; their weights are a file: ``name:WEIGHTS.pth``."""
FILES = (".onnx", ".pth", ".pt", ".safetensors")


def open_host(
    name_or_path: str, device: str = "auto", side: int = 0, names: str | Path = ""
) -> Host:
    """The detector ``name_or_path``: ``small``; a YOLOX in a file; or ``ARCHITECTURE:WEIGHTS`` of
    torchvision.

    ``side``: longest side of a YOLOX's input, 0 for the one it was trained for. ``names``: file of
    class names, one on a line. Raises UsageError for anything else, and for weights that are
    missing, damaged or of another detector.
    """
    name, _, weights = name_or_path.partition(":")
    if name in TORCHVISION:
        _only_yolox(name, side, names)
        from retain.models.mamba.hosts.rcnn import RCNNHost

        return RCNNHost.open(name, weights, device=choose_device(device))
    if name_or_path in SMALL:
        _only_yolox(name, side, names)
        from retain.models.mamba.hosts.small import SmallDetector

        return SmallDetector.load(name_or_path, device=choose_device(device))
    path = Path(name_or_path)
    if path.suffix.lower() not in FILES:
        known = (*SMALL, *TORCHVISION)
        raise UsageError(
            f"There is no detector {name_or_path!r}.",
            hint=f"{nearest(name, known)} Or give a YOLOX file ({', '.join(FILES)}).",
        )
    from retain.models.mamba.hosts.names import names_for
    from retain.models.mamba.hosts.yolox import Yolox
    from retain.models.mamba.hosts.yolox_weights import load

    network = load(path)
    return Yolox(network, names_for(network.plan.classes, names), choose_device(device), side)


def _only_yolox(name: str, side: int, names: str | Path) -> None:
    if side or names:
        option = "an input side" if side else "class names"
        raise UsageError(f"{name!r} takes no {option}: it has its own.")
