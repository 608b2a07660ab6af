"""GDKVM (arXiv 2512.10252): a function of a picture and a fixed-size state, one picture at a time.

    maps, key, pixel = describe(pictures)           any number of pictures at once
    logits, state'   = step(described, state)       in order of time

The state holds, per object, the gated-delta matrix, a sensory map, the last mask and (base size) a
few summed queries: the same bytes after a minute as after an hour. Nothing is prompted; the first
mask is empty. Deviations from the public code, each with its switch in ``GdkvmConfig``: the value
encoder gets this picture's pixel feature, not the last one's (``pixfeat_lag``); the auxiliary loss
is the whole batch's (``aux_last_only``); object summaries fade instead of summing for ever
(``summary_decay``); the write is divided by the keys' mass (``mode``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.kernels.gated_delta.op import frame as memory_frame
from retain.kernels.gated_delta.reference import Gates, read, start
from retain.models.gdkvm.blocks import (
    Fuse,
    Gather,
    Kpff,
    SensoryUpdate,
    UpBlock,
    aggregate,
    apart,
    places,
)
from retain.models.gdkvm.config import GdkvmConfig
from retain.models.gdkvm.encoders import (
    Maps,
    MiniEncoder,
    MiniMaskEncoder,
    ResNetEncoder,
    ResNetMaskEncoder,
    with_masks,
)

PLACE = 16
"""Length of the code of a place."""


class Described(NamedTuple):
    """What of a picture does not depend on the past."""

    picture: Tensor
    """[B, 1, H, W]."""
    maps: Maps
    key: Tensor
    """[B, Ck, cells²], every column a probability vector."""
    pixel: Tensor
    """[B, P, cells, cells]."""


class StreamState(NamedTuple):
    """What B streams remember of N objects. All float32."""

    delta: Tensor
    """[B, N, Ck, Cv]; of another ``layer`` [B, N, floats]."""
    sensory: Tensor
    """[B, N, S, cells, cells]."""
    mask: Tensor
    """[B, N, H, W], probabilities."""
    pixel: Tensor
    """[B, P, cells, cells], the last picture's pixel feature; P = 0 without ``pixfeat_lag``."""
    summaries: Tensor
    """[B, N, Q, E + 1], sums and areas of the object transformer; Q = 0 in the mini size."""


class Out(NamedTuple):
    logits: Tensor
    """[B, N + 1, H, W], background first; a softmax over them is the segmentation."""
    aux: tuple[Tensor, ...]
    """Coarse logits of the auxiliary losses, each [B, N + 1, h, w]."""


class DeltaGates(nn.Module):
    """Parameters of the two gates, initialised as in Mamba-2 and Gated DeltaNet."""

    def __init__(self, value_dim: int, heads: int) -> None:
        super().__init__()
        self.beta = nn.Linear(value_dim, heads, bias=False)
        self.alpha = nn.Linear(value_dim, heads, bias=False)
        self.a_log = nn.Parameter(torch.empty(heads).uniform_(1e-3, 16).log())
        low, high = torch.tensor([1e-3, 1e-1]).log()
        dt = torch.exp(torch.rand(heads) * (high - low) + low).clamp(min=1e-4)
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))

    def forward(self) -> Gates:
        return Gates(self.beta.weight, self.alpha.weight, self.a_log, self.dt_bias)


