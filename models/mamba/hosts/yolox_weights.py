"""YOLOX's weights from files: the authors' checkpoints, exported ONNX graphs, safetensors.

Sizes are read off the weights. Batch norms are folded in float64. Nothing in a file is run: pickles
go through torch's restricted reader, ONNX through OpenCV's.

The authors' very first weights (their "legacy" ones) were trained on normalised RGB pictures. They
have the same shapes, so nothing tells them apart, and they find little here.
"""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from retain.models.mamba.hosts.yolox_net import Plan, YoloxNet
from retain.pipeline.errors import SourceError, SourceFault, UsageError

EPSILON = 1e-3
"""Of YOLOX's batch norms."""
PROBES = (128, 416, 640)
"""Sides of the picture on which a graph and the network made from it are compared: the smallest
that the graph takes."""
CLOSE = 0.05
"""Logits of the two may differ by so much."""


def load(path: str | Path) -> YoloxNet:
    """The network in ``path``: ``.onnx``, ``.safetensors``, else a checkpoint of torch.

    Raises SourceError when it is missing or damaged, UsageError when it is anything but a YOLOX.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceError(SourceFault.NOT_FOUND, f"There is no weights file {str(path)!r}.")
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _from_onnx(path)
    state = _safetensors(path) if suffix == ".safetensors" else _checkpoint(path)
    return from_state(state, path.name)


def from_state(state: Mapping[str, Tensor], what: str = "these weights") -> YoloxNet:
    """A network from tensors by the authors' names, with batch norms or with these folded.

    Raises UsageError when they are not a YOLOX's, SourceError when they are not finite.
    """
    folded = _folded(state)
    try:
        plan = Plan(
            base=len(folded["backbone.backbone.stem.conv.weight"]),
            depth=_depth(folded),
            depthwise="backbone.backbone.dark2.0.dconv.weight" in folded,
            classes=len(folded["head.cls_preds.0.bias"]),
        )
    except KeyError as error:
        raise _other(what, f"it has no {error.args[0]!r}") from None
    except TypeError:
        raise _other(what, "it has single numbers where there should be tables") from None
    network = _bare(plan)
    own = network.state_dict()
    wrong = [k for k, v in own.items() if k not in folded or folded[k].shape != v.shape]
    wrong += [k for k in folded if k not in own]
    if wrong:
        raise _other(what, f"{wrong[0]!r} is missing, too many, or of another shape")
    return _filled(network, folded, what)


def _depth(state: Mapping[str, Tensor]) -> int:
    prefix = "backbone.backbone.dark2.1.m."
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _bare(plan: Plan) -> YoloxNet:
    with torch.device("meta"):
        return YoloxNet(plan)


def _filled(network: YoloxNet, state: Mapping[str, Tensor], what: str) -> YoloxNet:
    own = {key: tensor.float().contiguous() for key, tensor in state.items()}
    if not all(bool(tensor.isfinite().all()) for tensor in own.values()):
        raise _broken(f"The weights in {what} are not all finite numbers.")
    network.load_state_dict(own, assign=True)
    return network.eval()


def _other(what: str, why: str) -> UsageError:
    return UsageError(
        f"{what} is not a YOLOX: {why}.",
        hint="Give a checkpoint of YOLOX nano, tiny, s, m, l or x (.pth), or its ONNX export; "
        "torchvision's Faster R-CNN is given as ARCHITECTURE:WEIGHTS.pth.",
    )


def _broken(what: str, hint: str = "The file is damaged.") -> SourceError:
    return SourceError(SourceFault.BROKEN, what, hint=hint)


# Checkpoints


def _checkpoint(path: Path) -> dict[str, Tensor]:
    """What torch saved in ``path``: the tensors of ``model`` where there is one."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMBERS):
            warnings.simplefilter("ignore")  # of pickles that are no checkpoint; told below
            saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise _broken(
            f"The weights in {path.name} cannot be read ({type(error).__name__}).",
            "It is no checkpoint of torch, or damaged, or holds more than tensors and numbers, "
            "which is refused because reading it could run code.",
        ) from error
    state = saved.get("model", saved) if isinstance(saved, dict) else saved
    tensors = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors:
        raise _other(path.name, "it holds no tensors by name")
    return {str(key): value for key, value in state.items()}


_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    codecs.encode,
]
"""Checkpoints of training runs hold their best score as a number of numpy's."""


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _broken(f"{path.name} is no whole safetensors file ({error}).") from error
    return state


