"""What a multimodal model is handed: the kept frames in order of time, with their times, and the
frame on screen when the question comes, within a budget of tokens (arXiv 2603.19571, section on
answering; the arithmetic is in ``memory/tokens.py``).

When not everything fits, frames stay in an order of priority: the newest few, newest first, then by
the worth the memory gave them, where one that a worthier one resembles counts less. In steps:

1. the newest frame is Clear in up to half of the budget, scaled down where it would cost more;
2. the others are taken as Blurred, in order, until the first that does not fit;
3. what is left makes them Clear again, in order, until the first that does not fit.

So Clear becomes Blurred before a frame is left out, and a larger budget never loses a frame.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retain.memory import pictures
from retain.memory.base import Json
from retain.memory.entries import Entry
from retain.memory.tokens import Family, counting, fit, grid, tokens
from retain.pipeline.errors import UsageError, nearest
from retain.pipeline.frame import Frame, Image
from retain.pipeline.results import Reason, Tier

KEYS: dict[str, str] = {"openai": "image_url", "qwen": "image", "hf": "url"}
"""Message style, and the key that holds a picture's address."""
BLURRED_SIDE = 224
WIDEST = 200
"""The families' image processor refuses pictures longer than this times their width."""
ENVELOPE = 13
"""Tokens of the marks around a system, a user and an assistant message."""
DEFAULT_SYSTEM = "You are a helpful assistant."
"""What the chat template of Qwen2-VL and Qwen2.5-VL says where no system line is given."""
MARKS = 3
"""Tokens around a picture: where it begins and ends, and a line break that some servers put."""
RECENT = 4
"""So many of the newest go before all others."""
FAR, FADE_S = 0.5, 30.0
"""How much a likeness long ago counts, against 1 for one at the same time; and what long is."""
_COMPARED = 1024
"""So many of the worthiest are compared with each other; those after them go by worth alone."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as it is handed over."""

    seq: int
    seconds: float
    tier: Tier
    reason: Reason
    width: int
    height: int
    tokens: int
    jpeg: bytes = field(repr=False)

    @property
    def stamp(self) -> str:
        """Its time, as the text before it."""
        return stamp(self.seconds)

    def image(self) -> Image:
        """uint8 [H, W, 3] RGB."""
        return pictures.decode(self.jpeg, (self.width, self.height))

    def data_url(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True, slots=True)
class Context:
    """Pictures in order of time and the question, within ``budget`` tokens of ``family``."""

    family: Family
    budget: int
    pictures: tuple[Picture, ...]
    text_tokens: int
    """Upper bound for times, question, system line and the marks of the messages."""
    held: int
    """Frames there were to choose from."""
    demoted: int
    """How many are smaller here than in the memory."""
    question: str = ""
    system: str = ""

    @property
    def picture_tokens(self) -> int:
        return sum(picture.tokens for picture in self.pictures)

    @property
    def tokens(self) -> int:
        return self.picture_tokens + self.text_tokens

    def messages(
        self, style: str = "openai", address: Callable[[Picture], str] = Picture.data_url
    ) -> list[dict[str, Json]]:
        """The chat, ready for JSON: each time as text before its picture, the question last.

        ``style``: "openai" for its chat API and servers that speak it, "qwen" for
        ``qwen_vl_utils``, "hf" for the chat templates of transformers. ``address`` says where a
        picture is; by default its bytes are in the message. Raises UsageError.
        """
        if style not in KEYS:
            raise UsageError(f"Unknown message format {style!r}.", hint=nearest(style, KEYS))
        content: list[Json] = []
        for picture in self.pictures:
            content += [_text(picture.stamp), self._shown(picture, style, address(picture))]
        if self.question:
            content.append(_text(self.question))
        user: dict[str, Json] = {"role": "user", "content": content}
        if not self.system:
            return [user]
        return [{"role": "system", "content": [_text(self.system)]}, user]

    def _shown(self, picture: Picture, style: str, address: str) -> dict[str, Json]:
        if style == "openai":
            return {"type": "image_url", "image_url": {"url": address}}
        part: dict[str, Json] = {"type": "image", KEYS[style]: address}
        if style == "qwen":
            # qwen_vl_utils resizes before the processor does, with a lower bound of its own; what
            # has its final size there is not resized again, so that the count holds.
            cell = counting(self.family).cell
            columns, rows = grid(picture.width, picture.height, self.family)
            part |= {"resized_width": columns * cell, "resized_height": rows * cell}
        return part


