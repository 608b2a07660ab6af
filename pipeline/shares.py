"""How one budget of bytes is shared, and when bytes move. Pure: no memory, no process, no clock.

The same functions divide a graph's budget among its stages and a hub's among its memories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import msgspec

from retain.pipeline.errors import UsageError, nearest

STEP = 64
"""Nothing moves for less than this part of the budget."""

Bytes = Mapping[str, int]


def apportion(
    budget_bytes: int,
    least: Bytes,
    weights: Mapping[str, float],
    most: Bytes | None = None,
) -> dict[str, int]:
    """Bytes for each name: its ``least``, and of what is left a share by its weight (1 where none
    is given), rounded down; nobody gets more than his ``most``, where there is one. They add up to
    at most ``budget_bytes``.

    Raises UsageError when the least of all is more than the budget, or a weight is no number >= 0.
    """
    for name, weight in weights.items():
        if name not in least:
            raise UsageError(f"There is nothing called {name!r} to share with.",
                             hint=nearest(name, least))  # fmt: skip
        if not (math.isfinite(weight) and weight >= 0):
            raise UsageError(f"The weight of {name!r} must be a number >= 0, got {weight}.")
    spare = budget_bytes - sum(least.values())
    if spare < 0:
        told = ", ".join(f"{name!r} {need}" for name, need in least.items())
        raise UsageError(
            f"Together they need at least {sum(least.values())} bytes ({told}), but the budget is "
            f"{budget_bytes}.",
            hint="Raise the budget or configure smaller memories.",
        )
    # Exact: a float's rounding up could hand out a byte that is not there.
    exact = {name: Fraction(weights.get(name, 1.0)) for name in least}
    shares, most = dict(least), most or {}
    growing = {name for name, weight in exact.items() if weight}
    while growing:
        level = spare / sum(exact[name] for name in growing)
        full = {n for n in growing if n in most and least[n] + level * exact[n] >= most[n]}
        for name in full or growing:
            shares[name] += max(0, most[name] - least[name]) if full else int(level * exact[name])
            spare -= shares[name] - least[name]
        growing = growing - full if full else set()
    return shares


def needed(
    needs: Bytes, least: Bytes, weights: Mapping[str, float], most: Bytes | None = None
) -> int:
    """The budget of which ``apportion`` gives everybody at least his ``needs``, where his weight
    and his ``most`` allow it."""
    most = most or {}
    exact = {name: Fraction(weights.get(name, 1.0)) for name in least}
    wanted = {name: min(need, most.get(name, need)) - least[name] for name, need in needs.items()}
    level = max((more / exact[name] for name, more in wanted.items() if exact[name]), default=0)
    shares = {name: least[name] + math.ceil(max(level, 0) * w) for name, w in exact.items()}
    return sum(max(least[n], min(share, most.get(n, share))) for n, share in shares.items())


class Use(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a stage says of its bytes at one frame."""

    limit: int
    """Those it may hold."""
    need: int
    """Those within which it keeps what it has and takes in one more; 0: it cannot say."""


def moved(
    budget_bytes: int,
    shares: Bytes,
    least: Bytes,
    weights: Mapping[str, float],
    uses: Mapping[str, Use],
    peaks: Bytes,
) -> dict[str, int]:
    """The limits that are to change, either all down or all up; of ``uses`` at one moment.

    ``shares``: what ``apportion`` gives everybody. ``peaks``: the most that each ever needed.

    Who is full asks for as much again as it has, or for what it lacks of its share if that is
    more. It is given what nobody has. Where nobody has anything, those that are not full lend; they
    keep their least, and all they ever needed with as much again as that is above the least, a step
    at least. And where that is too little, who has more than his share gives back what a full one
    lacks of its own. Nothing moves while nobody is full, nor for less than a step: one in ``STEP``
    parts of the budget.
    """
    limits = {name: use.limit for name, use in uses.items()}
    full = {
        name: weight
        for name, use in uses.items()
        if use.need > use.limit and (weight := weights.get(name, 1.0))
    }
    if not full:
        return {}
    step = max(1, budget_bytes // STEP)
    free = budget_bytes - sum(limits.values())
    owed = {name: max(0, shares[name] - limits[name]) for name in full}
    if free >= step:
        return _given(limits, free, owed, full)
    asked = sum(max(limits[name], owed[name], step) for name in full)
    kept = {n: max(least[n], peak + max(peak - least[n], step)) for n, peak in peaks.items()}
    lenders = [name for name, use in uses.items() if name not in full and use.need]
    spare = {name: max(0, limits[name] - kept[name]) for name in lenders}
    lent = min(asked, sum(spare.values()))
    if free + lent >= step:
        return _less(limits, lent, spare)
    over = {name: max(0, limits[name] - shares[name]) for name in uses}
    back = min(sum(owed.values()), sum(over.values()))
    return _less(limits, back, over) if free + back >= step else {}


def _given(limits: Bytes, free: int, owed: Bytes, weights: Mapping[str, float]) -> dict[str, int]:
    """``free`` bytes handed out: first what is owed, then by weight."""
    parts = _split(min(free, sum(owed.values())), owed)
    rest = apportion(free - sum(parts.values()), dict.fromkeys(weights, 0), weights)
    more = {name: parts[name] + rest[name] for name in weights}
    return {name: limits[name] + part for name, part in more.items() if part}


def _less(limits: Bytes, amount: int, among: Bytes) -> dict[str, int]:
    """Limits that give up ``amount`` together, in proportion to ``among``."""
    parts = _split(amount, among)
    return {name: limits[name] - part for name, part in parts.items() if part}


def _split(amount: int, among: Bytes) -> dict[str, int]:
    """``amount`` in proportion to ``among``, whose sum it does not exceed; nobody gets more than
    stands there. Rounded up from the first, so that it is all of it."""
    parts, left, total = {}, amount, sum(among.values())
    for name, one in among.items():
        parts[name] = min(one, -(-left * one // total)) if total else 0
        left, total = left - parts[name], total - one
    return parts
