"""Turning good bytes into bad ones, reproducibly: damage without sense, and damage with a plan."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from retain.pipeline.frame import Frame

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1,
    -(1 << 63), (1 << 64) - 1, 0.0, -0.0, 0.5, -1.5, 1e308, 5e-324, math.nan, math.inf, -math.inf,
    "", "x", "\0", "a/b", "../..", "\u2028", "0" * 64, "ticket/1", [], {}, [[]], [0, 0], {"": ""},
    [1] * 70, {"type": "route/1"},
)  # fmt: skip
"""Values that formats and numbers stumble over."""


class Mutator:
    """Draws from ``seed`` alone, so that a case is made again from its name."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)

    def damaged(self, data: bytes, others: Sequence[bytes]) -> bytes:
        """``data`` after one to four blind changes; ``others`` lend pieces."""
        out = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 1, 2, 4))):
            self.rng.choice(self._CHANGES)(self, out, others)
        return bytes(out)

    def twisted(self, value: Any) -> Any:
        """A plain value (dicts, lists, leaves) with one part of it changed."""
        holders = _holders(value)
        if not holders or self.rng.random() < 0.02:
            return self.hostile()
        holder = self.rng.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = self.rng.choice(keys)
        kind = self.rng.random()
        if kind < 0.6:
            holder[key] = self.near(holder[key])
        elif kind < 0.75:
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(self.hostile())[:20]] = holder[key] if kind < 0.85 else holder.pop(key)
        else:
            holder.insert(key, self.hostile() if kind < 0.85 else holder[key])
        return value

    def near(self, value: Any) -> Any:
        """Something in the place of ``value``: often of its own kind, and only a little wrong."""
        rng = self.rng
        if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
            return rng.choice((value + 1, value - 1, -value, value << 8, value << 40))
        if isinstance(value, str) and value and rng.random() < 0.4:
            at = rng.randrange(len(value))
            return value[:at] + chr(rng.choice((0, 47, 97, 255, 0x2028))) + value[at + 1 :]
        if isinstance(value, list) and value and rng.random() < 0.5:
            return rng.choice((value * 2, value[:-1], value[::-1], [value]))
        if rng.random() < 0.03:
            return _deep(rng.choice((50, 900, 20_000)))
        return self.hostile()

    def hostile(self) -> Any:
        return json_copy(self.rng.choice(HOSTILE))

    def _flip(self, out: bytearray, others: Sequence[bytes]) -> None:
        if out:
            out[self.rng.randrange(len(out))] ^= 1 << self.rng.randrange(8)

    def _set(self, out: bytearray, others: Sequence[bytes]) -> None:
        """One byte becomes the head of a msgpack value, a bracket, or a limit."""
        if out:
            out[self.rng.randrange(len(out))] = self.rng.choice(
                (0x00, 0x7F, 0x80, 0xFF, *range(0xC0, 0xE0), *b'{}[]",:0\\')
            )

    def _cut(self, out: bytearray, others: Sequence[bytes]) -> None:
        del out[self.rng.randrange(len(out) + 1) :]

    def _drop(self, out: bytearray, others: Sequence[bytes]) -> None:
        at = self.rng.randrange(len(out) + 1)
        del out[at : at + self.rng.choice((1, 2, 8, 64))]

    def _repeat(self, out: bytearray, others: Sequence[bytes]) -> None:
        at = self.rng.randrange(len(out) + 1)
        out[at:at] = out[at : at + self.rng.choice((1, 4, 40))]

    def _number(self, out: bytearray, others: Sequence[bytes]) -> None:
        """A length, an offset or a value becomes an extreme one of its width."""
        form = self.rng.choice((">H", "<H", ">I", "<I", ">Q", "<Q"))
        size = struct.calcsize(form)
        if len(out) >= size:
            at = self.rng.randrange(len(out) - size + 1)
            top = (1 << 8 * size) - 1
            value = self.rng.choice((0, 1, top, top >> 1, (top >> 1) + 1, len(out), top - 7))
            struct.pack_into(form, out, at, value & top)

    def _splice(self, out: bytearray, others: Sequence[bytes]) -> None:
        other = self.rng.choice(others)
        at, since = self.rng.randrange(len(out) + 1), self.rng.randrange(len(other) + 1)
        out[at:] = other[since:]

    def _noise(self, out: bytearray, others: Sequence[bytes]) -> None:
        at = self.rng.randrange(len(out) + 1)
        out[at:at] = self.rng.randbytes(self.rng.choice((1, 2, 4, 16)))

    _CHANGES: tuple[Callable[[Mutator, bytearray, Sequence[bytes]], None], ...] = (
        _flip, _flip, _set, _set, _cut, _drop, _repeat, _number, _number, _splice, _noise,
    )  # fmt: skip


def json_copy(value: Any) -> Any:
    """A copy of a plain value, so that the original survives its changes."""
    if isinstance(value, dict):
        return {key: json_copy(part) for key, part in value.items()}
    return [json_copy(part) for part in value] if isinstance(value, list | tuple) else value


def doubled(text: str, rng: random.Random) -> str:
    """JSON text of an object in which one key stands twice; other text as it is."""
    if not text.startswith("{"):
        return text
    pairs = json.loads(text, object_pairs_hook=list)
    key, value = rng.choice(pairs) if pairs else ("a", 0)
    return text[:-1] + (", " if pairs else "") + f"{json.dumps(key)}: {json.dumps(value)}}}"


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def _holders(value: Any) -> list[Any]:
    """Dicts and lists in a plain value that are not empty, itself included; the first thousand."""
    found: list[Any] = []
    waiting = [value]
    while waiting and len(found) < 1000:
        part = waiting.pop()
        if isinstance(part, dict | list) and part:
            found.append(part)
            waiting.extend(part.values() if isinstance(part, dict) else part)
    return found


Feed = Callable[[Mutator], None]
"""Makes a case and feeds it. Returns when it was taken in; raises what its reader raised."""


def frame(seq: int) -> Frame:
    image = np.full((48, 64, 3), 40 * seq % 256, np.uint8)
    return Frame("cam", seq, 500 * seq, Fraction(1, 1000), image)


def feature(seq: int) -> np.ndarray:
    return np.random.default_rng(seq // 3).standard_normal(8).astype(np.float32)
