"""The manifest: a SQLite file that knows of every item how far it is. The parent alone writes it.

Whatever kills a batch leaves items ``running``; they are done again, and their results replaced as
a whole, so that each item is in the results once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from retain.apps.batch.engine import Job, Outcome
from retain.apps.batch.items import Item, identity
from retain.pipeline.errors import StateError, UsageError

State = Literal["pending", "running", "done", "failed", "quarantined"]
STATES: tuple[State, ...] = get_args(State)
BAD: tuple[State, ...] = ("failed", "quarantined")
VERSION = 1
_ABOUT = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_ITEMS = """
CREATE TABLE IF NOT EXISTS items (
  place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT NOT NULL UNIQUE, path TEXT NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, fingerprint TEXT NOT NULL,
  state TEXT NOT NULL, cause TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  attempts INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,
  out TEXT NOT NULL DEFAULT '', facts TEXT NOT NULL DEFAULT '{}', listed INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_state ON items (state, place) WHERE listed;
"""


class Row(msgspec.Struct, frozen=True):
    """An item as the results tell it."""

    id: str
    key: str
    path: str
    size: int
    fingerprint: str
    state: State
    cause: str
    message: str
    attempts: int
    seconds: float
    out: str
    """Its results, relative to the batch's folder; empty where there are none."""
    facts: dict[str, Any]


_COLUMNS = "id, key, path, size, fingerprint, state, cause, message, attempts, seconds, out, facts"


class Manifest:
    """``path`` is made where it is not. ``task`` is what a batch does for life.

    Raises UsageError when it is of another task, StateError when it is no manifest.
    """

    def __init__(self, path: Path, task: str) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_ABOUT)
            about = dict(self._db.execute("SELECT name, value FROM about"))
            if about.get("version", str(VERSION)) != str(VERSION):
                raise StateError(
                    f"{str(path)!r} was written by another version of retain.",
                    hint="Choose another --out, or remove the folder.",
                )
            self._db.executescript(_ITEMS)
            self._db.execute(f"SELECT {_COLUMNS}, listed FROM items LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise StateError(
                f"{str(path)!r} is no manifest of a batch: {error}.",
                hint="Choose another --out, or remove the folder.",
            ) from error
        if about.get("task", task) != task:
            raise UsageError(
                f"{str(path.parent)!r} holds a batch of {about['task']!r}, not of {task!r}.",
                hint="Choose another --out.",
            )
        self._db.executemany(
            "INSERT OR IGNORE INTO about VALUES (?, ?)", [("version", VERSION), ("task", task)]
        )

    def close(self) -> None:
        self._db.close()

    def belongs(self, given: str, vouched: bool) -> None:
        """Remember that this is the batch of the list ``given``. Where it is another one's, and
        nobody has ``vouched`` for the folder, raise UsageError: results of another data set that
        has the same name would be replaced."""
        known = self._db.execute("SELECT value FROM about WHERE name = 'given'").fetchone()
        if known and known[0] != given and not vouched:
            raise UsageError(
                f"The folder for the results of {given!r} holds those of {known[0]!r}.",
                hint="Choose another one with --out; or say that one with --out to go on with it.",
            )
        self._db.execute("INSERT OR REPLACE INTO about VALUES ('given', ?)", (given,))

    def release(self) -> None:
        """Nobody is at work any more: what was dropped is to be done."""
        self._db.execute("UPDATE items SET state = 'pending' WHERE listed AND state = 'running'")

    def plan(self, items: Iterable[Item], fingerprint: str, there: set[str], retry: bool) -> None:
        """Settle what is to be done: what is new, was broken off, has changed (the file or the
        ``fingerprint``), has lost its results (``there``: those in place, by id), or is to be
        tried once more (``retry``: what failed). Items no longer listed keep their rows."""
        db = self._db
        known = {
            key: rest
            for key, *rest in db.execute(
                "SELECT key, size, mtime_ns, fingerprint, state, id, listed, path FROM items"
            )
        }
        new, again, back = [], [], []
        for item in items:
            was = known.pop(item.key, None)
            if was is None:
                new.append(
                    (identity(item.key), item.key, item.path, item.size, item.mtime_ns, fingerprint)
                )
                continue
            *mark, state, id, listed, path = was
            same = mark == [item.size, item.mtime_ns, fingerprint]
            if same and (id in there if state == "done" else state in BAD and not retry):
                if not listed or path != item.path:  # the data set may have been moved
                    back.append((item.path, item.key))
            else:
                again.append((item.path, item.size, item.mtime_ns, fingerprint, item.key))
        gone = [(key,) for key, (*_, listed, _) in known.items() if listed]
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("UPDATE items SET listed = 0 WHERE key = ?", gone)
            db.executemany("UPDATE items SET listed = 1, path = ? WHERE key = ?", back)
            db.executemany(
                "UPDATE items SET path = ?, size = ?, mtime_ns = ?, fingerprint = ?, listed = 1,"
                " state = 'pending', cause = '', message = '' WHERE key = ?",
                again,
            )
            db.executemany(
                "INSERT INTO items (id, key, path, size, mtime_ns, fingerprint, state, listed)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending', 1)",
                new,
            )

    def jobs(self, work: Path, logs: Path) -> Iterator[Job]:
        """What is pending, in order; each is ``running`` once it is taken."""
        last = -1
        while True:
            row = self._db.execute(
                "SELECT place, id, path, size, mtime_ns FROM items"
                " WHERE listed AND state = 'pending' AND place > ? ORDER BY place LIMIT 1",
                (last,),
            ).fetchone()
            if row is None:
                return
            last, id, path, size, mtime_ns = row
            self._db.execute(
                "UPDATE items SET state = 'running', attempts = attempts + 1 WHERE place = ?",
                (last,),
            )
            yield Job(id, path, size, mtime_ns, str(work / id), str(logs / f"{id}.log"))

    def record(self, outcome: Outcome, out: str) -> int:
        """How the item ended; its results, if any, are in place at ``out``. Returns its size."""
        found = self._db.execute(
            "UPDATE items SET state = ?, cause = ?, message = ?, seconds = ?, out = ?, facts = ?"
            " WHERE id = ? RETURNING max(size, 0)",
            (
                *(outcome.state, outcome.cause, outcome.message, outcome.seconds, out),
                *(json.dumps(outcome.facts), outcome.id),
            ),
        ).fetchall()
        return int(found[0][0])

    def counts(self) -> dict[str, tuple[int, int]]:
        """state -> (items, bytes of those whose size is known), of what is listed."""
        found = self._db.execute(
            "SELECT state, count(*), sum(max(size, 0)) FROM items WHERE listed GROUP BY state"
        )
        return {state: (number, nbytes) for state, number, nbytes in found}

    def causes(self) -> list[tuple[State, str, int, str, str]]:
        """(state, cause, items, one of them, its message), most frequent first."""
        return self._db.execute(
            "SELECT state, cause, count(*), min(key), message FROM items"
            " WHERE listed AND state IN ('failed', 'quarantined') GROUP BY state, cause"
            " ORDER BY count(*) DESC, cause"
        ).fetchall()

    def rows(self, states: Iterable[State] = STATES) -> Iterator[Row]:
        """What is listed and in one of ``states``, in order."""
        names = _COLUMNS.split(", ")
        for row in self._db.execute(
            f"SELECT {_COLUMNS} FROM items WHERE listed"
            " AND state IN (SELECT value FROM json_each(?)) ORDER BY place",
            (json.dumps(list(states)),),
        ):
            told = dict(zip(names, row, strict=True))
            yield Row(**told | {"facts": msgspec.json.decode(told["facts"])})
