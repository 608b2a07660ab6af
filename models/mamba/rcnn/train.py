"""Training MAMBA on Faster R-CNN: the references of a key frame stand in for the bank.

As in the authors' code of 2024, the keys of an enhancement are the references' first proposals and
random cells of their maps, plain; the losses are the detector's own four, on the key frame. Cells
are never taken by the boxes of the truth: where a reference is the key itself, they would give the
answer away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss

from retain.datasets.detect.base import Clips
from retain.datasets.detect.degrade import preset
from retain.memory.bank.rows import digest
from retain.models import tensors
from retain.models.mamba.rcnn import examples
from retain.models.mamba.rcnn.network import PIXEL, MambaRCNN, as_tensor
from retain.models.training import Progress, Run, cosine, groups
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Image

WEIGHTS = "weights.safetensors"
_SCHEMA = "retain-mamba-rcnn/1"
_HINT = "train_rcnn writes such files."

Keys = Mapping[tuple[str, int], Tensor]
"""Rows [M, C] to attend to, by place and level."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a training run depends on beside the detector and the clips. Raises UsageError for
    values that cannot work."""

    steps: int = 2000
    batch: int = 4
    references: int = 2
    share: float = 0.3
    """Of key frames that are spoilt; references never are."""
    degraded: str = "strong"
    """Preset of how much."""
    freeze: bool = True
    """Only the layers that read memory learn; the detector stays what it is."""
    pixel_keys: int = 2000
    """Cells of the references, per map."""
    proposals: int = 75
    """Of each reference."""
    lr: float = 1e-4
    weight_decay: float = 1e-4
    clip_norm: float = 35.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "references", "pixel_keys", "proposals"):
            if getattr(self, name) < 1:
                raise UsageError(f"The recipe's {name} must be at least 1.")
        if not 0 <= self.share <= 1:
            raise UsageError(f"The recipe's share is from 0 to 1, not {self.share}.")
        preset(self.degraded)


class Trainer(Run):
    """A run in ``out``; ``model`` is trained in place."""

    def __init__(self, model: MambaRCNN, clips: Clips, recipe: Recipe, out: Path) -> None:
        self.recipe, self.detector, self._clips = recipe, model, clips
        self._classes = examples.numbers(clips.names, model.names)
        model.requires_grad_(not recipe.freeze)
        model.geo.requires_grad_(True)
        trained: nn.Module = model.geo if recipe.freeze else model
        moved = [p for p in trained.parameters() if p.requires_grad]
        super().__init__(
            trained,
            groups(moved, recipe.weight_decay),
            {**asdict(recipe), **_about(model), "clips": len(clips)},
            out,
            steps=recipe.steps,
            seed=recipe.seed,
            rate=lambda step: cosine(step, recipe.steps, recipe.lr),
            average=0.0,
            clip_norm=recipe.clip_norm,
        )

    def loss(self, step: int) -> Tensor:
        r = self.recipe
        rng = np.random.default_rng((r.seed, step))
        total = torch.zeros((), device=self.detector.device)
        for _ in range(r.batch):
            example = examples.draw(self._clips, rng, r.references, r.share, r.degraded)
            keys = reference_keys(self.detector, example.references, r, int(rng.integers(2**31)))
            target = examples.target(example.truth, self._classes, self.detector.device)
            total = total + sum(losses(self.detector, example.key, target, keys).values())
        return total / r.batch


def reference_keys(
    model: MambaRCNN, references: tuple[Image, ...], recipe: Recipe, seed: int
) -> Keys:
    """Plain rows of ``references``, which are pictures of one size. Gradients reach the detector
    where it learns. ``seed``: of the choice of cells, which nothing else decides."""
    kept = _Kept()
    batch, _ = model.transform([as_tensor(image, model.device) for image in references])
    maps = model.maps(batch.tensors, kept)
    proposals, _ = model.rpn(batch, maps)
    first = [boxes[: recipe.proposals] for boxes in proposals]
    model.rows(maps, first, batch.image_sizes, kept)
    generator = torch.Generator().manual_seed(seed)
    return {
        (place, level): _some(rows, recipe.pixel_keys, generator) if place == PIXEL else rows
        for (place, level), rows in kept.rows.items()
    }


def losses(
    model: MambaRCNN, key: Image, target: dict[str, Tensor], keys: Keys
) -> dict[str, Tensor]:
    """The detector's four losses on ``key``, which reads ``keys`` in place of a bank."""

    def read(place: str, query: Tensor, level: int = 0) -> Tensor:
        out: Tensor = model.layer(place)(query, keys[place, level])
        return out

    batch, targets = model.transform([as_tensor(key, model.device)], [target])
    maps = model.maps(batch.tensors, read)
    model.rpn.train()  # it holds no normalisation
    try:
        proposals, of_rpn = model.rpn(batch, maps, targets)
    finally:
        model.rpn.eval()
    heads = model.roi_heads
    proposals, _, labels, regression = heads.select_training_samples(proposals, targets)
    rows = model.rows(maps, proposals, batch.image_sizes, read)
    classifier, box = fastrcnn_loss(*heads.box_predictor(rows), labels, regression)
    return {"loss_classifier": classifier, "loss_box_reg": box, **of_rpn}