def _folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without batch norms, under our names; the last maps as matrices. What does not fit together
    is left out, to be seen as missing."""
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        prefix = key.rpartition(".")[0]
        block = prefix.rpartition(".")[0]
        if prefix.endswith(".conv") and f"{block}.bn.weight" in state:
            folded = _fold(state, block)
            if folded is not None:
                out[f"{block}.weight"], out[f"{block}.bias"] = folded
        elif not prefix.endswith(".bn"):
            last = "_preds." in key and tensor.ndim == 4
            out[key] = tensor.flatten(1) if last else tensor
    return out


def _fold(state: Mapping[str, Tensor], block: str) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of a convolution with the batch norm after it."""
    try:
        weight = state[f"{block}.conv.weight"].double()
        ends = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (state[f"{block}.bn.{end}"].double() for end in ends)
    except KeyError:
        return None
    if weight.ndim != 4 or any(x.shape != weight.shape[:1] for x in (scale, shift, mean, variance)):
        return None
    scale = scale / (variance + EPSILON).sqrt()
    return weight * scale[:, None, None, None], shift - mean * scale


# ONNX


def _from_onnx(path: Path) -> YoloxNet:
    """The convolutions of an exported graph, batch norms folded by the exporter.

    They are told by their order and shapes; that these mean what we take them to mean is then
    checked by running the graph itself on one picture.
    """
    try:
        graph = cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        reason = str(error.err).strip().rstrip(".") or "no reason given"
        raise _broken(
            f"OpenCV cannot read {path.name}: {reason}.",
            "It is damaged, or no ONNX graph of a detector.",
        ) from error
    layers = [graph.getLayer(name) for name in graph.getLayerNames()]
    blobs = [layer.blobs for layer in layers if layer.type == "Convolution"]
    if any(len(pair) != 2 for pair in blobs):
        raise _other(path.name, "a convolution has no bias of its own")
    network = _bare(_plan_of([weight.shape for weight, _ in blobs], path.name))
    state: dict[str, Tensor] = {}
    for (key, module), (weight, bias) in zip(network.in_order(), blobs, strict=True):
        state[f"{key}.weight"] = torch.from_numpy(weight.copy()).view(module.weight.shape)
        state[f"{key}.bias"] = torch.from_numpy(bias.copy()).flatten()
    return _checked(_filled(network, state, path.name), graph, path.name)


def _plan_of(shapes: Sequence[tuple[int, ...]], what: str) -> Plan:
    """The YOLOX whose convolutions, in order, have these shapes. Raises UsageError for none."""
    if len(shapes) < 40 or shapes[0][1:] != (12, 3, 3):
        raise _other(what, "it does not begin like one")
    base = shapes[0][0]
    depthwise = shapes[1] == (base, 1, 3, 3)
    classes = shapes[-7 if depthwise else -5][0]
    for depth in range(1, 9):
        plan = Plan(base, depth, depthwise, classes)
        own = [tuple(module.weight.shape) for _, module in _bare(plan).in_order()]
        if [(*shape, 1, 1)[:4] for shape in own] == list(shapes):
            return plan
    raise _other(what, f"its {len(shapes)} convolutions are not those of any size")


def _checked(network: YoloxNet, graph: cv2.dnn.Net, what: str) -> YoloxNet:
    """``network``, if the graph it was made from finds the same in a picture. Raises UsageError."""
    theirs, pixels = _answer(graph, what)
    with torch.no_grad():
        parts = [network.head.decide(k, rows) for k, rows in enumerate(network(pixels))]
    ours = torch.cat([torch.cat((obj[:, None], cls), 1) for cls, obj, _ in parts]).sigmoid()
    if theirs.shape != (len(ours), 4 + ours.shape[1]):
        raise _other(what, f"it gives {list(theirs.shape)} numbers")
    off = float((theirs[:, 4:].logit(1e-5) - ours.logit(1e-5)).abs().max())
    if not off < CLOSE:
        raise _other(what, f"it has the layers of one, but computes something else ({off:.2g} off)")
    return network


def _answer(graph: cv2.dnn.Net, what: str) -> tuple[Tensor, Tensor]:
    """What the graph gives, [N, 5 + K], for a picture of noise, [1, 3, side, side]."""
    for side in PROBES:
        pixels = np.random.default_rng(0).random((1, 3, side, side), np.float32) * 255
        try:
            graph.setInput(pixels)
            return torch.from_numpy(graph.forward()[0]), torch.from_numpy(pixels)
        except cv2.error:
            continue  # exported for one size only
    raise _other(what, f"it runs on none of the input sides {', '.join(map(str, PROBES))}")
