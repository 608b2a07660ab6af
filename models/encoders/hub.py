"""Encoders whose weights come from a hub through their own loaders. Nothing is fetched unless
``download`` says so; without it, weights already in the loader's cache are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from retain.models.encoders.base import TorchEncoder, choose_device, no_variant
from retain.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    import torch

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}


class WeightsAbsent(UsageError):
    """Weights are not on this machine, and fetching them was not allowed."""


def absent(name: str, where: str) -> WeightsAbsent:
    return WeightsAbsent(
        f"The weights of the encoder {name!r} were not found in {where}, and fetching them was not "
        "allowed.",
        hint=f"Allow it once with `--encoder {name} --download`, or use --encoder mobilenetv2.",
    )


def unreachable(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"The weights of the encoder {name!r} could not be fetched ({type(error).__name__}).",
        hint="Check the network, or use --encoder mobilenetv2, whose weights come with a package.",
    )


class DinoV2(TorchEncoder):
    """DINOv2-small (arXiv 2304.07193), the class token; 384 numbers. CurveStream's own encoder.

    Loaded through ``torch.hub`` from facebookresearch/dinov2 at a fixed commit.
    """

    REPOSITORY = "facebookresearch/dinov2:12592a9bdfea0a6e4ee4767cd5a8d3195c0e3509"
    FOLDER = "facebookresearch_dinov2_12592a9bdfea0a6e4ee4767cd5a8d3195c0e3509"
    FILE = "dinov2_vits14_pretrain.pth"

    def __init__(self, variant: str = "", device: str = "auto", download: bool = False) -> None:
        import torch

        no_variant("dinov2-small", variant)
        home = Path(torch.hub.get_dir())
        ready = (home / "checkpoints" / self.FILE).is_file() and (home / self.FOLDER).is_dir()
        if not ready and not download:
            raise absent("dinov2-small", "torch's hub cache")
        try:
            network = torch.hub.load(  # type: ignore[no-untyped-call]
                str(home / self.FOLDER) if ready else self.REPOSITORY,
                "dinov2_vits14",
                source="local" if ready else "github",
                trust_repo=True,
            )
        except (OSError, RuntimeError) as error:
            raise unreachable("dinov2-small", error) from error
        device = choose_device(device)
        super().__init__(
            "dinov2-small",
            network.eval().to(device),
            dim=384,
            side=224,
            device=device,
            **IMAGENET,
        )


class TorchVision(TorchEncoder):
    """A torchvision classifier without its last layer: ``torchvision:resnet18``."""

    def __init__(self, variant: str = "", device: str = "auto", download: bool = False) -> None:
        import torch
        from torchvision import models

        known = models.list_models(module=models)
        if variant not in known:
            asked = f"no model {variant!r}" if variant else "many models; name one"
            raise UsageError(
                f"torchvision has {asked}.",
                hint=nearest(variant, known) if variant else "For example torchvision:resnet18.",
            )
        name = f"torchvision:{variant}"
        chosen = models.get_model_weights(variant).DEFAULT
        file = Path(torch.hub.get_dir()) / "checkpoints" / chosen.url.rpartition("/")[2]
        if not file.is_file() and not download:
            raise absent(name, "torch's cache")
        try:
            network = models.get_model(variant, weights=chosen).eval()
        except (OSError, RuntimeError) as error:
            raise unreachable(name, error) from error
        dim = _behead(network, name)
        transforms = chosen.transforms()
        device = choose_device(device)
        super().__init__(
            name,
            network.to(device),
            dim=dim,
            side=transforms.crop_size[0],
            mean=[255 * v for v in transforms.mean],
            std=[255 * v for v in transforms.std],
            device=device,
        )


def _behead(network: torch.nn.Module, name: str) -> int:
    """Replace the last linear layer by nothing; returns how many numbers it was given."""
    import torch

    linear = [(path, m) for path, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
    if not linear:
        raise UsageError(f"The encoder {name!r} has no linear layer to take features before.")
    path, last = linear[-1]
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, torch.nn.Identity())
    return last.in_features
