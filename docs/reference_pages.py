"""Reference pages from docstrings, one per package, written when the site is built."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDERS = {
    "pipeline": "Frames, sources, stages, graphs, runners; knows no model.",
    "kernels": "Tensors in, tensors out: a reference, a fast CPU path, Triton, one op.",
    "memory": "State per stream, bounded in bytes, saved and restored exactly.",
    "datasets": "Readers of real formats; generators with truth.",
    "models": "Encoders and networks as stages.",
    "apps": "The command line, pages and reports; the only place that wires.",
}


def write_pages(root: Path, out: Path) -> None:
    """Write ``out/index.rst`` and a page for every package below the six folders of ``root``."""
    out.mkdir(exist_ok=True)
    pages = {}
    for folder, about in FOLDERS.items():
        for package in packages(root / folder):
            name = ".".join(package.relative_to(root).parts)
            pages[f"{name}.rst"] = package_page(root, package, about)
    sections = [title("Reference", "="), INTRODUCTION]
    for folder, about in FOLDERS.items():
        names = [n for n in pages if n.removesuffix(".rst").split(".")[0] == folder]
        sections.append(title(f"retain.{folder}", "-") + about + "\n\n" + toctree(names))
    pages["index.rst"] = "\n".join(sections)
    for stale in {p.name for p in out.glob("*.rst")} - set(pages):
        (out / stale).unlink()
    for name, text in pages.items():
        target = out / name
        if not target.is_file() or target.read_text() != text:  # Sphinx goes by the time of change
            target.write_text(text)


INTRODUCTION = """What the docstrings say, package by package. Names that begin with an underscore
may change at any time. Until 1.0 so may the others; :download:`CHANGELOG <../../CHANGELOG.md>` says
when they do.
"""


def packages(folder: Path) -> Iterator[Path]:
    """The folder itself and every folder of modules below it."""
    yield from sorted({module.parent for module in folder.rglob("*.py")})


def package_page(root: Path, package: Path, about: str) -> str:
    name = "retain." + ".".join(package.relative_to(root).parts)
    init = package / "__init__.py"
    text = title(name, "=") + (plain(docstring(init)) if init.is_file() else about) + "\n\n"
    for module in sorted(package.glob("*.py")):
        if module.name.startswith("__"):
            continue
        full = f"{name}.{module.stem}"
        text += title(module.stem, "-") + f".. automodule:: {full}\n\n"
    return text


def docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def title(text: str, mark: str) -> str:
    return f"{text}\n{mark * len(text)}\n\n"


def toctree(names: list[str]) -> str:
    lines = "".join(f"   {name.removesuffix('.rst')}\n" for name in names)
    return f".. toctree::\n   :maxdepth: 1\n\n{lines}\n"


def as_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Sphinx' hook: our docstrings are plain text with ``code`` in it, not reStructuredText."""
    lines[:] = plain("\n".join(lines)).split("\n")


ARRAY = re.compile(
    r"~numpy\.ndarray\[tuple\[(?:~typing\.Any|int), \.\.\.\], "
    r"~numpy\.dtype\[(~?[\w.]+(?:\[[^\]]+\])?)\]\]"
)
JSON = "str | int | float | bool | None | list[Json] | dict[str, Json]"


def short_types(
    app: Any, what: str, name: str, obj: Any, options: Any, given: str | None, back: str | None
) -> tuple[str | None, str | None]:
    """Sphinx' hook: ``NDArray[float32]`` and ``Json`` as they are written, not spelt out."""
    return _short(given), _short(back)


def _short(annotations: str | None) -> str | None:
    if annotations is None:
        return None
    before, text = "", ARRAY.sub(r"~numpy.typing.NDArray[\1]", annotations)
    while before != text:  # Json holds itself
        before, text = text, text.replace(JSON, "Json")
    return text


def plain(text: str) -> str:
    """Plain text as reStructuredText: prose is escaped, what is indented or a table stays as it is.

    A block (lines between blank ones) that begins without an indent, goes on without one and has no
    run of spaces that aligns columns is prose. Everything else is shown literally.
    """
    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        prose = not any(line.startswith(" ") or re.search(r"\S {2,}\S", line) for line in lines)
        if not prose and lines[0].startswith("- "):
            prose = all(re.match(r"- | {2}\S", line) for line in lines)
        if prose:
            out.append(escape(block))
        elif block.strip():
            out.append("::\n\n" + "\n".join("    " + line for line in lines))
    return "\n\n".join(out) + "\n"


def escape(prose: str) -> str:
    """Prose with everything but ``code`` made harmless; that may go on in the next line."""
    parts = re.split(r"(``[^`]+``|`[^`]+`)", prose)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = "``" + part.strip("`") + "``"
        else:
            parts[i] = re.sub(r"([\\*_`|])", r"\\\1", part)
    return "".join(parts)