class Gdkvm(nn.Module):
    """See the module's text."""

    def __init__(self, config: GdkvmConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or GdkvmConfig()
        mini = c.size == "mini"
        self.encoder = MiniEncoder() if mini else ResNetEncoder()
        self.mask_encoder = MiniMaskEncoder() if mini else ResNetMaskEncoder()
        coarse, middle, fine = self.encoder.channels
        self.to_pixel = nn.Conv2d(coarse, c.pixel_dim, 1)
        self.to_key = nn.Sequential(
            nn.Conv2d(coarse, c.pixel_dim, 1), nn.Conv2d(c.pixel_dim, c.key_dim, 3, 1, 1)
        )
        self.kpff = Kpff(c.pixel_dim, c.key_dim) if c.kpff else None
        self.to_place = nn.Conv2d(PLACE, c.key_dim, 1, bias=False) if c.placed_keys else None
        self.object = nn.Parameter(0.02 * torch.randn(len(c.objects), c.value_dim))
        depth = 1 if mini else 2
        self.value = Fuse(c.pixel_dim, self.mask_encoder.channels, c.value_dim, depth)
        self.gates = DeltaGates(c.value_dim, c.heads)
        self.layered = None
        if c.layer != "gated_delta":
            from retain.models.gdkvm.layers import ObjectLayer

            self.layered = ObjectLayer(c)
        self.context = nn.Conv2d(c.sensory_dim + 2, c.value_dim, 1)
        self.readout = Fuse(c.pixel_dim, c.value_dim, c.value_dim, depth)
        self.transformer = None
        if not mini:
            from retain.models.gdkvm.transformer import ObjectTransformer

            self.transformer = ObjectTransformer(c.value_dim, c.summary_decay)
        widths = (24, 12) if mini else (128, 128)
        self.up = nn.ModuleList(
            [UpBlock(c.value_dim, middle, widths[0]), UpBlock(widths[0], fine, widths[1])]
        )
        self.to_logit = nn.Conv2d(widths[1], 1, 3, 1, 1)
        self.sense_value = SensoryUpdate(c.value_dim, c.sensory_dim)
        # The mini size tells the sensory map of the coarsest map and the logit alone.
        self.gather = None if mini else Gather((c.value_dim, widths[0], widths[1] + 1), c.value_dim)
        self.sense_mask = SensoryUpdate(c.value_dim + int(mini), c.sensory_dim)
        self.aux_sensory = nn.Conv2d(c.sensory_dim, 1, 1)

    @property
    def summary_shape(self) -> tuple[int, int]:
        return (0, 0) if self.transformer is None else self.transformer.summary_shape

    def start(self, batch: int, device: torch.device | str = "cpu") -> StreamState:
        """The state before the first picture."""
        c = self.config
        number, side = len(c.objects), c.cells
        held = (c.key_dim, c.value_dim) if self.layered is None else (self.layered.floats,)
        return StreamState(
            torch.zeros(batch, number, *held, device=device),
            torch.zeros(batch, number, c.sensory_dim, side, side, device=device),
            torch.zeros(batch, number, c.grid, c.grid, device=device),
            torch.zeros(batch, c.pixel_dim * c.pixfeat_lag, side, side, device=device),
            torch.zeros(batch, number, *self.summary_shape, device=device),
        )

    def describe(self, pictures: Tensor) -> Described:
        """pictures [B, 1, H, W] in [-1, 1]."""
        maps: Maps = self.encoder(pictures)
        pixel = self.to_pixel(maps.coarse)
        key = self.to_key(maps.coarse)
        if self.kpff is not None:
            key = self.kpff(key, pixel)
        if self.to_place is not None:
            side = self.config.cells
            code = places(side, side, PLACE, key.device).T.reshape(1, PLACE, side, side)
            key = key + self.to_place(code)
        return Described(pictures, maps, key.float().softmax(dim=1).flatten(2), pixel)

    def step(
        self, seen: Described, state: StreamState, *, first: bool, dt: Tensor | None = None
    ) -> tuple[Out, StreamState]:
        """One picture of each stream. ``first``: these streams have no past. ``dt`` [B]: frames
        since the last picture, 1 when nothing was left out."""
        c = self.config
        if not c.carry:
            nothing = torch.zeros_like(state.sensory), torch.zeros_like(state.mask)
            state = state._replace(sensory=nothing[0], mask=nothing[1])
        value, sensory = self.write(seen, state, first=first)
        with torch.autocast(value.device.type, enabled=False):
            if self.layered is not None:
                held = torch.zeros_like(state.delta) if first else state.delta
                delta, memory = self.layered(held, seen.key, value, self.gates(), dt)
                memory = memory if c.rule != "none" else torch.zeros_like(value)
            elif first:
                delta = start(seen.key, value, mode=c.mode)
                memory = read(delta, seen.key) if c.rule != "none" else torch.zeros_like(value)
            else:
                delta, memory = memory_frame(
                    state.delta, seen.key, value, self.gates(), mode=c.mode, rule=c.rule, dt=dt
                )
        out, after = self.answer(seen, state, value, sensory, memory)
        return out, after._replace(delta=delta)

    def write(self, seen: Described, state: StreamState, *, first: bool) -> tuple[Tensor, Tensor]:
        """What the memory is given for this picture, float32 [B, N, Cv, cells²], and the sensory
        map after it."""
        batch, number = state.mask.shape[:2]
        own = apart(self.mask_encoder(with_masks(seen.picture, state.mask)), batch, number)
        lagged = self.config.pixfeat_lag and not first
        value = self.value(state.pixel if lagged else seen.pixel, own)
        value = value + self.object[None, :, :, None, None]
        return value.float().flatten(3), self.sense_value(value, state.sensory)

    def answer(
        self, seen: Described, state: StreamState, value: Tensor, sensory: Tensor, memory: Tensor
    ) -> tuple[Out, StreamState]:
        """The segmentation from what the memory read, float32 [B, N, Cv, cells²], and the state to
        carry on (``delta`` as it was)."""
        side = self.config.cells
        x = self._fuse(seen, state, memory.view(*memory.shape[:3], side, side), sensory)
        summaries = state.summaries
        aux: tuple[Tensor, ...] = ()
        if self.transformer is not None:
            x, aux = self.transformer(x, summaries)
        logit, decoded = self._decode(x, seen.maps)
        sensory = self.sense_mask(decoded, sensory)
        hint = self.aux_sensory(sensory.flatten(0, 1)).view(*logit.shape[:2], side, side)
        size = (self.config.grid, self.config.grid)
        logits = F.interpolate(aggregate(logit), size, mode="bilinear", align_corners=False)
        mask = logits.softmax(dim=1)[:, 1:]
        if self.transformer is not None:
            values = value.view(*value.shape[:3], side, side)
            summaries = self.transformer.summarise(values, mask, summaries)
        pixel = seen.pixel.float() if self.config.pixfeat_lag else state.pixel
        after = StreamState(state.delta, sensory, mask, pixel, summaries)
        return Out(logits, (*aux, aggregate(hint))), after

    def forward(self, clip: Tensor, mask_keep: Tensor | None = None) -> list[Out]:
        """A clip [B, T, 1, H, W] from an empty state; one ``Out`` per frame. ``mask_keep`` [B, T],
        1 or 0, multiplies the mask fed back to each frame (a training regulariser)."""
        batch, length = clip.shape[:2]
        seen = self.describe(clip.flatten(0, 1))
        state = self.start(batch, clip.device)
        outs = []
        for t in range(length):
            if mask_keep is not None:
                state = state._replace(mask=state.mask * mask_keep[:, t, None, None, None])
            out, state = self.step(pick(seen, t, batch, length), state, first=t == 0)
            outs.append(out)
        return outs

    def _fuse(self, seen: Described, state: StreamState, memory: Tensor, sensory: Tensor) -> Tensor:
        """Read-out, sensory map and last masks, then the picture: [B, N, Cv, h, w]."""
        mask = F.interpolate(state.mask, size=memory.shape[-2:], mode="area").unsqueeze(2)
        others = mask.sum(dim=1, keepdim=True) - mask
        context = torch.cat([sensory, mask, others], dim=2)
        batch, number = memory.shape[:2]
        extra = apart(self.context(context.flatten(0, 1)), batch, number)
        named = memory + extra + self.object[None, :, :, None, None]
        out: Tensor = self.readout(seen.pixel, named)
        return out

    def _decode(self, x: Tensor, maps: Maps) -> tuple[Tensor, Tensor]:
        """Logits [B, N, 4 cells, 4 cells], and what of the way there the sensory map is told,
        [B, N, C, cells, cells]."""
        middle = self.up[0](x, maps.middle)
        fine = self.up[1](middle, maps.fine)
        logit: Tensor = self.to_logit(F.relu(fine.flatten(0, 1)))
        logit = logit.view(*x.shape[:2], *logit.shape[-2:])
        if self.gather is not None:
            return logit, self.gather((x, middle, torch.cat([fine, logit.unsqueeze(2)], dim=2)))
        small = F.interpolate(logit, size=x.shape[-2:], mode="area").unsqueeze(2)
        return logit, torch.cat([x, small], dim=2)


class PerFrame(Gdkvm):
    """The same network without a past: what memory is compared with."""

    def step(
        self, seen: Described, state: StreamState, *, first: bool, dt: Tensor | None = None
    ) -> tuple[Out, StreamState]:
        return super().step(seen, self.start(len(seen.picture), seen.picture.device), first=True)


def pick(seen: Described, t: int, batch: int, length: int) -> Described:
    """Frame ``t`` of a clip whose B x T pictures were described at once."""

    def at(x: Tensor) -> Tensor:
        return apart(x, batch, length)[:, t]

    return Described(at(seen.picture), Maps(*map(at, seen.maps)), at(seen.key), at(seen.pixel))
