"""The evaluation as a whole: which tables, and where they are kept between runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from retain.apps.evaluate_moments import results
from retain.apps.evaluate_moments.ablations import ablate
from retain.apps.evaluate_moments.boundary import boundaries
from retain.apps.evaluate_moments.costs import cost
from retain.apps.evaluate_moments.results import Table
from retain.apps.evaluate_moments.tables import Options, Tell, cover, query, recall
from retain.pipeline.errors import UsageError, nearest

TABLES: dict[str, Callable[[Options, Tell], Table]] = {
    "recall": recall,
    "query": query,
    "coverage": cover,
    "boundaries": boundaries,
    "cost": cost,
    "ablations": ablate,
}


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What `retain eval moments` was asked."""

    only: tuple[str, ...] = ()
    """Names of tables; empty: all."""
    out: Path = Path("retain-out/moments")
    """Folder of ``moments.json``; tables in it that were made with the same options stay."""
    table: Options = field(default_factory=Options)


def evaluate(options: EvalOptions, tell: Callable[[str], None]) -> list[Table]:
    """Make the tables that are not there yet and return those asked for, in the order of
    ``TABLES``. ``moments.json`` is written after each, so an interrupted run goes on.

    Raises UsageError for an unknown table, or a file in the way that is none of ours.
    """
    for name in options.only:
        if name not in TABLES:
            raise UsageError(f"Unknown table {name!r}.", hint=nearest(name, TABLES))
    # One thread: what is measured is work, not the machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    path = options.out / "moments.json"
    made = {
        table.name: (table, how) for table, how in (results.load(path) if path.exists() else [])
    }
    how = asdict(options.table)
    for name in options.only or tuple(TABLES):
        if name in made and made[name][1] == how:
            tell(f"{name}: already there")
            continue
        made[name] = TABLES[name](options.table, tell), how
        results.save(path, [made[n] for n in TABLES if n in made])
    return [made[name][0] for name in TABLES if name in (options.only or TABLES)]
