"""States of other versions: earlier ones are brought up, later ones refused with what they need."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import retain
from retain.memory import migrate
from retain.memory.base import State
from retain.memory.snapshot import MemoryFile, config_hash, load, save
from retain.pipeline.errors import StateError

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a kind without steps, and of one with."""
    plain = ({"kind": "thing"}, State({"x": np.arange(4.0)}, {"n": 1}))
    held = {"rows.seconds": np.arange(3.0), "rows.mass": np.full(3, 2.0)}
    frames = ({"kind": "frames"}, State(held, {"seen": 3}))
    save(tmp_path / "state", MemoryFile("cam", 41, {"a": plain, "b": frames}))
    return tmp_path / "state"


def forged(path: Path, change: Change) -> Path:
    """``path`` with another header, and the checksum that goes with it."""
    from hashlib import sha256

    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    outer = json.loads(data[8 : 8 + length])
    header = json.loads(outer["__metadata__"]["retain"])
    change(header)
    header["sha256"] = "0" * 64
    outer["__metadata__"]["retain"] = json.dumps(header, separators=(",", ":"))
    raw = json.dumps(outer, separators=(",", ":")).encode()
    whole = struct.pack("<Q", len(raw)) + raw + data[8 + length :]
    sealed = whole.replace(b"0" * 64, sha256(whole).hexdigest().encode())
    out = path.with_name("forged")
    out.write_bytes(sealed)
    return out


def first_version(header: dict[str, Any]) -> None:
    """As files were before they said versions."""
    header["schema"] = "retain-memory/1"
    del header["by"]
    for told in header["memories"].values():
        del told["version"]


def test_a_file_says_who_wrote_it_and_which_versions(file: Path) -> None:
    got = load(file)
    assert got.by == retain.__version__
    assert got.versions == {"a": 1, "b": migrate.newest("frames")} == {"a": 1, "b": 2}


def test_a_file_of_the_first_version_shows_the_versions_of_its_memories(file: Path) -> None:
    got = load(forged(file, first_version))
    assert (got.by, got.versions) == ("", {"a": 1, "b": 2})
    assert got.memories["b"][1].tensors["rows.mass"].tolist() == [2.0, 2.0, 2.0]


def test_an_earlier_memory_is_brought_up_and_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def older(header: dict[str, Any]) -> None:
        header["memories"]["b"]["version"] = 1

    path = forged(file, older)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            got = load(path)
    assert got.versions["b"] == 1
    assert got.memories["b"][1].tensors["rows.mass"].tolist() == [1.0, 1.0, 1.0]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} holds 'b' of version 1, read as 2."
    ]


def test_what_is_not_of_the_version_it_says_is_refused(file: Path) -> None:
    def gaussians(header: dict[str, Any]) -> None:
        told = header["memories"]["a"]
        told["config"] = {"kind": "gaussians"}
        told["config_sha256"] = config_hash(told["config"])

    with pytest.raises(StateError, match="its 'a' is damaged. It is no 'gaussians' of version 1"):
        load(forged(file, gaussians))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda h: h.update(schema="retain-memory/3", by="0.7.0"),
            r"is a memory file of version 3; retain \S+ reads up to 2\. It needs retain 0\.7\.0, "
            "which wrote it, or later",
        ),
        (
            lambda h: h.update(schema="retain-memory/3", by={"no": "text"}),
            "It needs a later retain",
        ),
        (
            lambda h: (h["memories"]["b"].update(version=5), h.update(by="0.4.0")),
            r"holds 'b' of version 5; retain \S+ reads up to 2\. It needs retain 0\.4\.0",
        ),
        (lambda h: h.update(schema="retain-memory/02"), "it is no memory file"),
        (lambda h: h.update(schema=7), "it is no memory file"),
        (lambda h: h["memories"]["a"].update(version=-1), "header cannot be read"),
        (lambda h: h["memories"]["a"].update(version="2"), "header cannot be read"),
    ],
)
def test_a_later_version_says_what_it_needs(file: Path, change: Change, told: str) -> None:
    with pytest.raises(StateError, match=told):
        load(forged(file, change))


def full_map() -> migrate.Saved:
    """Five Gaussians, three of them stable, in a map of version 2 with no room left."""
    tensors = {
        "rows.ids": np.array([4, 0, 2, 1, 3], np.int32),
        "rows.weights": np.array([5, 1, 3, 9, 9], np.float32),
        "rows.means": np.arange(15, dtype=np.float32).reshape(5, 3),
        "ids.died": np.zeros(5, np.int32),
    }
    header = {"rows": 5, "peak": 5, "stable": 3, "epoch": 7, "whole_before": 2}
    return migrate.Saved({"kind": "gaussians"}, tensors, header)


def test_of_a_full_older_map_the_least_believed_leave() -> None:
    saved = full_map()
    migrate.bring_up(saved, 2)
    assert saved.header == {"rows": 4, "peak": 4, "stable": 2, "epoch": 8, "whole_before": 8}
    assert saved.tensors["rows.weights"].tolist() == [5, 3, 9, 9]
    assert saved.tensors["rows.means"][:, 0].tolist() == [0, 6, 9, 12]
    assert saved.tensors["rows.ids"].tolist() == [0, 1, 2, 3]
    assert saved.tensors["ids.died"].tolist() == saved.tensors["rows.doubted"].tolist() == [0] * 4


def test_of_an_older_map_with_room_nothing_leaves() -> None:
    saved = full_map()
    saved.header["rows"] = 50
    migrate.bring_up(saved, 2)
    assert saved.header == {"rows": 48, "peak": 5, "stable": 3, "epoch": 7, "whole_before": 2}
    assert saved.tensors["rows.ids"].tolist() == [4, 0, 2, 1, 3]
    assert saved.config["expire_unseen"] is True
