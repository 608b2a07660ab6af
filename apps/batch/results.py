"""The tables of a batch: every item in one file, and those that are no good with the reason."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from retain.apps.batch.manifest import BAD, Manifest, Row
from retain.pipeline.files import write_whole
from retain.pipeline.redact import redact

LINES, PARQUET, TABLE, REASONS = "items.jsonl", "items.parquet", "items.csv", "quarantine.csv"
_REASONS = ("key", "state", "cause", "message", "attempts", "path")


def write_tables(out: Path, manifest: Manifest) -> list[Path]:
    """Write them into ``out``, each atomically; returns those that are there. Without pyarrow
    (extra ``batch``) the table is CSV."""
    encode = msgspec.json.Encoder().encode
    write_whole(out / LINES, b"".join(encode(plain(row)) + b"\n" for row in manifest.rows()))
    made = [out / LINES]
    if importlib.util.find_spec("pyarrow"):
        write_whole(out / PARQUET, _parquet(manifest.rows()))
        (out / TABLE).unlink(missing_ok=True)
        made.append(out / PARQUET)
    else:
        write_whole(out / TABLE, _csv([flat(row) for row in manifest.rows()]))
        made.append(out / TABLE)
    bad = [asdict(plain(row)) for row in manifest.rows(BAD)]
    write_whole(out / REASONS, _csv(bad, _REASONS))
    made.append(out / REASONS)
    return made


def plain(row: Row) -> Row:
    """Without the credentials that an address may hold."""
    if "://" not in row.path:
        return row
    key, path, message = redact(row.key), redact(row.path), redact(row.message)
    return msgspec.structs.replace(row, key=key, path=path, message=message)


def flat(row: Row) -> dict[str, Any]:
    """A row of the table: single facts become columns ``facts.NAME``, others JSON."""
    known = asdict(plain(row))
    facts: Mapping[str, Any] = known.pop("facts")
    single = (str, int, float, bool, type(None))
    return known | {
        f"facts.{name}": value if isinstance(value, single) else json.dumps(value)
        for name, value in facts.items()
    }


def _parquet(rows: Iterator[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = [flat(row) for row in rows]
    names = dict.fromkeys(name for row in table for name in row)
    columns = {name: _column([row.get(name) for row in table]) for name in names}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def _column(values: list[Any]) -> list[Any]:
    """One type for a column: numbers as they are, mixtures as words."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return [float(v) if float in kinds and v is not None else v for v in values]
    if len(kinds) == 1:
        return values
    return [None if value is None else str(value) for value in values]


def _inert(value: Any) -> Any:
    """Words that a spreadsheet would take for a formula, with the mark that makes them words."""
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def _csv(rows: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> bytes:
    rows = list(rows)
    columns = list(names) or list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _inert(value) for name, value in row.items()})
    return text.getvalue().encode()