def train_rcnn(
    model: MambaRCNN,
    clips: Clips,
    recipe: Recipe,
    out: Path,
    *,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train ``model`` on clean, labelled ``clips`` to the end and write its weights into ``out``;
    their path. Goes on from a checkpoint in ``out``. Raises StateError for one of another recipe or
    another detector, UsageError for clips with classes that ``model`` does not know."""
    trainer = Trainer(model, clips, recipe, out)
    trainer.load()
    trainer.train(tell)
    save(out / WEIGHTS, model, recipe.freeze)
    return out / WEIGHTS


def save(path: Path, model: MambaRCNN, layers_only: bool) -> None:
    """``layers_only``: without the detector, whose weights the file then asks for."""
    kept = {k: v for k, v in model.state_dict().items() if k.startswith("geo.") or not layers_only}
    tensors.write(path, kept, {**_about(model), "layers_only": layers_only}, _SCHEMA)


def load(path: Path, model: MambaRCNN) -> None:
    """Give ``model`` the weights in ``path``. Raises StateError when they are of another network,
    or were trained on another detector."""
    kept, head = tensors.read(path, _SCHEMA, _HINT)
    own = _about(model)
    ignored = () if head.get("layers_only") else ("detector",)
    wrong = [k for k, v in own.items() if head.get(k) != v and k not in ignored]
    if wrong:
        raise StateError(
            f"{str(path)!r} differs from this model in {', '.join(wrong)}.",
            hint="Open the detector it was trained on, with the same names, levels and form.",
        )
    result = model.load_state_dict(kept, strict=False)
    missing = [k for k in result.missing_keys if k.startswith("geo.") or ignored]
    if missing or result.unexpected_keys:
        raise StateError(f"{str(path)!r} does not fit its own description.")


def _about(model: MambaRCNN) -> dict[str, Any]:
    layers = {place: model.layer(place) for place in model.geo}
    detector = [v for k, v in model.state_dict().items() if not k.startswith("geo.")]
    return {
        "names": list(model.names),
        "levels": list(model.levels),
        "forms": {k: layer.form for k, layer in layers.items()},
        "heads": {k: layer.heads for k, layer in layers.items()},
        "detector": digest(*detector),
    }


class _Kept:
    """A Read without memory that keeps what comes by."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Tensor] = {}

    def __call__(self, place: str, query: Tensor, level: int = 0) -> Tensor:
        self.rows[place, level] = query
        return query


def _some(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    at = torch.randperm(len(rows), generator=generator)[:most]
    return rows[at.to(rows.device)]
