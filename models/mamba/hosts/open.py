"""A host by name or file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retain.models.encoders.base import choose_device
from retain.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from retain.models.mamba.host import Host

FILES = (".onnx", ".pth", ".pt", ".safetensors")


def open_host(
    name_or_path: str, device: str = "auto", side: int = 0, names: str | Path = ""
) -> Host:
    """The detector ``name_or_path``: ``small``, or a file of it that was trained here; a YOLOX in a
    file; or a Faster R-CNN of torchvision with its weights, ``ARCHITECTURE:WEIGHTS.pth``.

    ``side``: longest side of a YOLOX's input, 0 for the one it was trained for. ``names``: file of
    class names, one on a line. Raises UsageError for a name nobody knows, options that do not apply
    and weights of another detector; SourceError for files that are missing or damaged.
    """
    from retain.models.mamba.small.weights import SHIPPED

    name, colon, weights = name_or_path.partition(":")
    path = Path(name_or_path)
    if name_or_path in SHIPPED or _ours(path):
        _refuse(name_or_path, side=side, names=names)
        from retain.models.mamba.hosts.small import SmallDetector

        return SmallDetector.load(name_or_path, choose_device(device))
    if path.suffix.lower() in FILES and not colon:
        return _yolox(path, choose_device(device), side, names)
    # Only now: it brings torchvision along, which takes as long to load as torch.
    from retain.models.mamba.rcnn.build import ARCHITECTURES

    if name in ARCHITECTURES:
        _refuse(name, side=side)
        return _rcnn(name, weights, choose_device(device), names)
    if path.suffix.lower() in FILES and path.exists():
        return _yolox(path, choose_device(device), side, names)
    raise UsageError(
        f"There is no detector {name_or_path!r}.",
        hint=f"{nearest(name, (*SHIPPED, *ARCHITECTURES))} "
        f"Or give the file of a YOLOX ({', '.join(FILES)}).",
    )


def _yolox(path: Path, device: str, side: int, names: str | Path) -> Host:
    from retain.models.mamba.hosts.names import names_for
    from retain.models.mamba.hosts.yolox import Yolox
    from retain.models.mamba.hosts.yolox_weights import load

    network = load(path)
    return Yolox(network, names_for(network.plan.classes, names), device, side)


def _rcnn(name: str, weights: str, device: str, names: str | Path) -> Host:
    from retain.models.mamba.hosts.names import read_names
    from retain.models.mamba.hosts.rcnn import RCNNHost

    if not weights:
        raise UsageError(
            f"{name} needs its weights, which do not come with retain.",
            hint=f"Write {name}:WEIGHTS.pth.",
        )
    return RCNNHost.open(name, weights, read_names(names) if names else None, device)


def _ours(path: Path) -> bool:
    """Whether ``path`` is a safetensors file that retain wrote."""
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return "retain" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False  # whoever reads it says what is wrong


def _refuse(name: str, **options: object) -> None:
    for option, value in options.items():
        if value:
            raise UsageError(f"The option {option!r} means nothing for {name!r}: it has its own.")
