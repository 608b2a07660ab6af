"""What is known of a data set, and what was found out about a folder."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from retain.datasets.scene.pictures import natural

NAMED = 10
"""Items that are called by name; the rest are counted."""

T = TypeVar("T")
State = Literal["ok", "note", "absent", "partial", "broken"]
"""``note``: worth knowing. ``absent``: a part that was not got at all, which is no fault.
``partial``: something is missing. ``broken``: something cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part as published, such as a split."""

    name: str
    items: int
    frames: int = 0
    """0: not published, or not counted."""


@dataclass(frozen=True, slots=True)
class Kit:
    """A data set as its authors publish it."""

    key: str
    title: str
    use: str
    """What it is for."""
    terms: str
    where: str
    """How one gets it, in words."""
    page: str
    """The data set's own page."""
    layout: str
    """The names that are expected in its folder."""
    parts: tuple[Part, ...] = ()
    unit: str = "videos"
    """What ``Part.items`` counts."""
    protocol: str = ""
    """By what rule results on it are judged."""
    marks: tuple[str, ...] = ()
    """Names in its folder that tell it from others."""

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    names: tuple[str, ...] = ()
    """Of what is missing or broken, at most NAMED."""
    count: int = 0
    """Of all of those."""
    fix: str = ""

    @property
    def listing(self) -> str:
        """The names, and how many more there are."""
        more = self.count - len(self.names)
        return ", ".join(self.names) + (f" and {more:,} more" if more > 0 else "")


@dataclass(slots=True)
class Finding:
    """A data set that was found."""

    kit: Kit
    root: Path
    lines: list[Line] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """What to run on it next."""
    items: int = 0
    """Of the kit's unit that are there."""
    members: list[Path] = field(default_factory=list)
    """What a reader is given, where that is not ``root``: sequences, annotation files."""
    homes: dict[Path, Path] = field(default_factory=dict)
    """Where the pictures of such a file begin."""

    @property
    def state(self) -> Literal["whole", "partial", "broken"]:
        states = {line.state for line in self.lines}
        return "broken" if "broken" in states else "partial" if "partial" in states else "whole"

    def suggest(self, verb: str, place: Path, rest: str = "") -> None:
        """Adds ``retain VERB PLACE REST`` to what to run next, fit for a shell."""
        quoted = shlex.quote(plain(str(place)))
        self.commands.append(f"retain {verb} {quoted} {rest}".rstrip())

    def add(
        self,
        name: str,
        state: State,
        found: str,
        items: Collection[str] = (),
        fix: str = "",
    ) -> None:
        """``items``: what is missing or broken; the first of them are named."""
        first = tuple(plain(one) for one in sorted(items, key=natural)[:NAMED])
        self.lines.append(Line(name, state, plain(found), first, len(items), plain(fix)))


@dataclass(frozen=True, slots=True)
class Report:
    """What is at a place. Without findings it is unknown, and ``guess`` says what it is nearest."""

    path: Path
    findings: tuple[Finding, ...] = ()
    guess: str = ""

    @property
    def state(self) -> Literal["whole", "partial", "broken", "unknown"]:
        states = {finding.state for finding in self.findings}
        for state in ("broken", "partial", "whole"):
            if state in states:
                return state
        return "unknown"


def plain(text: str) -> str:
    """``text`` fit to print: names of files may hold line breaks and bytes that are no text."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown.encode("utf-8", "replace").decode("utf-8")


def counted(count: int, unit: str) -> str:
    """``1 video``, ``2 videos``."""
    return f"{count:,} {unit[:-1] if count == 1 and unit.endswith('s') else unit}"


def some(names: Iterable[str], most: int = 4) -> str:
    """A few names in a row."""
    listed = list(names)
    return ", ".join(plain(name) for name in listed[:most]) + (", …" if len(listed) > most else "")


def against(
    finding: Finding, name: str, there: Collection[str], part: Part | None, known: Iterable[str]
) -> None:
    """A line for a part: what is there of what was published.

    ``known``: the names of all of it, where these are known; else only the number is compared.
    """
    unit, missing = finding.kit.unit, sorted(set(known) - set(there))
    if part is None:
        finding.add(name, "ok", counted(len(there), unit))
    elif not there:
        finding.add(name, "absent", f"none of {part.items:,}")
    elif len(there) >= part.items and not missing:
        finding.add(name, "ok", f"all {counted(part.items, unit)}")
    else:
        found = f"{len(there):,} of {counted(part.items, unit)}"
        finding.add(name, "partial", found, missing, fix=finding.kit.where)


def spread(items: Sequence[T], most: int) -> Sequence[T]:
    """At most ``most`` of the items, evenly chosen."""
    return items[:: max(1, -(-len(items) // most))]