def context(
    entries: Sequence[Entry],
    family: Family = "qwen2.5-vl",
    budget: int = 12_800,
    *,
    question: str = "",
    system: str = "",
    now: Frame | None = None,
) -> Context:
    """Choose from ``entries`` what fits into ``budget``; the rule is at the top of this module.

    ``now``: the frame on screen, when it is not among the entries or not Clear there.
    Raises UsageError for an unknown family, a budget under one frame, or nothing to hand over.
    """
    held = sorted(entries, key=lambda entry: (entry.seconds, entry.seq))
    if now is not None:
        held = _with(held, now, family)
    _check(held)
    fixed = ENVELOPE + _bound(question) + _bound(system or DEFAULT_SYSTEM)
    sizes = _choose(held, family, budget, fixed)
    taken = [(held[i], sizes[i]) for i in sorted(sizes)]
    return Context(
        family,
        budget,
        tuple(_at(entry, size, family) for entry, size in taken),
        fixed + sum(_beside(entry) for entry, _ in taken),
        len(held),
        sum(size != (entry.width, entry.height) for entry, size in taken),
        question,
        system,
    )


def stamp(seconds: float) -> str:
    """How a time is written before its picture: ``<12.0 seconds>``, as Qwen3-VL writes its own."""
    return f"<{seconds:.1f} seconds>"


def _bound(text: str) -> int:
    """Never fewer than the tokens of ``text``: each takes a byte or more."""
    return len(text.encode())


def _beside(entry: Entry) -> int:
    """Tokens of a picture's time and marks. " seconds" is one token of Qwen's vocabulary."""
    return len(stamp(entry.seconds)) - len(" seconds") + 1 + MARKS


