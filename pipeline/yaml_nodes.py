"""YAML read as nodes, which (unlike loaded values) know where they stand in the file."""

from __future__ import annotations

from typing import Any, NoReturn

import yaml

from retain.pipeline.errors import GraphError, UsageError, nearest


class Marked:
    """Reads one file called ``name``; what is wrong is a GraphError with line and column."""

    EMPTY_HINT = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def _compose(self, text: bytes) -> yaml.Node:
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise self._error(f"Not valid YAML: {error.problem}.", "", line, column) from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.name}: not valid YAML: {error}.") from None
        if root is None:
            raise self._error("The file is empty.", self.EMPTY_HINT, 1, 1)
        return root

    def _mapping(
        self, node: yaml.Node, what: str, allowed: tuple[str, ...] | None = None
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"Expected a mapping for {what}, as in 'key: value'.")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            word = str(self._value(key))
            if word in found:
                self._fail(key, f"{word!r} is given twice in {what}.")
            if allowed is not None and word not in allowed:
                self._fail(key, f"{word!r} is not a key of {what}.", nearest(word, allowed))
            found[word] = value
        return found

    def _value(self, node: yaml.Node) -> Any:
        try:
            return yaml.constructor.SafeConstructor().construct_document(node)
        except yaml.constructor.ConstructorError as error:
            self._fail(node, f"Not a plain value: {error.problem}.")

    def _fail(self, node: yaml.Node, what: str, hint: str = "") -> NoReturn:
        mark = node.start_mark
        raise self._error(what, hint, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0)

    def _error(self, what: str, hint: str, line: int, column: int) -> GraphError:
        place = f"{self.name}, line {line}, column {column}: "
        return GraphError(place + what, hint=hint, line=line, column=column)
