"""A folder as it lies on disk, listed once: later questions cost no system call."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MOST_ENTRIES = 5_000_000
MOST_LINKS = 10_000
"""Linked folders that are entered: links to one another can be walked in very many ways."""
DEEPEST = 12
_SKIPPED = ("__MACOSX", "@eaDir")
"""Folders that other programs leave; hidden ones are passed over too."""
_TELL = 20_000

Tell = Callable[[int], None]


@dataclass(slots=True)
class Folder:
    """One folder. Names are of the folders and files directly in it."""

    path: Path
    below: dict[str, Folder] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    """Files of 0 bytes."""

    def at(self, place: str) -> Folder | None:
        """The folder ``a/b`` below this one."""
        here: Folder | None = self
        for name in place.split("/"):
            here = here.below.get(name) if here is not None else None
        return here

    def ending(self, *suffixes: str) -> list[str]:
        """Files with one of these endings, in any case, sorted."""
        return sorted(name for name in self.files if name.lower().endswith(suffixes))

    def has(self, name: str) -> bool:
        """Whether there is a file ``a/b.txt``."""
        place, _, last = name.rpartition("/")
        folder = self.at(place) if place else self
        return folder is not None and last in folder.files

    def walk(self) -> Iterator[Folder]:
        """This folder and all below it, each before its own."""
        left = [self]
        while left:
            folder = left.pop()
            yield folder
            left.extend(folder.below[name] for name in sorted(folder.below, reverse=True))

    def count(self) -> int:
        """Files below."""
        return sum(len(folder.files) for folder in self.walk())


@dataclass(slots=True)
class Tree:
    """What was listed, and what could not be."""

    root: Folder
    denied: list[Path] = field(default_factory=list)
    """Folders that may not be listed, and those that went away meanwhile."""
    loops: list[Path] = field(default_factory=list)
    """Links to a folder that they lie in."""
    dead: list[Path] = field(default_factory=list)
    """Links to nothing."""
    cut: bool = False
    """There is more than was listed."""


def scan(path: Path, tell: Tell | None = None, most: int = MOST_ENTRIES) -> Tree:
    """List ``path`` and all below; links are followed, but never round in a circle.

    ``tell`` is called with the number of entries now and then.
    """
    tree = Tree(Folder(path))
    seen = links = 0
    left: list[tuple[Folder, frozenset[tuple[int, int]]]] = [(tree.root, frozenset())]
    while left:
        folder, above = left.pop()
        try:
            there = os.stat(folder.path)
            entries = sorted(os.scandir(folder.path), key=lambda entry: entry.name)
        except (OSError, ValueError):
            tree.denied.append(folder.path)
            continue
        mark = (there.st_dev, there.st_ino)
        if mark in above:
            tree.loops.append(folder.path)
            continue
        for entry in entries:
            seen += 1
            if tell is not None and seen % _TELL == 0:
                tell(seen)
            if _add(tree, folder, entry):
                links += entry.is_symlink()
                if len(above) >= DEEPEST or links > MOST_LINKS:
                    tree.cut = True
                else:
                    inner = folder.below[entry.name] = Folder(folder.path / entry.name)
                    left.append((inner, above | {mark}))
        if seen > most:
            tree.cut = True
            break
    return tree


def _add(tree: Tree, folder: Folder, entry: os.DirEntry[str]) -> bool:
    """Note a file; true for a folder to be entered."""
    if entry.name.startswith(".") or entry.name in _SKIPPED:
        return False
    try:
        if entry.is_dir():
            return True
        found = entry.stat()
    except OSError:
        tree.dead.append(folder.path / entry.name)
        return False
    if not stat.S_ISREG(found.st_mode):
        return False  # opening a pipe would wait for its other end
    folder.files.add(entry.name)
    if not found.st_size:
        folder.empty.add(entry.name)
    return False
