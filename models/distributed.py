"""Training on several processes that share one batch: who does what, and adding up.

Every process draws the whole batch of a step from the step's seed, works on its own rows, and
divides by what all of them counted. So losses and gradients *add up* to those of one process, also
where masks make the parts count differently; a mean of means would not.

The sum is explicit, after the backward pass, and not torch's DistributedDataParallel: that hooks
``forward``, while our networks are entered by methods of their own (``describe``, ``step``,
``rows``) several times before a backward, and leave some weights without a gradient in some steps.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from retain.models.encoders.base import choose_device
from retain.pipeline.errors import RetainError, StateError, UsageError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")

PATIENCE_S = 600.0
"""How long a process waits for the others in the middle of a step before it gives up."""
_BUCKET = 1 << 22
"""Numbers in one message of gradients."""
_POLL_S = 0.02
_FAILED = "failed"


class Lost(RetainError):
    """Another process of the run is gone, or has been silent for ``PATIENCE_S``."""

    def __init__(self) -> None:
        super().__init__(
            "Another process of this training run has ended or does not answer.",
            hint="Start the command again: it goes on from the last checkpoint.",
        )


@dataclass(frozen=True, slots=True)
class Share:
    """What this process does of a run: rows ``rank`` / ``world`` of every batch."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Rank among the processes of this host."""
    device: str = "cpu"
    launched: bool = False
    """By torchrun, whose signals come twice: from the terminal and from torchrun."""
    store: Store | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells people."""
        return self.rank == 0

    def rows(self, batch: int) -> slice:
        """Of a batch of ``batch`` rows, those of this process. Raises UsageError when they cannot
        be shared evenly."""
        if batch % self.world:
            raise UsageError(
                f"A batch of {batch} cannot be shared evenly by {self.world} processes.",
                hint=f"Start as many as divide {batch}.",
            )
        part = batch // self.world
        return slice(self.rank * part, (self.rank + 1) * part)

    def own(self, whole: Tensor) -> Tensor:
        """Rows of this process of what was drawn for the whole batch [B, …]."""
        return whole if self.world == 1 else whole[self.rows(len(whole))]

    def total(self, counted: Tensor) -> Tensor:
        """The sum over all processes, without gradients; ``counted`` itself when alone."""
        if self.world == 1:
            return counted
        out = counted.detach().clone()
        self._add(out)
        return out

    def count(self, number: int) -> int:
        """The sum over all processes."""
        if self.world == 1:
            return number
        return int(self.total(torch.tensor(number, device=self.device)))

    def settle(self, loss: float, stop: bool) -> tuple[float, bool]:
        """Of all processes: the sum of their parts of a loss, and whether any was asked to stop."""
        if self.world == 1:
            return loss, stop
        told = torch.tensor([loss, float(stop)], device=self.device, dtype=torch.float64)
        self._add(told)
        whole, stops = told.tolist()
        return whole, stops > 0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the sums of all gradients, in place. A weight without a gradient
        anywhere stays without."""
        if self.world == 1:
            return
        every = list(parameters)
        there = self.total(
            torch.tensor([p.grad is not None for p in every], device=self.device) * 1
        )
        felt = [p for p, count in zip(every, there.tolist(), strict=True) if count]
        for bucket in _buckets(felt):
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            flat = torch.cat([part.reshape(-1) for part in parts])
            self._add(flat)
            sums = torch.split(flat, [part.numel() for part in parts])
            for p, part, summed in zip(bucket, parts, sums, strict=True):
                p.grad = part.copy_(summed.view_as(part))

    def same(self, words: str, weights: Mapping[str, Tensor]) -> None:
        """Raises StateError unless all processes begin with the same ``words`` and ``weights``."""
        if self.world == 1:
            return
        digest = hashlib.sha256(words.encode())
        for name, value in weights.items():
            digest.update(name.encode())
            plain = value.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        numbers = np.frombuffer(digest.digest(), np.uint16).astype(np.int64)
        own = torch.from_numpy(numbers).to(self.device)
        # Equal numbers have world x their squares as the square of their sum over world.
        sums = self.total(torch.stack([own, own * own]))
        if not torch.equal(sums[0] * sums[0], self.world * sums[1]):
            raise StateError(
                "The processes of this training run do not begin alike: their options, their "
                "checkpoints or the weights they start from differ.",
                hint="Start all hosts with the same command, and let them share the run's folder.",
            )

    def wait(self) -> None:
        """Until all processes are here, however long it takes; signals are heard meanwhile."""
        if self.store is None:
            return
        turn = self.store.add(f"came/{self.rank}", 1)
        self.store.add(f"all/{turn}", 1)
        while self.store.add(f"all/{turn}", 0) < self.world:
            if self.store.add(_FAILED, 0):
                raise Lost
            time.sleep(_POLL_S)

    def one_first(self, work: Callable[[], T]) -> T:
        """``work`` on one process of each host, then on the others, which find it done: for what
        is drawn once into a cache."""
        if self.local == 0:
            made = work()
            self.wait()
            return made
        self.wait()
        return work()

    def _add(self, values: Tensor) -> None:
        from torch import distributed

        try:
            distributed.all_reduce(values)
        except RuntimeError as error:
            raise Lost from error


