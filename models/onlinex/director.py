"""The stable state: anchor tokens that a few pooled vectors of every frame may write to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retain.memory.evolve import evolve
from retain.models.onlinex.blocks import DualDecoder
from retain.models.onlinex.config import OnlineXConfig


class Director(nn.Module):
    """A pair of decoders between the state and the words of a frame. Dense tokens never come here:
    that is what keeps the state stable (``describe`` makes the words).

    With ``director="single"`` the words are the pose feature and all dense tokens, as in CUT3R.
    """

    def __init__(self, config: OnlineXConfig) -> None:
        super().__init__()
        c = self.config = config
        self.start = nn.Parameter(torch.randn(c.anchors, c.decoder_dim))
        self.pool = nn.Linear(c.dim, c.decoder_dim)
        self.kind = nn.Parameter(0.02 * torch.randn(5, c.decoder_dim))
        self.pose = nn.Linear(12, c.decoder_dim) if c.global_pose == "chained" else None
        self.decoder = DualDecoder(c.decoder_dim, c.decoder_heads, c.mlp, c.director_depth)

    def describe(
        self, pose: Tensor, relative: Tensor, before: Tensor, tokens: Tensor, chained: Tensor
    ) -> Tensor:
        """The words [B, W, D]: relative pose feature [B, D], then means of the relative features
        [B, N, D], of the previous frame's and of the encoder's tokens [B, N, dim], and where the
        chain of relative poses has come to (c2w ``chained`` [B, 4, 4]), if that is looked at."""
        words = [pose, relative.mean(1), before.mean(1), self.pool(tokens.mean(1))]
        if self.pose is not None:
            words.append(self.pose(chained[:, :3].flatten(1)))
        out = torch.stack(words, 1) + self.kind[: len(words)]
        if self.config.director == "single":
            out = torch.cat([out, relative], 1)
        return out

    def forward(
        self, anchors: Tensor, weight: Tensor, words: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """State ``anchors`` [B, A, D] of ``weight`` [B, A] and ``words`` [B, W, D]: the new state,
        its weight, and the words after the exchange, the global pose feature first."""
        said, proposed, agreement = self.decoder(words, anchors)
        state, weight_ = evolve(
            anchors.flatten(0, 1),
            proposed.flatten(0, 1),
            weight.flatten(),
            agreement.sigmoid().flatten(),
            self.config.policy,
        )
        return state.view_as(anchors), weight_.view_as(weight), said