def _choose(
    held: list[Entry], family: Family, budget: int, fixed: int
) -> dict[int, tuple[int, int]]:
    """Which entries, and at what size (width, height)."""
    whole = [(entry.width, entry.height) for entry in held]
    small = [fit(*size, tokens(BLURRED_SIDE, BLURRED_SIDE, family), family) for size in whole]

    def cost(i: int, size: tuple[int, int]) -> int:
        return tokens(*size, family) + _beside(held[i])

    order = priority(held)
    newest = order[0]
    room = budget - fixed
    if room < cost(newest, small[newest]):
        raise UsageError(
            f"A budget of {budget} tokens is under one frame of {family}: with the question it "
            f"takes {fixed + cost(newest, small[newest])}.",
            hint="Raise the budget or shorten the question.",
        )
    share = max(cost(newest, small[newest]), room // 2)
    share = min(share, cost(newest, whole[newest]))
    sizes = {newest: _within(whole[newest], small[newest], share - _beside(held[newest]), family)}
    room -= share
    for i in order[1:]:
        if cost(i, small[i]) > room:
            break
        sizes[i] = small[i]
        room -= cost(i, small[i])
    room += share - cost(newest, sizes[newest])
    for i in sizes:
        paid = tokens(*sizes[i], family)
        grown = whole[i] if i != newest else _within(whole[i], sizes[i], paid + room, family)
        room -= tokens(*grown, family) - paid
        if room < 0:
            break
        sizes[i] = grown
        if grown != whole[i]:
            break
    return sizes


def _within(
    whole: tuple[int, int], least: tuple[int, int], limit: int, family: Family
) -> tuple[int, int]:
    """The largest size that costs at most ``limit``; ``least`` where the search finds none."""
    size = fit(*whole, limit, family)
    return size if tokens(*size, family) <= limit else least


def priority(held: Sequence[Entry]) -> list[int]:
    """All of ``held`` (in order of time), those first that stay longest."""
    older = len(held) - min(RECENT, len(held))
    worth = np.array([entry.worth for entry in held])
    others = np.argsort(-worth[:older], kind="stable")
    some = np.append(others[:_COMPARED], np.arange(older, len(held)))
    some = some[np.lexsort((some, -worth[some]))]  # the worthiest first, of equals the oldest
    rank = worth[some] * (1.0 - _resembled([held[i] for i in some.tolist()]))
    ranked = some[np.argsort(-rank, kind="stable")]
    newest = range(len(held) - 1, older - 1, -1)
    return [*newest, *ranked[ranked < older].tolist(), *others[_COMPARED:].tolist()]


def _resembled(held: Sequence[Entry]) -> NDArray[np.float64]:
    """[N] in [0, 1]: how far each is like one before it, relative to its own novelty."""
    embedding = np.stack([entry.embedding for entry in held])
    seconds = np.array([entry.seconds for entry in held])
    novelty = np.maximum([entry.novelty for entry in held], 1e-9)
    apart = np.exp(-np.abs(seconds[:, None] - seconds[None, :]) / FADE_S)
    alike = np.clip(1.0 - (1.0 - embedding @ embedding.T) / novelty[:, None], 0.0, 1.0)
    alike = alike * (FAR + (1.0 - FAR) * apart)
    return np.asarray(np.tril(alike, -1).max(axis=1, initial=0.0), np.float64)


def _with(held: list[Entry], now: Frame, family: Family) -> list[Entry]:
    """``held`` and the frame on screen, in place of itself where it was kept."""
    held = [entry for entry in held if entry.seq != now.seq]
    if held and now.seconds < held[-1].seconds:
        raise UsageError(
            f"The frame on screen is of {now.seconds:.1f} s, but the newest kept one of "
            f"{held[-1].seconds:.1f} s: they are not of one stream, or it is not the newest."
        )
    height, width = now.image.shape[:2]
    entry = Entry(
        seq=now.seq,
        pts=now.pts,
        time_base=now.time_base,
        seconds=now.seconds,
        tier="clear",
        reason="query",
        score=0.0,
        tokens=tokens(width, height, family),
        width=width,
        height=height,
        embedding=np.zeros_like(held[-1].embedding) if held else np.zeros(1, np.float32),
        jpeg=pictures.encode(now.image),
    )
    return [*held, entry]


def _check(held: list[Entry]) -> None:
    if not held:
        raise UsageError("The memory is empty: there is no frame to hand over.")
    if not all(entry.jpeg for entry in held):
        raise UsageError(
            "This memory keeps no pictures, so there is nothing a model could see.",
            hint="Keep them: payload 'jpeg'.",
        )
    for entry in held:
        if max(entry.width, entry.height) > WIDEST * min(entry.width, entry.height):
            raise UsageError(
                f"A frame of {entry.width}x{entry.height} is too long and thin for these models: "
                f"they refuse more than {WIDEST} to 1."
            )


def _at(entry: Entry, size: tuple[int, int], family: Family) -> Picture:
    """``entry`` at ``size``; its own bytes where that is its size."""
    same = size == (entry.width, entry.height)
    blurred = not same and size == fit(
        entry.width, entry.height, tokens(BLURRED_SIDE, BLURRED_SIDE, family), family
    )
    return Picture(
        entry.seq,
        entry.seconds,
        "blurred" if blurred else entry.tier,
        entry.reason,
        *size,
        tokens(*size, family),
        entry.jpeg if same else pictures.encode(entry.image(), size),
    )


def _text(text: str) -> dict[str, Json]:
    return {"type": "text", "text": text}
