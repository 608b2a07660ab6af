"""One stream's object: sees a frame, says where the object is, remembers, learns.

All that goes on from frame to frame lies in one hub: ``examples`` (pairs of features and masks),
``heads`` (parameters, moments, gates, the scale of the features) and ``trail`` (the last mask and
picture). Restored, it goes on bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retain.memory.examples import Example, ExampleConfig, ExampleMemory
from retain.memory.hub import Hub
from retain.memory.notes import Notes
from retain.models.object import features, head, learn, track
from retain.models.object.learn import Learned, Recipe
from retain.models.object.track import Planes, Trust
from retain.models.object.views import views
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Image

if TYPE_CHECKING:
    from torch import Tensor

    from retain.models.object.features import Features

Label = NDArray[np.uint8]

LEAST = 6
"""Examples without which nothing can be learned: those of the first frame, and some."""


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How an object is tracked. Raises UsageError for what cannot work."""

    recipe: Recipe = field(default_factory=Recipe)
    trust: Trust = field(default_factory=Trust)
    side: int = 480
    """Pixels of the shorter side of the working picture."""
    examples: int = 32
    """N, at most; fewer where the budget is small."""
    budget_bytes: int = 80_000_000
    seed: int = 0
    threads: int = 1
    """Of torch; results are the same bits for the same number only."""

    def __post_init__(self) -> None:
        if not 64 <= self.side <= 1080:
            raise UsageError(
                f"The side of the working picture is from 64 to 1080, not {self.side}."
            )
        if self.examples < LEAST or self.threads < 1:
            raise UsageError(f"An object needs at least {LEAST} examples and one thread.")


