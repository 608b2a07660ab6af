"""A short watch of colours, and a page that watches on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import media
import pytest
from ask_parts import film
from ask_parts import watched as watched_page
from colour_parts import RATE, Words, shot, watched

from retain.apps.ask.places import Remembered, open_memory
from retain.apps.page.server import Page


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    return media.write_video(folder / "colours.mp4", 160, size=(128, 96), rate=RATE, draw=shot)


@pytest.fixture(scope="module")
def result(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watched(video, tmp_path_factory.mktemp("results") / "colours")


@pytest.fixture
def folder(result: Path, tmp_path: Path) -> Path:
    """A copy to damage and to write beside."""
    return Path(shutil.copytree(result, tmp_path / "result"))


@pytest.fixture
def memory(folder: Path) -> Remembered:
    return open_memory(folder)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """OpenCLIP is ``Words`` in this test; which encoders were made."""
    from retain.models.encoders import base

    made: list[str] = []
    real = base.create

    def create(name: str, *, device: str = "auto", download: bool = False) -> base.Encoder:
        made.append(name)
        return Words() if name.startswith("openclip") else real(name, device=device)

    monkeypatch.setattr(base, "create", create)
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film"), seconds=300)  # longer than these tests


@pytest.fixture(scope="module")
def page(source: Path) -> Iterator[Page]:
    with watched_page(source, frames=48) as made:  # beyond 1.2 s and 3 s more: two moments
        yield made
