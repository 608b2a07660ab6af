"""Pages of the reference: every module has a place, and docstrings are shown as they are meant."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import DOCS

ROOT = DOCS.parent


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_is_on_one_page(pages: ModuleType, tmp_path: Path) -> None:
    pages.write_pages(ROOT, tmp_path)
    listed = [
        line.removeprefix(".. automodule:: ")
        for page in tmp_path.glob("*.rst")
        for line in page.read_text().splitlines()
        if line.startswith(".. automodule:: ")
    ]
    there = [
        "retain." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in pages.FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("__")
    ]
    assert sorted(listed) == sorted(there)
    contents = (tmp_path / "index.rst").read_text()
    assert all(f"   {p.stem}\n" in contents for p in tmp_path.glob("*.rst") if p.stem != "index")


def test_pages_of_packages_that_are_gone_go(pages: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "memory.gone.rst").touch()
    pages.write_pages(ROOT, tmp_path)
    assert not (tmp_path / "memory.gone.rst").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a ``b_c`` and d_ of |x| * y", "a ``b_c`` and d\\_ of \\|x\\| \\* y\n"),
        ("one `word` more", "one ``word`` more\n"),
        ("``code that\ngoes on``", "``code that\ngoes on``\n"),
        ("Says:\n\n    S = a * b", "Says:\n\n::\n\n        S = a * b\n"),
        (
            "name    what it is\nother   another",
            "::\n\n    name    what it is\n    other   another\n",
        ),
        ("- one\n  goes on\n- two", "- one\n  goes on\n- two\n"),
        ("", "\n"),
    ],
)
def test_plain_text_is_shown_as_it_is(pages: ModuleType, text: str, shown: str) -> None:
    assert pages.plain(text) == shown


def test_types_are_named_as_they_are_written(pages: ModuleType) -> None:
    spelt = "~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.float32]]"
    inner = "str | int | float | bool | None | list[Json] | dict[str, Json]"
    outer = f"str | int | float | bool | None | list[{inner}] | dict[str, {inner}]"
    shown = pages.short_types(None, "", "", None, None, f"(a: {spelt}, b: {outer})", None)
    assert shown == ("(a: ~numpy.typing.NDArray[~numpy.float32], b: Json)", None)
