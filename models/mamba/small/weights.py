"""Weights of the small detector on disk: batch norms folded in, half precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retain.models import tensors
from retain.models.mamba.small.network import Network
from retain.pipeline.errors import StateError

SCHEMA = "retain-small-detector/1"
SHIPPED = {"small": Path(__file__).parents[1] / "shipped" / "small-detector.safetensors"}
"""Weights that come with the package, by name. See MODEL_CARD.md beside them."""
_HINT = "`retain train detector` writes such files; 'small' are the weights that come with retain."


def folded(network: Network) -> Network:
    """A copy that computes the same with its batch norms folded into the convolutions."""
    copy = Network(network.to_kind.out_features)
    copy.load_state_dict(network.state_dict())
    for sequence in copy.eval().modules():
        if isinstance(sequence, nn.Sequential):
            for k in range(len(sequence) - 1):
                one, two = sequence[k], sequence[k + 1]
                if isinstance(one, nn.Conv2d) and isinstance(two, nn.BatchNorm2d):
                    sequence[k] = torch.nn.utils.fuse_conv_bn_eval(one, two)
                    sequence[k + 1] = nn.Identity()
    return copy


def save(path: Path, network: Network, names: tuple[str, ...], head: Mapping[str, Any]) -> None:
    """``head``: anything worth knowing of how they were made."""
    halves = {k: v.half() for k, v in folded(network).state_dict().items()}
    tensors.write(path, halves, {**head, "names": list(names)}, SCHEMA)


def load(source: str | Path) -> tuple[Network, tuple[str, ...], dict[str, Any]]:
    """A network ready to use, its classes' names and the file's header, from a file or by the name
    of shipped weights. Raises StateError for a file that is damaged or of another network,
    UsageError for a name nobody knows."""
    path = tensors.locate(source, SHIPPED)
    kept, head = tensors.read(path, SCHEMA, _HINT)
    names = tuple(head.get("names", ()))
    network = folded(Network(max(len(names), 1)))
    own = network.state_dict()
    if {k: v.shape for k, v in kept.items()} != {k: v.shape for k, v in own.items()}:
        raise StateError(f"{str(path)!r} holds weights of another network.", hint=_HINT)
    network.load_state_dict({k: v.float() for k, v in kept.items()})
    return network.eval().requires_grad_(False), names, head


def numbers(network: Network) -> list[Tensor]:
    """All weights in a fixed order, to be digested."""
    return [value for _, value in sorted(network.state_dict().items())]
