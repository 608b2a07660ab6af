"""What the page of `retain segment` knows: outlines, the area curve and the beats. Bounded."""

from __future__ import annotations

import cv2

from retain.apps.page.section import Json, Recent, Section
from retain.apps.segment.words import NOTICE, doubts
from retain.models.gdkvm.place import masks_on_frame, outlines
from retain.pipeline.frame import Image
from retain.pipeline.packet import Packet
from retain.pipeline.results import Masks, Vitals

SMOOTH = 0.4
"""Pixels by which a drawn outline may leave the true one; a third of the points remain."""

DOUBT_S = 3.0
"""A doubt is shown for so long after the last frame that raised it."""


def about() -> Json:
    """What is fixed, beside what every page says of itself."""
    return {
        "notice": NOTICE,
        "doing": "Segmenting. The left ventricle is outlined in every frame; beats are measured.",
    }


def describe(packet: Packet, preview: Image) -> Json:
    """Outlines in pixels of the preview, and what stands under it."""
    masks, vitals = packet.results.get("masks"), packet.results.get("vitals")
    told: Json = {}
    if isinstance(masks, Masks):
        size = packet.frame.height, packet.frame.width
        label = masks_on_frame(masks, preview.shape[0], preview.shape[1], frame=size)
        told["outlines"] = [
            {"label": name, "points": cv2.approxPolyDP(line, SMOOTH, True)[:, 0].tolist()}
            for value, name in enumerate(masks.labels, 1)
            for line in outlines(label, value)
        ]
    if isinstance(vitals, Vitals):
        told |= {"area": vitals.area, "volume": vitals.volume, "unit": vitals.unit}
        told["doubts"] = doubts(vitals.flags)
    return told


class Curve(Recent):
    """The cavity's last sizes: (seconds, seq, area, volume, whether the frame is doubtful)."""

    name = "curve"

    def observe(self, packet: Packet) -> None:
        vitals = packet.results.get("vitals")
        if isinstance(vitals, Vitals):
            frame = packet.frame
            area, volume = round(vitals.area, 2), round(vitals.volume, 3)
            self.add((round(frame.seconds, 4), frame.seq, area, volume, bool(vitals.flags)))


class Beats(Section):
    """The last beats, newest first, and how they were measured."""

    name = "beats"

    def __init__(self) -> None:
        super().__init__()
        self._vitals: Vitals | None = None
        self._seen: dict[str, float] = {}
        """When each doubt was last raised, seconds."""

    def observe(self, packet: Packet) -> None:
        vitals, before = packet.results.get("vitals"), self._vitals
        if not isinstance(vitals, Vitals):
            return
        self._vitals = vitals
        now, flags = packet.frame.seconds, list(self._seen)
        self._seen |= dict.fromkeys(vitals.flags, now)
        self._seen = {f: at for f, at in self._seen.items() if 0 <= now - at <= DOUBT_S}
        if before is None or vitals.beats != before.beats or list(self._seen) != flags:
            self.version += 1

    def view(self, since: int) -> Json:
        vitals = self._vitals
        if vitals is None:
            return {"beats": []}
        return {
            "unit": vitals.unit,
            "method": vitals.method,
            "ef": vitals.ef,
            "doubts": doubts(self._seen),
            "beats": vitals.beats[::-1],
        }
