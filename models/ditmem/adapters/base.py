"""Memory rows in a transformer of diffusers: what Wan, LTX and SANA-Video have in common.

Neither hands ``attention_kwargs`` on to its attention. So a hook on the transformer settles which
rows a call gets, a hook on each block keeps the block's present time, and the processor of the
block's self-attention, ``Joined``, makes keys and values of the two. Nothing becomes part of the
transformer's parameters or of what it saves.
"""

from __future__ import annotations

import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from retain.models.ditmem.inject import MemoryRows, Pair
from retain.pipeline.errors import MissingExtra, UsageError

Layers = Literal["all"] | Sequence[int]
BOTH = "cond_uncond"
"""The context of both passes of guidance as one batch, the one without prompt first."""
STEPS = 1000
"""Of the noise schedule of all families; time 1 of ``MemoryRows.static_time`` is this timestep."""


def need_diffusers(what: str) -> None:
    """Raises MissingExtra where diffusers is not installed."""
    if importlib.util.find_spec("diffusers") is None:
        raise MissingExtra("diffusers", "imagine", what)


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of the transformer is given."""

    rows: MemoryRows
    """As many as there are samples."""
    noised: Tensor
    """int [B], a token that is not clean, where tokens have times of their own."""


class Joined(ABC):
    """Attention processor of block ``number``: ``plain``, with the handle's rows beside the keys
    and values where there are any. Called as ``plain`` is."""

    time_argument: ClassVar[tuple[str, int]] = ("temb", 2)
    """Name and place of a block's time among its arguments."""

    def __init__(self, plain: Any, handle: Handle, block: Any, number: int) -> None:
        self.plain, self.handle, self.block, self.number = plain, handle, block, number
        self.time: Tensor | None = None
        """[B, 6, D] of the call that is about to come."""

    @property
    def _attention_backend(self) -> Any:
        """``set_attention_backend`` writes it, to last when this is removed."""
        return self.plain._attention_backend

    @_attention_backend.setter
    def _attention_backend(self, backend: Any) -> None:
        self.plain._attention_backend = backend

    @property
    def _parallel_config(self) -> Any:
        return self.plain._parallel_config

    @_parallel_config.setter
    def _parallel_config(self, config: Any) -> None:
        self.plain._parallel_config = config

    @staticmethod
    @abstractmethod
    def row(temb: Tensor, noised: Tensor) -> Tensor:
        """Of what a block is given as time, [B, 6, D]: that of token ``noised``, int [B], where
        tokens have times of their own."""

    @staticmethod
    @abstractmethod
    def moment(transformer: nn.Module, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """What blocks are given as time at ``timestep`` [1]: [1, 6, D]."""

    @abstractmethod
    def made(self, attn: Any, tokens: Tensor, time: Tensor, dtype: torch.dtype) -> Pair:
        """Keys, without positions, and values [B, M, heads, width] of ``tokens`` [B, M, D] at
        ``time`` [B or 1, 6, D]."""

    def pair(self, attn: Any, hidden: Tensor, mask: Tensor | None) -> Pair | None:
        """Keys and values of the rows for queries from ``hidden`` [B, N, D]; None without rows."""
        time, self.time = self.time, None  # for one call, and not kept between steps
        if self.handle.call is None:
            return None
        if time is None:
            raise UsageError(
                f"Block {self.number} was run past its hooks, so the time of its memory rows is "
                "not known.",
                hint="Call the block, not its forward().",
            )
        memory = self.handle.call.rows
        if mask is not None:
            raise UsageError("Memory rows do not go together with a mask on self-attention.")
        # Where blocks are on several devices the hooks come before what moves their inputs.
        tokens, time = memory.tokens.to(hidden.device), time.to(hidden.device)
        if memory.static_time is None:
            return self.made(attn, tokens, time, hidden.dtype)
        keep = not torch.is_grad_enabled()  # a graph must not outlive its step
        key = (self.number, len(hidden), hidden.dtype, hidden.device)
        if keep and key in self.handle.kept:
            return self.handle.kept[key]
        still = self.handle.moment(memory.static_time, hidden)
        made = self.made(attn, tokens, still, hidden.dtype)
        if keep:
            self.handle.kept[key] = made
        return made

    def mask(self, hidden: Tensor, before: int) -> Tensor | None:
        """What is added to the logits of ``before`` tokens and then the rows,
        [B, 1, 1, before + M] in the type of ``hidden``, or None where that is nothing."""
        call = self.handle.call
        added = None if call is None else call.rows.mask(self.number, before)
        return None if added is None else added.to(hidden)


class Handle:
    """A memory installed in one transformer.

    ``memory_in_uncond``: False leaves the rows out of the pass without prompt of classifier-free
    guidance. Then a call must be made within the ``cache_context`` that diffusers' pipelines use.
    """

    def __init__(
        self,
        transformer: Any,
        blocks: nn.ModuleList,
        plain: type,
        joined: type[Joined],
        layers: Layers,
        memory_in_uncond: bool,
    ) -> None:
        """``plain``: the processor that may be replaced. Raises UsageError for what cannot be."""
        from retain.models.ditmem.adapters.context import watch

        self._transformer, self._joined, self._depth = transformer, joined, len(blocks)
        self._in_uncond = memory_in_uncond
        self._names = list(inspect.signature(type(transformer).forward).parameters)[1:]
        self._memory: MemoryRows | None = None
        self.call: Call | None = None
        """The present or last one; None: it is given nothing."""
        self.kept: dict[tuple[int, int, torch.dtype, torch.device], Pair] = {}
        self._alone()
        chosen = [(n, blocks[n]) for n in _numbers(layers, len(blocks))]
        for number, block in chosen:
            _replaceable(block.attn1.processor, plain, number)  # type: ignore[union-attr]
        self._placed: list[tuple[Any, Joined]] = []
        self._ends: list[Callable[[], None]] = [watch(transformer, self._begin)]
        for number, block in chosen:
            attn: Any = block.attn1
            mine = joined(attn.processor, self, block, number)
            attn.set_processor(mine)
            self._placed.append((attn, mine))
            hook = block.register_forward_pre_hook(self._time_of(mine), with_kwargs=True)
            self._ends.append(hook.remove)

    def set_memory(self, memory: MemoryRows | None) -> None:
        """What all calls from now on are given; None: nothing, and the transformer is as it was.

        ``memory``: [1, M, D] for all samples alike or [B, M, D]; no ``adapter`` and no ``kept``.
        Keys and values of a ``static_time`` are made once and kept (not where gradients are): set
        the memory anew when weights have changed. Raises UsageError for rows that do not fit.
        """
        if not self._placed:
            raise UsageError("This memory was removed.", hint="Install it again.")
        self.kept.clear()
        self._memory = None if memory is None else self._fitting(memory)

    def remove(self) -> None:
        """The transformer as it was. A processor that somebody else put in place stays."""
        for end in self._ends:
            end()
        for attn, mine in self._placed:
            if attn.processor is mine:
                attn.set_processor(mine.plain)
        self._ends, self._placed = [], []
        self._memory = self.call = None
        self.kept.clear()
        again = self._transformer._gradient_checkpointing_func
        if isinstance(again, _Again):
            self._transformer._gradient_checkpointing_func = again.plain

    def moment(self, time: float, hidden: Tensor) -> Tensor:
        """What blocks are given at ``time``, 0 to 1: [1, 6, D] where ``hidden`` is."""
        step = torch.tensor([STEPS * time], device=hidden.device)
        return self._joined.moment(self._transformer, step, hidden.dtype).to(hidden.device)

    def _begin(self, context: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.call = None
        if self._memory is not None:
            self._intact()
            given = dict(zip(self._names, args, strict=False)) | kwargs
            hidden: Tensor = given["hidden_states"]
            if not hasattr(self._transformer, "cache_context"):
                context = BOTH
            rows = self._shared(self._memory, len(hidden), context, hidden.device)
            if rows is not None:
                noised = given["timestep"].reshape(len(hidden), -1).argmax(1)
                self.call = Call(rows, noised)
        model = self._transformer
        if torch.is_grad_enabled() and model.gradient_checkpointing:
            again = model._gradient_checkpointing_func
            plain = again.plain if isinstance(again, _Again) else again
            model._gradient_checkpointing_func = _Again(plain, self)

    def _intact(self) -> None:
        """Raises UsageError where the rows would not be read, or not rightly."""
        self._alone()
        if any(attn.processor is not mine for attn, mine in self._placed):
            raise UsageError(
                "The transformer's attention processors were replaced after the memory was "
                "installed, so it would not be read.",
                hint="Call remove(), set the processors, and install the memory again.",
            )

    def _time_of(self, mine: Joined) -> Callable[..., None]:
        def told(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            mine.time = None
            if self.call is not None:
                name, place = mine.time_argument
                temb = kwargs[name] if name in kwargs else args[place]
                mine.time = mine.row(temb, self.call.noised)

        return told

    def _alone(self) -> None:
        if getattr(self._transformer, "_parallel_config", None) is not None:
            raise UsageError(
                "Memory rows cannot be given to a transformer with context or tensor parallelism: "
                "each device would see them as tokens of its own part.",
                hint="Load the transformer without parallel_config and do not call "
                "enable_parallelism.",
            )

    def _fitting(self, memory: MemoryRows) -> MemoryRows | None:
        """``memory``, checked, without the rows that are valid in no sample if that leaves as many
        in each: no mask then, which not every attention backend takes."""
        config = self._transformer.config
        dim = config.num_attention_heads * config.attention_head_dim
        tokens, valid = memory.tokens, memory.valid
        if tokens.ndim != 3 or tokens.shape[-1] != dim:
            raise UsageError(
                f"This transformer reads rows of {dim} values, [B, M, {dim}]; "
                f"got {list(tokens.shape)}.",
                hint="The encoder's dim must be the transformer's width.",
            )
        if valid is not None and valid.shape != tokens.shape[:2]:
            raise UsageError(f"valid must be {list(tokens.shape[:2])}, got {list(valid.shape)}.")
        if memory.bias is not None and memory.bias.shape != (self._depth,):
            raise UsageError(
                f"bias must hold one value for each of {self._depth} blocks, "
                f"got {list(memory.bias.shape)}."
            )
        if memory.adapter is not None or memory.kept is not None:
            raise UsageError("Rows with an adapter or kept keys belong to VideoDit, not diffusers.")
        if memory.none():
            return None
        if valid is not None and bool((valid.sum(1) == valid[0].sum()).all()):
            dense = tokens[valid].reshape(len(tokens), -1, dim)
            return replace(memory, tokens=dense, valid=None)
        return memory

    def _shared(
        self, memory: MemoryRows, batch: int, context: str | None, device: torch.device
    ) -> MemoryRows | None:
        """``memory`` for ``batch`` samples in the pipeline's ``context``, on ``device``."""
        if not self._in_uncond and context not in ("cond", "uncond", BOTH):
            raise UsageError(
                "Which pass this is, with or without prompt, is not known "
                f"(cache_context: {context}), and memory_in_uncond=False needs to know.",
                hint="Call the transformer within transformer.cache_context('cond') or 'uncond'.",
            )
        if not self._in_uncond and context == "uncond":
            return None
        rows = len(memory.tokens)
        both = context == BOTH and batch == 2 * rows
        if rows not in (1, batch) and not both:
            raise UsageError(
                f"The memory is for {rows} videos, and {batch} are being made.",
                hint="Give rows [B, M, D] of as many, or [1, M, D] for all alike.",
            )
        if not self._in_uncond and not both and rows != batch:
            raise UsageError(
                f"memory_in_uncond=False needs rows for each of {batch} videos, got {rows}.",
                hint="Repeat the rows: tokens.expand(B, -1, -1).",
            )
        spread = _moved(memory, device, batch)
        if both and not self._in_uncond:
            return spread.drop(torch.arange(batch, device=device) >= rows)
        return spread


class _Again:
    """Gradient checkpointing of one call: its blocks, when they are computed again for gradients,
    get the rows of that call, whatever came after it."""

    def __init__(self, plain: Callable[..., Any], handle: Handle) -> None:
        self.plain, self.handle, self.call = plain, handle, handle.call

    def __call__(self, block: nn.Module, *args: Any) -> Any:
        def run(*given: Any) -> Any:
            self.handle.call = self.call
            return block(*given)

        return self.plain(run, *args)


def heads(rows: Tensor, count: int) -> Tensor:
    """[B, N, D] to [B, N, count, width]."""
    return rows.reshape(*rows.shape[:2], count, -1)


def turned(rows: Tensor, rotary: Pair) -> Tensor:
    """``rows`` [B, N, heads, width], neighbouring channels rotated; ``rotary`` cosines and sines
    [1, N, 1, width], each twice."""
    a, b = rows.reshape(*rows.shape[:-1], -1, 2).unbind(-1)
    cos, sin = rotary[0][..., ::2], rotary[1][..., ::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).type_as(rows)


def _moved(memory: MemoryRows, device: torch.device, batch: int) -> MemoryRows:
    """``memory`` on ``device``, repeated to ``batch`` samples."""
    times = batch // len(memory.tokens)
    valid, bias = memory.valid, memory.bias
    return replace(
        memory,
        tokens=memory.tokens.to(device).repeat(times, 1, 1),
        valid=None if valid is None else valid.to(device).repeat(times, 1),
        bias=None if bias is None else bias.to(device),
    )


def _numbers(layers: Layers, depth: int) -> list[int]:
    """Of the blocks that read the memory. Raises UsageError for one that is not there."""
    if isinstance(layers, str):
        if layers != "all":
            raise UsageError(f"layers is 'all' or numbers of blocks, got {layers!r}.")
        return list(range(depth))
    chosen = sorted(set(layers))
    if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
        raise UsageError(
            f"layers must be numbers of blocks from 0 to {depth - 1}, got {list(layers)}."
        )
    return chosen


def _replaceable(processor: Any, plain: type, number: int) -> None:
    if isinstance(processor, Joined):
        raise UsageError(
            "This transformer has a memory already.", hint="Call remove() of its handle first."
        )
    if type(processor) is not plain:
        raise UsageError(
            f"Block {number} attends with a {type(processor).__name__}; memory rows are known to "
            f"go with {plain.__name__} only.",
            hint="Install the memory on the transformer as it was loaded.",
        )
