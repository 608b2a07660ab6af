"""Pixels in shared memory: written once, seen by every process that holds a share of the slot.

A ring is an anonymous memory file (``memfd``) of equal slots. It has no name: it cannot be left
behind, whatever dies, and other users cannot open it. Processes of the same user reach it through
``/proc/PID/fd``. Who may read a slot is kept by weighted reference counting (Bevan, PARLE 1987;
Watson & Watson, PARLE 1987): the writer starts with a large weight, a ticket carries part of it,
a forwarder splits its part, and the slot is free when all of it has come back. So forwarding a
picture costs neither a copy nor a message to its owner.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from retain.pipeline.errors import PixelsGone, RetainError, UsageError, WireError
from retain.pipeline.frame import Image
from retain.pipeline.wire import PixelRef

FULL_WEIGHT = 1 << 62
MAX_RING_BYTES = 1 << 30
"""A ring gets fewer slots, though never under ``MIN_SLOTS``, to stay below this."""
MIN_SLOTS, MAX_SLOTS = 4, 64

_MAGIC = 0x72_65_74_61_69_6E_00_01
_HEADER_BYTES = 4096
_FIXED = 4
"""uint64 words before the generations: magic, ring id, slots, slot bytes."""


class Share(NamedTuple):
    """A part of the right to read a slot."""

    owner: int
    ring: int
    slot: int
    generation: int
    weight: int


class _Block:
    """A mapping of a ring in this process. Lives as long as any lease on one of its slots."""

    def __init__(self, fd: int, writable: bool) -> None:
        access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        size = os.fstat(fd).st_size
        if size < _HEADER_BYTES:
            raise WireError("A shared-memory ring is shorter than its header.")
        self._bytes = np.frombuffer(mmap.mmap(fd, size, prot=access), np.uint8)
        self.address: int = self._bytes.__array_interface__["data"][0]
        self.words = self._bytes[:_HEADER_BYTES].data.cast("Q")

    def check(self, ref: PixelRef) -> None:
        """Raise WireError unless ``ref`` names a slot of this ring that still holds its picture."""
        magic, ring, slots, slot_bytes = self.words[:_FIXED]
        if magic != _MAGIC or ring != ref.ring:
            raise PixelsGone("A ticket names a shared-memory ring that is no longer there.")
        if slots > MAX_SLOTS or _HEADER_BYTES + slots * slot_bytes > self._bytes.nbytes:
            raise WireError("A shared-memory ring is shorter than it says.")
        if ref.slot >= slots or ref.height * ref.width * 3 > slot_bytes:
            raise WireError("A ticket points outside its shared-memory ring.")
        if self.words[_FIXED + ref.slot] != ref.generation:
            raise WireError("A ticket came after its picture had been replaced.")

    def slot_address(self, slot: int) -> int:
        return self.address + _HEADER_BYTES + slot * self.words[3]

    def slot(self, slot: int, nbytes: int) -> np.ndarray:
        start = self.slot_address(slot) - self.address
        return self._bytes[start : start + nbytes]


class Ring:
    """The owner's side: which slots are free, and writing into one. Not thread-safe, but for
    ``fill``."""

    def __init__(self, owner: int, slots: int, slot_bytes: int) -> None:
        stride = math.ceil(slot_bytes / mmap.PAGESIZE) * mmap.PAGESIZE
        slots = max(MIN_SLOTS, min(slots, MAX_SLOTS, MAX_RING_BYTES // stride))
        self.owner, self.slots, self.slot_bytes = owner, slots, stride
        self.id = secrets.randbits(62) | 1
        self.fd = _reserve(_HEADER_BYTES + slots * stride)
        self.block = _Block(self.fd, writable=True)
        for place, word in enumerate((_MAGIC, self.id, slots, stride)):
            self.block.words[place] = word
        self._free = list(range(slots))
        self._out = [0] * slots

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    @property
    def idle(self) -> bool:
        """Nobody holds a share of any slot."""
        return len(self._free) == self.slots

    def claim(self, image: Image) -> PixelRef | None:
        """A free slot for the picture; None when there is none. The whole weight is out."""
        if not self._free:
            return None
        slot = self._free.pop()
        generation = self.block.words[_FIXED + slot] + 1
        self.block.words[_FIXED + slot] = generation
        self._out[slot] = FULL_WEIGHT
        height, width = image.shape[:2]
        return PixelRef(
            self.owner, os.getpid(), self.fd, self.id, slot, generation, FULL_WEIGHT, height, width
        )

    def fill(self, ref: PixelRef, image: Image) -> None:
        """Copy the picture into the slot claimed for it, before anybody hears of it."""
        np.copyto(self.block.slot(ref.slot, image.nbytes), image.reshape(-1))

    def give_back(self, share: Share) -> None:
        """Take a share back; the slot is free when all of them are. Raises WireError when the
        share does not belong to what the slot holds."""
        slot, now = share.slot, self.block.words[_FIXED + share.slot % self.slots]
        if slot >= self.slots or share.generation != now or share.weight > self._out[slot]:
            raise WireError("A share of a shared-memory slot came back that was not given out.")
        self._out[slot] -= share.weight
        if not self._out[slot]:
            self._free.append(slot)


class Lease:
    """Holds a share of one slot while any array over it lives: it is those arrays' ``base``."""

    def __init__(self, ref: PixelRef, block: _Block, give_back: Callable[[Share], None]) -> None:
        self._ref, self._block, self._give_back = ref, block, give_back
        self._weight, self._promised = ref.weight, 0
        self._lock = threading.Lock()
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": "|u1",
            "shape": (ref.height, ref.width, 3),
            "data": (block.slot_address(ref.slot), True),
        }

    def __del__(self) -> None:
        # May run in any thread, at any moment, under any lock: give_back must only note it down.
        ref = self._ref
        self._give_back(Share(ref.owner, ref.ring, ref.slot, ref.generation, self._weight))

    def promise(self, tickets: int) -> bool:
        """Reserve ``tickets`` later splits. False when the share has become too small for that."""
        with self._lock:
            if self._weight.bit_length() - 1 - self._promised < tickets:
                return False
            self._promised += tickets
            return True

    def split(self) -> PixelRef:
        """A reference with half of the weight, for a ticket that was promised."""
        with self._lock:
            half = self._weight >> 1
            assert half, "split without promise"
            self._weight -= half
            self._promised -= 1
        ref = self._ref
        return PixelRef(
            ref.owner,
            ref.pid,
            ref.fd,
            ref.ring,
            ref.slot,
            ref.generation,
            half,
            ref.height,
            ref.width,
        )

    def image(self) -> Image:
        """The picture, uint8 [H, W, 3], read-only."""
        return np.asarray(self)


