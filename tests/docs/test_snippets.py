"""What the pages show can be typed: their code runs, their commands and options exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from doc_pages import DOCS, PAGES, Block, called, code, commands, fences

from retain.apps.cli import app
from retain.pipeline.streams import load_streams

COMPILED_ONLY = "compiled only: "
ROOT = DOCS.parent
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CLI = typer.main.get_command(app)


def runnable(page: Path) -> list[Block]:
    """Blocks with a remark of another kind are another test's (``test_howto.py``)."""
    return [block for block in code(page) if not block.remark]


@pytest.mark.parametrize("page", [p for p in PAGES if code(p)], ids=lambda p: p.stem)
def test_code_is_code(page: Path) -> None:
    for block in code(page):
        ast.parse(block.text, block.where)


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda p: p.stem)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page, one after the other, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "snippet"}
    for block in runnable(page):
        exec(block.before, space)
        lines = "\n" * (block.line - 1)
        exec(compile(lines + block.text, str(page), "exec"), space)


def test_what_does_not_run_says_why() -> None:
    for page in PAGES:
        for block in code(page):
            known = (COMPILED_ONLY, "file: ", "line: ")
            assert not block.remark or block.remark.startswith(known), block.where
            assert block.remark != COMPILED_ONLY.strip(), f"{block.where} gives no reason"


def test_code_is_told_from_drawings() -> None:
    """Python that is only indented would be run by nobody."""
    for page in PAGES:
        plain = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
        assert not re.search(r"^ {4}(from \S+ import|import \w+$)", plain, re.M), page.name


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.stem)
def test_commands_exist(page: Path) -> None:
    wrong = [f"{page.name}:{line}: {problem(words)}" for line, words in commands(page)]
    assert [one for one in wrong if not one.endswith(": ")] == []


def test_commands_that_do_not_exist_are_found() -> None:
    assert problem(["wach", "clip.mp4"])
    assert problem(["watch", "clip.mp4", "--fsp", "3"])
    assert problem(["watch", "clip.mp4", "--mode", "papper"])
    assert problem(["watch", "clip.mp4", "--fps", "many"])
    assert problem(["watch", "a.mp4", "b.mp4"])
    assert problem(["bench", "nothing"])
    assert problem(["--verbose", "watch", "clip.mp4"])
    assert not problem(["watch", "clip.mp4", "--mode", "paper"])


def problem(words: list[str]) -> str:
    """What the command line itself would say to ``retain WORDS``, without running it; else ''."""
    command: Any = CLI
    try:
        context = command.context_class(command, info_name="retain")
        while hasattr(command, "resolve_command"):
            words = parsed(command, context, words)[1]
            if not words or words[0] in PLACEHOLDERS:
                return ""
            name, command, words = command.resolve_command(context, words)
            context = command.context_class(command, parent=context, info_name=name)
        values, rest = parsed(command, context, words)
        if rest:
            return f"{rest[0]!r} is one too many"
        for parameter in command.params:
            for value in as_shown(values.get(parameter.name)):
                check(parameter, context, value)
        if name == "bench":
            for bench in as_shown(values.get("names")):
                if not (ROOT / "benchmarks" / f"{bench}.py").is_file():
                    return f"there is no bench {bench!r}"
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return f"{type(error).__name__}: {error.format_message()}"
    return ""


PLACEHOLDERS = ("…", "COMMAND")


def parsed(command: Any, context: Any, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Values by parameter as typed, and what is left. A last option without its value, as in
    "see `retain watch --mode`", has one."""
    takes = {o for p in command.params for o in p.opts if not getattr(p, "is_flag", True)}
    if words and words[-1] in takes:
        words = [*words, "…"]
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    return values, rest


def as_shown(value: Any) -> Iterator[str]:
    """The values that a page shows: several joined by a bar, none where it is left open."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, str):
            yield from (each for each in one.split("|") if each != "…" and not each.isupper())


def check(parameter: Any, context: Any, value: str) -> None:
    """Raises when no such value is possible; files need not exist here."""
    if parameter.type_descriptor.annotation is not Path and parameter.callback is None:
        parameter.process_value(context, (value,) if listed(parameter) else value)


def listed(parameter: Any) -> bool:
    return parameter.multiple or parameter.nargs != 1


def options(command: Any = CLI) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for inner in getattr(command, "commands", {}).values():
        yield from options(inner)


OPTION = re.compile(r"`(--[a-z][a-z-]*)")


def assumptions() -> Iterator[str]:
    """The options of benchmarks/scale.py: one for each field of its plan."""
    text = (ROOT / "benchmarks" / "_scale_model.py").read_text()
    for field in re.findall(r"^    (\w+): (?:int|float|str) =", text, re.M):
        yield "--" + field.replace("_", "-")


def test_options_in_the_text_exist() -> None:
    known = {*options(), *assumptions()}
    for page in TEXTS:
        for name in OPTION.findall(page.read_text()):
            assert name in known, f"{page.name} speaks of {name}"


def test_yaml_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams as `retain serve` reads them; the rest, parts of files, as YAML."""
    monkeypatch.setenv("DOOR_PASSWORD", "secret")
    for page in PAGES:
        for block in fences(page):
            if block.language == "yaml":
                assert isinstance(yaml.safe_load(block.text), dict | list), block.where
                if block.text.startswith("streams:"):
                    file = tmp_path / "cameras.yaml"
                    file.write_text(block.text)
                    assert load_streams(file).streams


def test_links_lead_somewhere() -> None:
    for page in TEXTS:
        text = re.sub(r"`[^`]*`", "", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            file, _, anchor = target.partition("#")
            if "://" in file:
                continue
            there = page if not file else page.parent / file
            assert there.is_file(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(there), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    plain = [re.sub(r"[^\w\s-]", "", head).strip().lower() for head in heads]
    return {re.sub(r"\s", "-", head) for head in plain}


def test_every_page_is_in_the_contents() -> None:
    listed = [
        re.sub(r".*<(.+)>", r"\1", line.strip())
        for block in fences(DOCS / "index.md")
        if block.language == "{toctree}"
        for line in block.text.splitlines()
    ]
    assert sorted(called(p) for p in PAGES if p != DOCS / "index.md") == sorted(
        name for name in listed if name and name[0] != ":" and name != "reference/index"
    )


def our_code() -> Iterator[str]:
    for folder in ("apps", "datasets", "kernels", "memory", "models", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.read_text()


def test_quoted_messages_are_said_somewhere() -> None:
    """troubleshooting.md is read by people who have a message before them."""
    said = re.sub(r'"\s*\n\s*f?"', "", "".join(our_code()))
    for quoted in re.findall("“([^”]+)”", (DOCS / "troubleshooting.md").read_text()):
        for part in quoted.split("…"):
            assert part.strip(" .,") in said, quoted


def test_switches_of_deviations_exist() -> None:
    from retain.memory.evolve import Policy
    from retain.memory.router import RouterConfig
    from retain.models.ditmem.config import EncoderConfig
    from retain.models.ditmem.guided import GuideConfig
    from retain.models.ditmem.released import ReleasedEncoder
    from retain.models.gdkvm.config import GdkvmConfig
    from retain.models.onlinex.config import OnlineXConfig

    made = (Policy, RouterConfig, EncoderConfig, GuideConfig, GdkvmConfig, OnlineXConfig)
    space = {kind.__name__: kind for kind in (*made, ReleasedEncoder)}
    text = (DOCS / "deviations.md").read_text()
    calls = re.findall(r"`([A-Z]\w+\([^`…]*\))`", text)
    assert len(calls) >= 12
    for call in calls:
        eval(call, dict(space))
