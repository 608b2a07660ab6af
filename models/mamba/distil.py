"""What a read-out learns from: windows of video as the host sees them, whole and spoilt.

No labels. The host's own decision on a whole frame is what should be made of a spoilt copy of it.
Features are computed once; an episode is a file, so an interrupted run goes on with those that are
there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from retain.datasets.detect.degrade import KINDS, degrade
from retain.models.mamba.host import Cells, Host, Predicted
from retain.models.mamba.windows import Window, of_objects, of_videos
from retain.pipeline.errors import UsageError
from retain.pipeline.files import write_whole

VERSION = 2
"""Raise when episodes are drawn otherwise, so that old caches are not used."""
Progress = Callable[[int, int], None]
"""Called with (done, of)."""
_BURST = 4.0
_LEAST_STRENGTH = 0.2
_WORTH = 0.3
"""A window without a box this sure in its first or last frame teaches little."""
_FEW = 3.0
_SURE = 0.05
_CORE = 0.2
"""Share of a box, to either side of its middle, whose cells are on the object."""
_BOX_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class Material:
    """What to draw episodes from. No ``videos``: procedural clips."""

    videos: tuple[str, ...] = ()
    episodes: int = 120
    seed: int = 1_000_000

    def name(self, host: Host) -> str:
        """Of the folder in the cache."""
        files = [(v, Path(v).stat().st_size if Path(v).is_file() else 0) for v in self.videos]
        what = [VERSION, host.digest, host.side, files, self.episodes, self.seed]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def windows(self, count: int) -> Iterator[Window]:
        if not self.videos:
            return of_objects(count, self.seed)
        return of_videos(self.videos, count, self.seed)


@dataclass(frozen=True, slots=True)
class Episode:
    """A window as the host sees it."""

    whole: list[Cells]
    spoilt: list[Cells]
    """The same frames, each spoilt."""
    seconds: list[float]


class Episodes:
    """Those in a folder of the cache, read when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def only(self, numbers: Sequence[int]) -> Episodes:
        return Episodes([self._paths[k] for k in numbers])

    def __getitem__(self, index: int) -> Episode:
        from safetensors import safe_open

        with safe_open(self._paths[index], "pt") as file:
            head = json.loads(file.metadata()["retain"])
            get = file.get_tensor
            levels = get("levels")

            def cells(kind: str, k: int) -> Cells:
                rows = get(f"{kind}/{k}").float()
                return Cells(rows, get("anchors"), levels, tuple(head["size"]), head["scale"])

            count = len(head["seconds"])
            both = [[cells(kind, k) for k in range(count)] for kind in ("whole", "spoilt")]
        return Episode(both[0], both[1], head["seconds"])


def draw(host: Host, material: Material, folder: Path, tell: Progress) -> Episodes:
    """The episodes of ``material`` from the cache in ``folder``; what is missing is drawn."""
    place = folder / f"episodes-{material.name(host)}"
    paths = [place / f"{k:05d}.safetensors" for k in range(material.episodes)]
    done = place / "skipped.json"
    skipped: list[int] = json.loads(done.read_text()) if done.is_file() else []
    if not all(path.exists() or k in skipped for k, path in enumerate(paths)):
        for k, window in enumerate(material.windows(material.episodes)):
            if not paths[k].exists() and k not in skipped:
                data = _episode(host, window, np.random.default_rng((material.seed, k, 1)))
                if data is None:
                    skipped.append(k)
                    write_whole(done, json.dumps(skipped).encode())
                else:
                    write_whole(paths[k], data)
            tell(k + 1, material.episodes)
    there = [path for path in paths if path.exists()]
    if len(there) < 4:
        raise UsageError(
            f"The host finds next to nothing in this material: {len(there)} of "
            f"{material.episodes} windows show an object.",
            hint="Give videos of what it was trained to find.",
        )
    return Episodes(there)


def _episode(host: Host, window: Window, rng: np.random.Generator) -> bytes | None:
    """A file, or None for a window that shows nothing the host is sure of."""
    from safetensors.torch import save

    ends = host.describe([window.images[0], window.images[-1]])
    if all(_best(host, cells) < _WORTH for cells in ends):
        return None
    tensors: dict[str, Tensor] = {}
    left, kind, strength = 0, KINDS[0], 0.0
    for k, image in enumerate(window.images):
        if not left:
            left = int(rng.geometric(1 / _BURST))
            kind = KINDS[int(rng.integers(len(KINDS)))]
            strength = float(rng.uniform(_LEAST_STRENGTH, 1))
        left -= 1
        whole, spoilt = host.describe([image, degrade(image, kind, strength, rng)])
        if not torch.equal(whole.anchors, spoilt.anchors):
            raise UsageError(
                "A memory can be trained for detectors whose cells do not depend on the picture; "
                "this one proposes regions.",
                hint="Train it for a YOLOX.",
            )
        tensors[f"whole/{k}"], tensors[f"spoilt/{k}"] = whole.rows.half(), spoilt.rows.half()
    tensors |= {"anchors": whole.anchors, "levels": whole.levels}
    head = {"size": whole.size, "scale": whole.scale, "seconds": window.seconds}
    own = {k: v.contiguous() for k, v in tensors.items()}
    return bytes(save(own, {"retain": json.dumps(head)}))


@torch.no_grad()
def _best(host: Host, cells: Cells) -> float:
    return float(host.predict(cells.rows, cells).scores.max())


def aims(wanted: Predicted, cells: Cells, which: Tensor) -> Predicted:
    """What to want of the cells ``which``: what the whole frame gives there, or for the object
    they are on, where that is surer.

    Objects move by cells from frame to frame, and change between levels. A cell near the middle of
    an object that says where it is, in pixels of the input, is right, whichever of its neighbours
    would have said so.
    """
    scores = wanted.best
    sure = (scores > _SURE).nonzero()[:, 0]
    side = cells.anchors[which, 2:] - cells.anchors[which, :2]
    boxes = wanted.boxes[sure]
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    far = (cells.anchors[which, None, :2] + side[:, None] / 2 - middle).abs()
    near = (far <= torch.maximum(_CORE * size, side[:, None])).all(2)
    best = torch.where(near, scores[sure], -1.0)
    best = torch.cat((best, scores[which, None]), 1).argmax(1)
    at = torch.cat((sure, which))[torch.where(best < len(sure), best, best + _place(which))]
    return Predicted(wanted.objectness[at], wanted.classes[at], wanted.boxes[at])


def _place(which: Tensor) -> Tensor:
    return torch.arange(len(which), device=which.device)


def loss(got: Predicted, wanted: Predicted) -> Tensor:
    """How far ``got`` is from ``wanted``, the same cells each: objectness of all, classes where
    something is, boxes where the host is sure; over how much there is."""
    there = wanted.objectness.sigmoid()
    sure = there * wanted.classes.sigmoid().amax(1)
    objectness = F.binary_cross_entropy_with_logits(got.objectness, there, reduction="sum")
    classes = F.binary_cross_entropy_with_logits(
        got.classes, wanted.classes.sigmoid(), reduction="none"
    ).sum(1)
    some = sure > _SURE
    off = generalized_box_iou_loss(got.boxes[some], wanted.boxes[some])
    total: Tensor = objectness + (there * classes).sum() + _BOX_WEIGHT * (sure[some] * off).sum()
    return total / (sure.sum() + _FEW)