ALONE = Share()
_here = ALONE


def here() -> Share:
    """The share of this process in the open ``session``; ``ALONE`` outside of one. Raises
    UsageError where torchrun has started several and none is open: they would do the same twice."""
    if _here is ALONE and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            "torchrun has started several processes of something that trains with one.",
            hint="Start it without torchrun.",
        )
    return _here


@contextmanager
def session(device: str) -> Iterator[str]:
    """Join the processes torchrun started beside this one; its device. Without torchrun: alone.

    device  auto, cpu, cuda, cuda:N. ``cuda`` becomes the GPU of this process (LOCAL_RANK), with
            NCCL between them; on CPUs it is gloo

    When several processes fail, the first raises its error and the others SystemExit with its
    exit code: a person is told once. Raises UsageError where torchrun's variables or the device
    cannot be used.
    """
    global _here
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield choose_device(device)
        return
    _here = share = _join(device)
    try:
        yield share.device
    except Exception as error:
        if _told_already(share):
            raise SystemExit(error.exit_code if isinstance(error, RetainError) else 1) from error
        raise
    finally:
        _here = ALONE
        if share.world > 1:
            from torch import distributed

            distributed.destroy_process_group()


def _join(device: str) -> Share:
    from torch import distributed
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    try:
        rank, world, local = (
            int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        )
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}")
    except ValueError as error:
        raise UsageError(
            f"RANK, WORLD_SIZE and LOCAL_RANK do not describe a process of a run: {error}.",
            hint="torchrun sets them; without it they have to be absent.",
        ) from None
    place = _place(device, local, world)
    if world == 1:
        return Share(device=place, launched=True)
    limit = timedelta(seconds=PATIENCE_S)
    store, rank, world = next(rendezvous("env://", timeout=limit))
    distributed.init_process_group(
        "gloo" if place == "cpu" else "nccl",
        store=PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=limit,
        device_id=None if place == "cpu" else torch.device(place),
    )
    return Share(rank, world, local, place, True, PrefixStore("retain", store))


def _place(device: str, local: int, world: int) -> str:
    if world == 1:
        return choose_device(device)
    if device.startswith("cuda:"):
        raise UsageError(
            f"{world} processes cannot all train on {device}.", hint="Give --device cuda or auto."
        )
    if device == "cpu" or not torch.cuda.is_available():
        return choose_device(device)
    if local >= torch.cuda.device_count():
        raise UsageError(
            f"Process {local} of this host has no GPU: there are {torch.cuda.device_count()}.",
            hint="Start one process per GPU, or give --device cpu.",
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def _told_already(share: Share) -> bool:
    if share.store is None:
        return False
    try:
        return share.store.add(_FAILED, 1) > 1
    except RuntimeError:  # its host is gone with the process that failed
        return False


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """In order, of one type each, of ``_BUCKET`` numbers or a single weight."""
    bucket: list[nn.Parameter] = []
    held = 0
    for p in parameters:
        if bucket and (held + p.numel() > _BUCKET or p.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(p)
        held += p.numel()
    if bucket:
        yield bucket
