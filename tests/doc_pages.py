"""What is written in the pages of docs/: code, commands, and the remarks above them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
PAGES = [*sorted(DOCS.glob("*.md")), *TUTORIALS]


def called(page: Path) -> str:
    """As the contents name it."""
    return str(page.relative_to(DOCS).with_suffix(""))


@dataclass(frozen=True)
class Block:
    """``remark`` is the HTML comment right above, as ``compiled only: needs a camera``; where that
    is ``set-up``, its further lines are code that the page does not show, and run first."""

    page: Path
    line: int
    language: str
    text: str
    remark: str
    before: str

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"


FENCE = re.compile(
    r"(?:^<!-- (?:set-up\n(?P<before>(?:(?!-->).)*?)|(?P<remark>[^\n]*?) )-->\n)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.M | re.S,
)


def fences(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"],
            found["text"],
            found["remark"] or "",
            found["before"] or "",
        )
        for found in FENCE.finditer(text)
    ]


@dataclass
class Step:
    """A command of a console, and the lines that are shown below it."""

    where: str
    command: str
    shown: list[str]


def steps(block: Block) -> list[Step]:
    """What a ``console`` block shows: commands after ``$ ``, a backslash at their end goes on."""
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(block.where, line.removeprefix("$ "), []))
        elif found[-1].command.endswith("\\"):
            found[-1].command = found[-1].command.removesuffix("\\") + line.strip()
        elif line.strip():
            found[-1].shown.append(line)
    return found


def code(page: Path) -> list[Block]:
    return [block for block in fences(page) if block.language == "python"]


def literal(page: Path) -> list[tuple[int, str]]:
    """(line, text) of what is shown as typed: fences without a language, and indented lines."""
    out, inside, shown = [], False, False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside, shown = not inside, line in ("```", "```console", "```sh", "```bash")
        elif (inside and shown) or (not inside and line.startswith("    ")):
            out.append((number, line.strip()))
    return out


COMMAND = re.compile(r"^(?:[a-z]+)?\$? *(?:\.venv/bin/)?(?:\S*torchrun .*-m )?retain ")
SPAN = re.compile(r"`(retain [^`\n]+)`")


def commands(page: Path) -> list[tuple[int, list[str]]]:
    """(line, words) of every `retain …` that stands alone on a line or in backquotes."""
    found = []
    for number, line in literal(page):
        if start := COMMAND.match(line):
            found.append((number, line[start.end() :]))
    for number, line in enumerate(page.read_text().splitlines(), 1):
        found += [(number, span.removeprefix("retain ")) for span in SPAN.findall(line)]
    return [(number, words(line)) for number, line in found]


def words(line: str) -> list[str]:
    """Split as a shell does, without the remark after two blanks and a #."""
    line = re.split(r"\s+# |\s{2,}#", line)[0].replace("\\|", "|").rstrip("\\ ")
    try:
        return shlex.split(line)
    except ValueError:  # a quote that goes on in the next line
        return line.replace("'", "").replace('"', "").split()
