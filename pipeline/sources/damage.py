"""What is known of a video file's health while it is decoded.

No single sign suffices. FFmpeg reports damage through exceptions of the decoder, through flags on
packets and pictures, through errors of the demuxer, or not at all: then only the container's own
promise (its index, or its size) tells that something is missing. Damage that still decodes to some
picture leaves no sign anywhere; formats without checksums allow no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

_ONE_PICTURE_PER_PACKET = frozenset(("h264", "hevc", "vp9", "av1"))
_EARLY = 64
"""Packets that may precede the first picture: no codec delays longer."""

_SLACK_S = Fraction(1, 2)
"""A last frame's duration is not always known."""


@dataclass
class Tally:
    """Counts for one file; ``sentence`` says what is wrong."""

    declared: int = 0
    """Frames the container claims to hold."""
    expected: int = 0
    """Packets its index lists; 0 where there is no index to trust."""
    packets: int = 0
    decoded: int = 0
    errors: int = 0
    corrupt: int = 0
    reading_failed: bool = False
    strict: bool = False
    """Whether each indexed packet must give a picture."""
    cut: bool = False
    """Whether the file is shorter than its own header says."""
    promised_s: Fraction = Fraction(0)
    """Seconds the track claims to last; 0 unknown."""
    ends_s: Fraction = Fraction(0)
    """Where the last packet seen ends."""
    _hidden: int = 0
    _early: list[int] = field(default_factory=list)

    def promise(self, container: Any, video: Any, head: bytes, size: int) -> None:
        """Note what a file of ``size`` bytes that begins with ``head`` promises. Only MP4 and AVI
        truly index their packets; Matroska states its size, and most writers tag its tracks with a
        duration.
        """
        self.declared = video.frames
        if container.format.name == "avi":
            # The header counts empty chunks (repeated pictures) too, the index does not; but a file
            # cut short has lost its index, which is written last.
            index = video.index_entries
            whole = len(index) and index[-1].timestamp >= 0.9 * (video.frames - 1)
            self.expected = len(index) if whole else video.frames
        elif container.format.name.startswith("mov,") and video.frames:
            self.expected = len(video.index_entries)
            self.strict = video.codec_context.name in _ONE_PICTURE_PER_PACKET
        elif container.format.name.startswith("matroska"):
            self.cut = matroska_is_cut(head, size)
            self.promised_s = tagged_duration(video.metadata)

    def packet(self, packet: Any) -> None:
        """Count one packet; the empty one that ends a stream has no time and does not count."""
        self.packets += packet.dts is not None or packet.size > 0
        self.corrupt += packet.is_corrupt
        self._hidden += packet.is_discard
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self.ends_s = max(self.ends_s, end)
        if not self.decoded and len(self._early) < _EARLY and packet.pts is not None:
            self._early.append(packet.pts)

    def picture(self, picture: Any) -> None:
        if not self.decoded and picture.pts is not None:
            # a clip cut out of a longer one may begin with pictures that refer to what is gone
            self._hidden += sum(pts < picture.pts for pts in self._early)
        self.decoded += 1
        self.corrupt += picture.is_corrupt
        if picture.interlaced_frame:  # then a packet may hold one field, half a picture
            self.strict = False

    def sentence(self, ended: bool) -> str:
        """What is known to be broken, in words; empty when nothing is.

        ``ended``: the file was read to its end, so what is missing can be told.
        """
        found = []
        if self.reading_failed:
            found.append("reading failed part of the way")
        if self.errors:
            found.append(f"{self.errors} packets or pictures could not be decoded")
        if self.corrupt:
            found.append(f"{self.corrupt} packets or pictures are marked corrupt")
        if ended:
            missing = self.expected - self.packets
            silent = self.packets - self._hidden - self.decoded - self.errors
            if missing > 0:
                found.append(f"{missing} frames are missing from the file")
            elif self.strict and silent > 0:
                found.append(f"{silent} packets gave no picture")
            if self.cut:
                found.append("the file is shorter than it says")
            if self.promised_s - self.ends_s > _SLACK_S:
                found.append(
                    f"it stops at {float(self.ends_s):.1f} s of {float(self.promised_s):.1f} s"
                )
        return ", ".join(found)


def matroska_is_cut(head: bytes, size: int) -> bool:
    """Whether a Matroska or WebM file of ``size`` bytes that begins with ``head`` is shorter than
    its Segment element says (RFC 8794, 9559).

    False for other files, and for segments of unknown size (live recordings).
    """
    if not head.startswith(b"\x1aE\xdf\xa3"):
        return False
    header, at = _element_size(head, 4)
    at += header
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    segment, at = _element_size(head, at + 4)
    return segment >= 0 and at + segment > size


def tagged_duration(tags: Mapping[str, str]) -> Fraction:
    """Seconds that a track's DURATION tag ("00:00:05.280000000") states; 0 without one."""
    tag = tags.get("DURATION") or tags.get("DURATION-eng") or ""
    try:
        hours, minutes, seconds = tag.strip("\0 ").split(":")
        return Fraction(hours) * 3600 + Fraction(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return Fraction(0)


def _element_size(data: bytes, at: int) -> tuple[int, int]:
    """The EBML number at ``at`` (-1: unknown) and where it ends."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    if not first or at + length > len(data):
        return -1, at
    value = int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)
    return (-1 if value == (1 << 7 * length) - 1 else value), at + length