class Tracker:
    """Tracks ``objects`` objects through frames of ``size`` (height, width) of one stream.

    ``begin`` with the first frame and its masks, or ``hub.restore``; then ``look`` at each frame
    after it. Raises UsageError when the budget cannot hold what is needed.
    """

    def __init__(
        self,
        stream: str,
        objects: int,
        size: tuple[int, int],
        options: TrackerOptions,
        extract: Features,
    ) -> None:
        self.stream, self.objects, self.options = stream, objects, options
        self.size = features.working_size(*size, options.side)
        self._extract = extract
        told = repr((options.recipe, options.trust, options.side, options.seed)).encode()
        self._made = np.frombuffer(hashlib.sha256(told).digest()[:16], np.uint8)
        maps = features.shapes(self.size)
        self._grid = maps["x4"][1], maps["x4"][2]
        config = ExampleConfig(
            maps,
            (objects, *self._grid),
            digest=maps["x16"][1] * maps["x16"][2],
            capacity=options.examples,
            least=LEAST,
        )
        self.examples = ExampleMemory(config, extract.device)
        self.heads = Notes(_bytes(_blank_heads(objects, options.recipe)))
        self.trail = Notes(_bytes(_blank_trail(objects, self._grid, self.size)))
        self.hub = Hub(options.budget_bytes, stream)
        for name in ("heads", "trail", "examples"):
            self.hub.add(name, getattr(self, name), weight=float(name == "examples"))

    def restore(self, path: str) -> int:
        """Go on from a snapshot of the hub, and return the number of the last frame it has seen.
        Raises StateError for one that is damaged or was made with other options."""
        seq = self.hub.restore(path)
        left = self.trail.read(self.stream)
        if not np.array_equal(left.get("made", ()), self._made):
            raise StateError(
                f"{path} was saved by a tracker with other options, so it would go on otherwise.",
                hint="Resume with the options of the first run.",
            )
        return seq

    def begin(self, image: Image, label: Label, seq: int, seconds: float) -> Planes:
        """Take in the first frame and who is where in it: ``label`` uint8 [H, W] of its size, 0 or
        the number of an object. Returns the masks as ``look`` does."""
        picture = features.working_picture(image, self.size)
        masks = np.stack([label == k + 1 for k in range(self.objects)]).astype(np.float32)
        small = track.coarse(masks, self._grid)
        maps = self._extract(picture)
        scale = _scale(maps)
        self._keep(_scaled(maps, scale), small, seq, seconds, pinned=True)
        for other, planes in views(picture, track.coarse(masks, self.size)):
            seen = _scaled(self._extract(other), scale)
            self._keep(seen, track.coarse(planes, self._grid), seq, seconds, pinned=True)
        learned = learn.untaught(self.objects, self.options.recipe, self.options.seed)
        learned = learn.teach_first(learned, self.examples.read(self.stream), self.options.recipe)
        self.heads.write(self.stream, _heads_of(learned, scale))
        self._leave(small, track.grey_of(picture), 0)
        return track.coarse(masks, (self.size[0] // 2, self.size[1] // 2))

    def look(self, image: Image, seq: int, seconds: float, *, cut: bool = False) -> Planes:
        """Masks of the next frame, float32 [objects, h, w] at half the working picture's size.

        ``cut``: nothing of the last frame says where things are in this one.
        """
        picture = features.working_picture(image, self.size)
        learned, scale = _learned_from(self.heads.read(self.stream))
        left = self.trail.read(self.stream)
        grey, count = track.grey_of(picture), int(left["count"][0]) + 1
        maps = _scaled(self._extract(picture), scale)
        seen = head.logits(learned.theta, maps).cpu().numpy()
        prior = None if cut else track.moved(left["masks"], left["grey"], grey)
        planes = track.fused(seen, prior, self.options.trust)
        planes = track.shared(track.refined(planes, picture, self.options.trust))
        small = track.coarse(planes, self._grid)
        self._leave(small, grey, count)
        recipe = self.options.recipe
        if recipe.mode != "none" and count % recipe.every == 0:
            small = believed(small, head.logits(learned.given, maps).cpu().numpy())
            if not small.any():
                return planes
            self._keep(maps, small, seq, seconds)
            held = self.examples.read(self.stream)
            learned = learn.teach(learned, held, features.digest(maps), recipe)
            self.heads.write(self.stream, _heads_of(learned, scale))
        return planes

    def _keep(
        self,
        maps: Mapping[str, Tensor],
        planes: Planes,
        seq: int,
        seconds: float,
        pinned: bool = False,
    ) -> None:
        import torch

        example = Example(
            seq,
            seconds,
            {name: x[0] for name, x in maps.items()},
            torch.from_numpy(planes),
            features.digest(maps),
            pinned=pinned,
        )
        self.examples.write(self.stream, example)

    def _leave(self, planes: Planes, grey: track.Grey, count: int) -> None:
        trail: dict[str, np.ndarray] = {
            "masks": planes,
            "grey": grey,
            "count": np.array([count], np.int64),
            "made": self._made,
        }
        self.trail.write(self.stream, trail)


def believed(planes: Planes, first: Planes) -> Planes:
    """``planes`` [objects, h, w] as they may be learnt from.

    Where the head of the first frame, of log odds ``first``, sees the object and the mask does
    not, nobody knows (0.5): learning that it is ground would make a mask that shrank by mistake
    shrink on. A plane that shows no object becomes empty, which teaches nothing either.
    """
    out = np.where((planes < learn.SHOWN) & (first > 0), np.float32(0.5), planes)
    out[planes.max(axis=(1, 2)) < learn.SHOWN] = 0
    return out


def _scale(maps: Mapping[str, Tensor]) -> Tensor:
    """float32 [2, channels]: mean and deviation of the first frame's maps, to bring them all to
    one scale."""
    import torch

    mean = torch.cat([x[0].mean((1, 2)) for x in maps.values()])
    spread = torch.cat([x[0].flatten(1).std(1) for x in maps.values()])
    return torch.stack([mean, spread + 1e-3])


def _scaled(maps: Mapping[str, Tensor], scale: Tensor) -> dict[str, Tensor]:
    out, at = {}, 0
    for name, x in maps.items():
        mean, spread = scale[:, at : at + x.shape[1]].view(2, 1, -1, 1, 1)
        out[name] = (x - mean) / spread
        at += x.shape[1]
    return out


def _heads_of(learned: Learned, scale: Tensor) -> dict[str, np.ndarray]:
    """As the memory keeps them."""
    tensors = {
        "theta": learned.theta,
        "first": learned.first,
        "second": learned.second,
        "given": learned.given,
        "scale": scale,
    }
    return {
        **{name: x.cpu().numpy() for name, x in tensors.items()},
        "count": np.array([learned.count], np.int64),
        "gates": learned.gates,
    }


def _learned_from(kept: Mapping[str, np.ndarray]) -> tuple[Learned, Tensor]:
    import torch

    theta, first, second, given, scale = (
        torch.from_numpy(kept[name]) for name in ("theta", "first", "second", "given", "scale")
    )
    return Learned(theta, first, second, int(kept["count"][0]), kept["gates"], given), scale


def _blank_heads(objects: int, recipe: Recipe) -> dict[str, np.ndarray]:
    import torch

    scale = torch.zeros(2, sum(features.CHANNELS.values()))
    return _heads_of(learn.untaught(objects, recipe), scale)


def _blank_trail(
    objects: int, grid: tuple[int, ...], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    return {
        "masks": np.zeros((objects, *grid), np.float32),
        "grey": np.zeros((size[0] // 2, size[1] // 2), np.uint8),
        "count": np.array([0], np.int64),
        "made": np.zeros(16, np.uint8),
    }


def _bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())
