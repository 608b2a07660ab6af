"""Tables of scores over seeds, their intervals, and the JSON they are kept in."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retain.pipeline.errors import UsageError

VERSION = 1


@dataclass(frozen=True, slots=True)
class Score:
    """One policy, one metric, one kind of stream: a value per seed."""

    row: str
    """The policy."""
    column: str
    """The metric."""
    stream: str
    values: list[float]
    """One per seed; a seed that has nothing to say (no event of that age) is left out."""
    higher_is_better: bool = True

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise of the project, and what came of it."""

    text: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Table:
    """What one question to the harness gave."""

    name: str
    title: str
    note: str
    scores: list[Score]
    bars: list[Bar] = field(default_factory=list)

    def means(self) -> dict[tuple[str, str, str], float]:
        """(stream, row, column) -> mean over seeds."""
        return {(s.stream, s.row, s.column): s.mean for s in self.scores}


def save(path: Path, tables: Sequence[tuple[Table, Mapping[str, Any]]]) -> None:
    """Write tables, each with the options it was made with."""
    made = [{"options": dict(options), "table": asdict(table)} for table, options in tables]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"version": VERSION, "tables": made}, indent=1, allow_nan=False)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def load(path: Path) -> list[tuple[Table, dict[str, Any]]]:
    """The tables in ``path`` and their options. Raises UsageError for a file of another kind."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if whole["version"] != VERSION:
            raise ValueError(whole["version"])
        return [(_table(item["table"]), dict(item["options"])) for item in whole["tables"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is not a result of this evaluation ({type(error).__name__}).",
            hint="Name another file, or delete this one.",
        ) from error


def _table(item: Mapping[str, Any]) -> Table:
    scores = [Score(**score) for score in item["scores"]]
    bars = [Bar(**bar) for bar in item["bars"]]
    return Table(item["name"], item["title"], item["note"], scores, bars)
