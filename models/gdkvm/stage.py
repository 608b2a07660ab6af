"""The stage that segments an echo stream: finds the fan, then a network that remembers.

Not for diagnosis. The first frames are held back until the fan is found in them together; from then
on every frame leaves with its ``masks``. All that the stage remembers lies in one hub of two
memories: ``delta``, the gated-delta matrix per object, and ``carry``, what the network takes from
frame to frame beside it, where the fan is, and the grey levels. A frame that the rule ``write``
keeps out is segmented from ``delta`` as it is; only ``carry`` follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from retain.datasets.echo.check import check_input
from retain.datasets.echo.normalise import Normaliser
from retain.datasets.echo.sector import NoSector, Sector, SectorFinder, region, to_grid
from retain.memory.base import refuse_made
from retain.memory.gate import WriteRule
from retain.pipeline.errors import StateError, UsageError
from retain.pipeline.frame import Frame
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks, Route
from retain.pipeline.stage import StatValue

if TYPE_CHECKING:
    from torch import Tensor

    from retain.memory.carry import Carry
    from retain.memory.gated_delta import GatedDelta
    from retain.memory.hub import Hub
    from retain.memory.layers.memory import LayerMemory
    from retain.models.gdkvm.network import Described, Out, StreamState

Structures = Literal["cavity", "all"]

HOLD = 8
"""Frames looked at together for the fan; a live stream starts so much later."""

REFUSED = ("no-sector", "colour-doppler", "not-grey")
"""Flags of pictures that get no mask: what the network would say of them means nothing."""

FLAGS = {"uncertain-mask": "The network is unsure where the cavity ends."}
"""Doubts this stage adds to those of ``datasets/echo/check.py``, and what they mean."""

_SURE = 0.75
"""Mean probability inside the cavity under which the mask is flagged."""


class Segment:
    """Adds ``masks`` to each packet; see the module's text.

    weights      shipped ones by name, or a file written by `retain train gdkvm`; empty: shipped
                 ones that know the structures
    structures   ``cavity`` or ``all`` that the weights know
    threads      of torch; results are the same bits for the same number only
    write        which frames enter ``delta``: a rule of ``memory/gate.py``
    resume       a state saved by ``save``; frames it has seen are passed over

    One stage segments one stream. A stream without a fan in it passes with empty masks flagged
    ``no-sector``; if there is none to its end, that is an error.
    """

    def __init__(
        self,
        weights: str = "",
        structures: Structures = "cavity",
        device: str = "auto",
        threads: int = 1,
        write: str = "every",
        resume: str = "",
    ) -> None:
        from retain.models.encoders.base import choose_device
        from retain.models.gdkvm.weights import load

        if structures not in ("cavity", "all"):
            raise UsageError(f"The structures to segment are cavity or all, not {structures!r}.")
        if threads < 1:
            raise UsageError(f"The option 'threads' of segment must be >= 1, not {threads}.")
        self._device = choose_device(device)
        self._weights = weights or ("mini" if structures == "cavity" else "mini-all")
        self._network = load(self._weights).to(self._device)
        self._config = self._network.config
        known = self._config.objects
        self._labels = known if structures == "all" else known[:1]
        self._threads = threads
        self._write = WriteRule.parse(write)
        self._resume = resume
        self._held: list[Packet] = []
        self._finder = SectorFinder()
        self._ever = False
        self._none: NoSector | None = None
        """Why there was no fan in the frames looked at last."""
        self._mind: _Mind | None = None
        self._seq = self._seen_to = -1
        if resume:
            from retain.memory.snapshot import load as check

            check(resume)  # a damaged file is refused at once

    def process(self, packet: Packet) -> Iterable[Packet]:
        frame = packet.frame
        refuse_made(frame)
        if self._resume:
            self._mind = self._recall(frame)
        if frame.seq <= self._seen_to:
            return
        if self._mind is not None and self._broken_off(frame):
            self._mind = None
        if self._mind is not None:
            yield self._segment(packet)
            return
        if self._held and self._held[0].frame.image.shape != frame.image.shape:
            yield from self._release(at_end=False)
        self._held.append(packet)
        self._finder.update(frame.image)
        if len(self._held) == HOLD:
            yield from self._release(at_end=False)

    def flush(self) -> Iterable[Packet]:
        """The held frames of a stream shorter than ``HOLD``. Raises NoSector when no frame of the
        whole stream showed a fan."""
        if self._held:
            yield from self._release(at_end=True)
        elif self._none is not None and not self._ever:
            raise self._none

    def _release(self, *, at_end: bool) -> Iterator[Packet]:
        """Look for the fan in what is held, then let it go, segmented or flagged."""
        held, finder = self._held, self._finder
        self._held, self._finder = [], SectorFinder()
        first = held[0].frame
        try:
            sector = finder.find(region(first.meta))
        except NoSector as error:
            self._none = error
            if at_end and not self._ever:
                raise
            for packet in held:
                self._seq = packet.frame.seq
                yield packet.plus(masks=self._nothing(packet.frame, ("no-sector",)))
            return
        self._ever = True
        self._mind = _Mind.fresh(self, first, sector)
        for packet in held:
            yield self._segment(packet)

    def _segment(self, packet: Packet) -> Packet:
        assert self._mind is not None
        frame = packet.frame
        gap = frame.seq - self._seq if self._seq >= 0 else 1
        route = packet.results.get("route")
        route = route if isinstance(route, Route) else None
        gate = self._write.gate(frame.seq, route, empty=self._mind.delta.empty(frame.stream))
        masks = self._mind.look(frame, max(1, gap), gate)
        self._seq = frame.seq
        return packet.plus(masks=masks)

    def _broken_off(self, frame: Frame) -> bool:
        """Whether what is remembered says nothing of ``frame``: after a cut, or a new size."""
        assert self._mind is not None
        if frame.stream != self._mind.stream:
            raise UsageError(
                f"One segment stage got frames of {self._mind.stream!r} and of {frame.stream!r}.",
                hint="Give each stream a segment stage of its own.",
            )
        return frame.discontinuity or self._mind.size != frame.image.shape[:2]

    def _nothing(self, frame: Frame, flags: tuple[str, ...]) -> Masks:
        """No mask, and why."""
        side = self._config.grid
        planes = np.zeros((len(self._labels), side, side), np.uint8)
        scale = max(frame.height, frame.width) / side
        place = np.array([[scale, 0, 0], [0, scale, 0]], np.float32)
        return Masks(planes, self._labels, place, flags)

    def _recall(self, frame: Frame) -> _Mind:
        path, self._resume = self._resume, ""
        mind = _Mind(self, frame.stream, frame.image.shape[:2])
        self._seen_to = self._seq = mind.hub.restore(path)
        mind.recall_place()
        self._ever = True
        return mind

    def save(self, path: str) -> None:
        """Write the memory to ``path``, atomically. Raises StateError while there is none."""
        if self._mind is None:
            raise StateError("There is no memory to save: no frame was segmented yet.")
        self._mind.hub.snapshot(path, self._seq)

    def load(self, path: str) -> None:
        """Continue from ``path``, passing over frames it has seen. One that does not fit is refused
        with a StateError when the first frame comes."""
        self._resume, self._mind = path, None
        self._held, self._finder = [], SectorFinder()

    def stats(self) -> Mapping[str, StatValue]:
        about: dict[str, StatValue] = {"weights": self._weights, "network": self._config.size}
        if self._mind is None:
            return {**about, "memory_bytes": 0}
        hub = self._mind.hub
        return {
            **about,
            "memory_bytes": hub.nbytes,
            "budget_bytes": hub.budget_bytes,
            "sector_confidence": self._mind.sector.confidence,
        }

    def close(self) -> None:
        pass


class _Mind:
    """What a stage knows of its stream: the hub of memories, and the fan's place as found."""

    def __init__(self, stage: Segment, stream: str, size: tuple[int, int]) -> None:
        from retain.memory.carry import Carry
        from retain.memory.gated_delta import GatedDelta, GatedDeltaConfig
        from retain.memory.hub import Hub
        from retain.memory.layers.memory import LayerMemory
        from retain.models.gdkvm.layers import digest

        self._stage, self._network, c = stage, stage._network, stage._config
        self.stream, self.size = stream, (int(size[0]), int(size[1]))
        n = len(c.objects)
        self.delta: GatedDelta | LayerMemory
        if self._network.layered is not None:
            self.delta = LayerMemory(
                self._network.layered.layer, stage._device, digest(self._network.gates())
            )
        else:
            self.delta = GatedDelta(
                GatedDeltaConfig(
                    objects=n,
                    key_dim=c.key_dim,
                    value_dim=c.value_dim,
                    heads=c.heads,
                    mode=c.mode,
                    rule=c.rule,
                ),
                self._network.gates(),
                device=stage._device,
            )
        state = self._network.start(1)
        shapes = {name: tuple(getattr(state, name)[0].shape) for name in _CARRIED}
        self.carry: Carry = Carry({**shapes, "levels": (3,), "place": (9,)})
        self.hub: Hub = Hub(self.delta.min_bytes + self.carry.min_bytes, stream)
        self.hub.add("delta", self.delta)
        self.hub.add("carry", self.carry)
        self._levels = Normaliser()
        self.sector: Sector

    @staticmethod
    def fresh(stage: Segment, frame: Frame, sector: Sector) -> _Mind:
        """Before its first frame."""
        import torch

        mind = _Mind(stage, frame.stream, frame.image.shape[:2])
        numbers = (*sector.apex, sector.radius, sector.left, sector.right, sector.confidence)
        place = torch.tensor([*numbers, sector.inner, *mind.size], dtype=torch.float32)
        mind.carry.write(frame.stream, {"place": place})
        mind.recall_place()
        return mind

    def recall_place(self) -> None:
        """Take the fan and the grey levels from the memory: float32, as a restored one has them."""
        kept = self.carry.read(self.stream, None)
        x, y, radius, left, right, confidence, inner, height, width = kept["place"].tolist()
        if (int(height), int(width)) != self.size:
            raise StateError(
                f"The state was saved for frames of {int(width)}x{int(height)} pixels, "
                f"these have {self.size[1]}x{self.size[0]}."
            )
        self.sector = Sector((x, y), radius, left, right, confidence, inner)
        self._levels.restore(kept["levels"].cpu().numpy())

    def look(self, frame: Frame, gap: int, gate: float) -> Masks:
        """Segment one frame and remember it as far as ``gate`` says. ``gap``: frames since the
        last one."""
        import torch

        from retain.models.curvestream import torch_threads

        flags = check_input(frame.image, self.sector)
        if refused := [flag for flag in flags if flag in REFUSED]:
            return self._stage._nothing(frame, (*refused, *(f for f in flags if f not in refused)))
        grid = self._levels(to_grid(frame.image, self.sector, self._stage._config.grid))
        with torch.inference_mode(), torch_threads(self._stage._threads):
            picture = torch.from_numpy((grid - 0.5) / 0.5)[None, None].to(self._stage._device)
            out = self._step(self._network.describe(picture), gap, gate)
            planes = out.logits[0].softmax(dim=0).cpu().numpy()
        kept, sure = one_cavity(planes)
        if sure < _SURE:
            flags = (*flags, "uncertain-mask")
        labels = self._stage._labels
        quantised = np.rint(255 * kept[1 : 1 + len(labels)]).astype(np.uint8)
        place = self.sector.to_frame(self._stage._config.grid)
        return Masks(quantised, labels, place, flags)

    def _step(self, seen: Described, gap: int, gate: float) -> Out:
        """One step of the network, its memory being the hub's."""
        import torch

        network, stream, state = self._network, self.stream, self._state()
        # The sensory map, which the answer reads, takes the value in, too.
        value, sensory = network.write(seen, state, first=self.delta.empty(stream))
        if gate > 0:
            self._write(seen.key, value, gap + self.delta.skipped(stream), gate)
        else:
            self.delta.skip(stream, gap)
        out, after = network.answer(seen, state, value, sensory, self._read(seen.key))
        carried: dict[str, Tensor] = {name: getattr(after, name)[0] for name in _CARRIED}
        levels = torch.from_numpy(self._levels.state)
        self.carry.write(stream, {**carried, "levels": levels})
        return out

    def _write(self, key: Tensor, value: Tensor, gap: int, gate: float) -> None:
        """``gap``: frames since the last write."""
        import torch

        from retain.memory.gated_delta import DeltaWrite, GatedDelta
        from retain.memory.layers.memory import FrameWrite
        from retain.models.gdkvm.layers import frame

        if isinstance(self.delta, GatedDelta):
            self.delta.write(self.stream, DeltaWrite(key[0], value[0], float(gap)), gate)
            return
        dt = torch.tensor([float(gap)], device=value.device)
        new = frame(key, value, self._network.gates(), dt)
        self.delta.write(self.stream, FrameWrite(new.k[0], new.v[0], new.beta[0], new.g[0]), gate)

    def _read(self, key: Tensor) -> Tensor:
        """What the cells of ``key`` [1, Ck, P] remember: [1, N, Cv, P]."""
        import torch

        from retain.memory.gated_delta import GatedDelta
        from retain.models.gdkvm.layers import query

        if isinstance(self.delta, GatedDelta):
            return self.delta.read(self.stream, key[0])[None]
        layered = self._network.layered
        assert layered is not None
        out = self.delta.read(self.stream, query(key, layered.layer.heads)[0])
        read = layered.readout(out[None])
        return read if layered.config.rule != "none" else torch.zeros_like(read)

    def _state(self) -> StreamState:
        from retain.models.gdkvm.network import StreamState

        kept = self.carry.read(self.stream, None)
        carried = {name: kept[name][None].to(self._stage._device) for name in _CARRIED}
        return StreamState(delta=self._held(), **carried)

    def _held(self) -> Tensor:
        """The memory as the network has it in ``StreamState.delta``."""
        held = self.delta.state(self.stream)
        if isinstance(held, dict):
            layered = self._network.layered
            assert layered is not None
            return layered.pack(held)
        return held[None]


_CARRIED = ("sensory", "mask", "pixel", "summaries")
"""What of a ``StreamState`` lies in the carry memory."""


def one_cavity(planes: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Keep the cavity (plane 1) in one piece without holes, and say how sure it is.

    ``planes`` float32 [N + 1, h, w], background first, summing to 1. Anatomy: a ventricle is one
    chamber, and what lies inside it (papillary muscles) belongs to it. Returns the planes and the
    mean probability inside the cavity, 0 when there is none.
    """
    cavity = (planes.argmax(axis=0) == 1).astype(np.uint8)
    number, parts, sizes, _ = cv2.connectedComponentsWithStats(cavity, connectivity=4)
    if number < 2:
        return planes, 0.0
    largest = (parts == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    outline, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(largest), outline, -1, 1, cv2.FILLED)
    near = cv2.dilate(filled, np.ones((5, 5), np.uint8))
    out = planes.copy()
    out[1] *= near
    out[0] += planes[1] - out[1]
    hole = (filled == 1) & (largest == 0)
    out[:, hole] = 0
    out[1, hole] = 1
    return out, float(planes[1][filled == 1].mean())
