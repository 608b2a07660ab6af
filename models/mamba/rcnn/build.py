"""torchvision's Faster R-CNNs from a file of weights. Nothing is ever downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FrozenBatchNorm2d

from retain.kernels.bank_read.reference import Form
from retain.models.mamba.rcnn.network import MambaRCNN, check_names
from retain.pipeline.errors import SourceError, SourceFault, UsageError, nearest


@dataclass(frozen=True, slots=True)
class Architecture:
    """One of torchvision's builders."""

    levels: tuple[str, ...]
    """Coarse maps, which the pixel level enhances."""
    file: str
    """Of the COCO weights, as torchvision calls it."""
    weights: str
    """Their entry in torchvision's list."""


ARCHITECTURES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": Architecture(
        ("0", "1"),
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights",
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Architecture(
        ("0", "1"),
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        "FasterRCNN_MobileNet_V3_Large_FPN_Weights",
    ),
    "fasterrcnn_resnet50_fpn": Architecture(
        ("2", "3"),
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "FasterRCNN_ResNet50_FPN_Weights",
    ),
    "fasterrcnn_resnet50_fpn_v2": Architecture(
        ("2", "3"),
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "FasterRCNN_ResNet50_FPN_V2_Weights",
    ),
}
_NO_EPSILON = "258fb6c6"
"""How the SHA-256 of the one file begins that torchvision uses without the epsilon of the norms."""
_DAMAGED = (OSError, RuntimeError, ValueError, EOFError, UnpicklingError, SafetensorError)
"""What reading a file of weights raises."""
_CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"


def build(name: str, classes: int, **options: Any) -> FasterRCNN:
    """The architecture ``name`` with random weights, for ``classes`` and the background.

    ``options`` go to torchvision. Normalisation has no statistics to learn, as in torchvision's own
    trained models. Raises UsageError for a name that is none.
    """
    if name not in ARCHITECTURES:
        raise UsageError(
            f"There is no architecture {name!r}.",
            hint=nearest(name, ARCHITECTURES) or f"Known: {', '.join(ARCHITECTURES)}.",
        )
    make = getattr(torchvision.models.detection, name)
    base = make(weights=None, weights_backbone=None, num_classes=classes + 1, **options)
    if not name.endswith("_v2"):
        _freeze_norms(base)
    return base.eval()


def open_base(
    name: str, path: str | Path, names: Sequence[str] | None = None
) -> tuple[FasterRCNN, tuple[str, ...]]:
    """The architecture ``name`` with the weights in ``path``, and its classes.

    ``path``: a state dict, or a checkpoint that holds one as ``model``, as torch.save or
    safetensors write them. ``names`` of the classes without the background; COCO's for weights of
    91 outputs. Raises SourceError for a file that is missing or broken, UsageError for one of
    another architecture or other classes.
    """
    if name not in ARCHITECTURES:
        build(name, 1)
    path = Path(path)
    state = _read(name, path)
    if _CLASSIFIER not in state:
        raise UsageError(f"{str(path)!r} holds no weights of a Faster R-CNN of torchvision.")
    classes = len(state[_CLASSIFIER]) - 1
    if names is None:
        if classes != 90:
            raise UsageError(
                f"{str(path)!r} knows {classes} classes, which are not COCO's.",
                hint="Give their names, in the order of training, without the background.",
            )
        names = coco_names()
    base = build(name, classes)
    check_names(base, names)
    _fill(base, name, state, path)
    own = name == "fasterrcnn_resnet50_fpn"
    if own and hashlib.sha256(path.read_bytes()).hexdigest().startswith(_NO_EPSILON):
        for module in base.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.eps = 0.0
    return base, tuple(names)


def open_mamba(
    name: str, path: str | Path, names: Sequence[str] | None = None, form: Form = "paper"
) -> MambaRCNN:
    """``open_base`` with untrained layers for memory, which change nothing yet."""
    base, known = open_base(name, path, names)
    return MambaRCNN(base, known, ARCHITECTURES[name].levels, form)


def coco_names() -> tuple[str, ...]:
    """The 90 of torchvision's COCO weights. Ten numbers have no class, and get a name each."""
    listed = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(f"unused_{k}" if name == "N/A" else name for k, name in enumerate(listed))[1:]


def _read(name: str, path: Path) -> Mapping[str, Tensor]:
    own = ARCHITECTURES[name]
    if not path.is_file():
        raise SourceError(
            SourceFault.NOT_FOUND,
            f"There is no weights file {str(path)!r}, and nothing is downloaded.",
            hint=f"On a machine with a network, torchvision.models.detection.{name}"
            f"(weights={own.weights}.DEFAULT) leaves {own.file} in ~/.cache/torch/hub/checkpoints; "
            "copy it from there.",
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise SourceError(
            SourceFault.BROKEN,
            f"{str(path)!r} is no file of weights, or is damaged ({type(error).__name__}).",
            hint="Save the bare state dict: torch.save(model.state_dict(), path).",
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SourceError(SourceFault.BROKEN, f"{str(path)!r} holds no state dict.")
    return state


def _fill(base: FasterRCNN, name: str, state: Mapping[str, Tensor], path: Path) -> None:
    """Raises UsageError when ``state`` is of another architecture."""
    problem = ""
    try:
        result = base.load_state_dict(state, strict=False)
        wrong = [*result.missing_keys, *result.unexpected_keys]
        if wrong:
            problem = f"{len(wrong)} names differ, {wrong[0]} among them"
    except RuntimeError as error:
        problem = str(error).splitlines()[-1].strip()
    if problem:
        raise UsageError(
            f"{str(path)!r} does not fit {name}: {problem}.",
            hint=f"It looks like {_family(state)}.",
        )


def _family(state: Mapping[str, Tensor]) -> str:
    """The two MobileNets have the same parameters."""
    if "backbone.body.0.0.weight" in state:
        return "one of fasterrcnn_mobilenet_v3_large*"
    v2 = "roi_heads.box_head.5.weight" in state
    return "fasterrcnn_resnet50_fpn_v2" if v2 else "fasterrcnn_resnet50_fpn"


def _freeze_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, child.eps))
        else:
            _freeze_norms(child)
