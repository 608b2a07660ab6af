"""OnlineX (arXiv 2603.02134), from its description: no code of it is public. docs/onlinex.md."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from retain.models.onlinex.config import OnlineXConfig
from retain.models.onlinex.director import Director
from retain.models.onlinex.encoder import Encoder, slopes
from retain.models.onlinex.fusion import Fused, Fusion, fuse
from retain.models.onlinex.heads import MapHead, PoseHead, Raw, Readout, distance, point
from retain.models.onlinex.matching import Match, Matches
from retain.models.onlinex.relative import RelativeExtractor
from retain.models.onlinex.types import (
    Maps,
    Out,
    State,
    corrected,
    inverse,
    multiply,
    quaternion,
    transform,
    upright,
)

__all__ = ["Maps", "OnlineX", "Out", "State"]


class OnlineX(nn.Module):
    """One picture and a state of fixed size in; poses, Gaussians and the next state out."""

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.encoder = Encoder(c)
        self.relative = RelativeExtractor(c)
        self.matches = Matches(c) if c.matched else None
        self.relative_pose = PoseHead(c)
        self.relative_maps = MapHead(c, 2 * c.decoder_dim)
        self.director = self.global_pose = self.readout = self.global_maps = None
        if c.director != "none":
            self.director = Director(c)
            self.global_pose = PoseHead(c)
            if c.transform == "implicit":
                self.readout = Readout(c)
                self.global_maps = MapHead(c, c.decoder_dim, corrects=c.implicit == "corrected")
        self.fusion = Fusion(c) if c.fusion else None

    def begin(self, batch: int = 1) -> State:
        """The state before any frame."""
        c, like = self.config, self.encoder.rays.weight
        start = like.new_zeros(c.anchors, c.decoder_dim)
        if self.director is not None:
            start = self.director.start
        return State(
            anchors=start.expand(batch, -1, -1),
            weight=like.new_zeros(batch, c.anchors),
            previous=like.new_zeros(batch, c.tokens, c.dim),
            picture=like.new_zeros(batch, 3, c.side, c.side),
            pose=torch.eye(4, dtype=like.dtype, device=like.device).expand(batch, 4, 4),
        )

    def step(self, image: Tensor, K: Tensor, state: State) -> tuple[Out, State]:
        """``image`` f32[B, 3, S, S] in 0..1, ``K`` f32[B, 3, 3] in pixels. The first frame has no
        other: it is its own previous one, and both its poses are the identity."""
        c, first = self.config, state.step == 0
        tokens = self.encoder(image, K)
        previous, picture = (tokens, image) if first else (state.previous, state.picture)
        found = None if self.matches is None else self.matches(image, picture)
        extra = None if found is None else found.tokens
        pose, dense, before = self.relative(tokens, previous, image, picture, extra)
        raw = self.relative_maps(torch.cat([dense, before], -1), image)
        step = state.pose if first else self._moved(pose, found, raw, K)
        stride = c.head_stride
        rays = slopes(K, c.side // stride, stride)
        local = self._local(raw, rays, inverse(step))
        size = local[..., 2].abs() * stride / K[:, 0, 0, None]
        colours = functional.avg_pool2d(image, stride).flatten(2).transpose(1, 2)
        maps = raw.maps(local, size, colours)

        chained = upright(state.pose @ step)
        here, anchors, weight, words, dense = self._direct(
            state, chained, pose, dense, before, tokens
        )
        if first:
            here = state.pose
        global_, features = maps.moved(here), raw.features
        if self.readout is not None and self.global_maps is not None:
            said = self.global_maps(self.readout(dense, words), image)
            if c.implicit == "published":
                features = said.features
            if not first:  # the first camera's maps are where they belong
                global_ = self._implicit(said, raw, local, here, size, colours)
        out = Out(maps.moved(step), global_, step, here, features, local[..., 2], size)
        return out, State(anchors, weight, tokens, image, here, state.step + 1)

    def fuse(self, known: Fused | None, out: Out, budget: int | None = None) -> Fused:
        """The map with what ``out`` adds; without fusion all is kept as it came."""
        cell = self.config.cell if self.config.fusion else 0.0
        return fuse(known, out.global_, out.features, cell, size=out.size, budget=budget)

    def scene(self, known: Fused) -> Maps:
        """The map as Gaussians [B, m, ...] in the first camera's frame; see ``Fused.maps``."""
        maps: Maps = known.maps if self.fusion is None else self.fusion(known)
        return maps

    def _moved(self, pose: Tensor, found: Match | None, raw: Raw, K: Tensor) -> Tensor:
        """Relative pose [B, 4, 4]: of the head, or as it corrects what matches and depths say."""
        said: Tensor = self.relative_pose(pose)
        if self.matches is None or found is None:
            return said
        depth = distance(raw.place[..., 0], self.config.far)
        return corrected(self.matches.align(found, depth, K), said)

    def _local(self, raw: Raw, rays: Tensor, back: Tensor) -> Tensor:
        """Centres [B, n, 3] in camera t. Free points are said in camera t - 1 and come ``back``."""
        c = self.config
        if c.centre == "xyz":
            return transform(back, point(raw.place))
        depth = distance(raw.place[..., :1], c.far)
        return torch.cat([rays * depth, depth], -1)

    def _direct(
        self, state: State, chained: Tensor, pose: Tensor, dense: Tensor, before: Tensor,
        tokens: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Global pose, new anchors and their weight, words after the exchange, dense features."""
        if self.director is None or self.global_pose is None:
            return chained, state.anchors, state.weight, pose[:, None], dense
        words = self.director.describe(pose, dense, before, tokens, chained)
        anchors, weight, words = self.director(state.anchors, state.weight, words)
        if self.config.director == "single":
            count = words.shape[1] - dense.shape[1]
            words, dense = words[:, :count], words[:, count:]
        here = self.global_pose(words[:, 0])
        if self.config.global_pose == "chained":
            here = corrected(chained, here)
        return here, anchors, weight, words, dense

    def _implicit(
        self, said: Raw, raw: Raw, local: Tensor, here: Tensor, size: Tensor, colours: Tensor
    ) -> Maps:
        """Global maps as the head says them, or the explicit ones as it corrects them."""
        if self.config.implicit == "published":
            return said.maps(point(said.place), size, colours)
        depth = local[..., 2:].detach()
        both = replace(raw, rest=raw.rest + said.rest)
        maps = both.maps(transform(here, local) + depth * said.place, size, colours)
        turn = quaternion(here[:, :3, :3])[:, None]
        return replace(maps, quats=multiply(turn, maps.quats))