def lease_of(image: Image) -> Lease | None:
    """The lease an array stands on, if it is the whole picture of a slot."""
    base: Any = image
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, Lease):
        return None
    whole = base.__array_interface__
    same = (
        image.__array_interface__["data"][0] == whole["data"][0] and image.shape == whole["shape"]
    )
    return base if same else None


def attach(ref: PixelRef) -> _Block:
    """Map the ring a ticket points at, read-only. Raises PixelsGone when its owner is."""
    try:
        fd = os.open(f"/proc/{ref.pid}/fd/{ref.fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PixelsGone(
            f"The pixels of a frame are gone with the process {ref.pid} that held them.",
        ) from error
    try:
        return _Block(fd, writable=False)
    finally:
        os.close(fd)


def _reserve(size: int) -> int:
    """A memory file of ``size`` bytes, all of it really there: a later write cannot fail."""
    if not hasattr(os, "memfd_create"):
        raise UsageError(
            "Separate processes need Linux's shared memory files.", hint="Use the runner 'inline'."
        )
    fd = os.memfd_create("retain-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as error:
        os.close(fd)
        raise RetainError(
            f"There are no {size / 2**20:.0f} MiB of shared memory for frames ({error.strerror}).",
            hint="Free memory, use smaller frames, or use the runner 'inline'.",
        ) from error
    return fd
