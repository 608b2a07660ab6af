"""Graphs written in YAML. A mistake is named with line, column and the nearest valid key.

graph: watch                      # a name, optional
nodes:
  video:
    source: any                   # role: catalogue name, or "package.module:Class"
    with: {source: clip.mp4, fps: 2}
  encode: {stage: encode}
  remember: {stage: remember, with: {mode: robust}}
  log: {sink: jsonl, with: {path: out.jsonl}}
edges:
  - video -> encode -> remember   # block, unless a policy is given:
  - remember -> log: drop_oldest(8)
budget: {mb: 64, weights: {remember: 2}}   # optional, of all stages together
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from retain.pipeline.catalog import Catalog, load_class
from retain.pipeline.errors import GraphError, UsageError, nearest
from retain.pipeline.files import similar
from retain.pipeline.graph import PROMISES, Budget, Graph, Promise, Role
from retain.pipeline.yaml_nodes import Marked

MAX_BYTES = 1_000_000
_ROLES: tuple[Role, ...] = ("source", "stage", "sink")
_TOP = ("graph", "promise", "nodes", "edges", "budget")


def load_graph(
    path: str | Path, catalogs: Mapping[Role, Catalog], overrides: Mapping[str, str] | None = None
) -> Graph:
    """Read, check and build the graph in ``path``.

    ``catalogs`` gives the names each role may use. ``overrides`` maps ``"node.option"`` to a
    value in YAML notation and wins over the file. Raises GraphError (with ``line`` and
    ``column``) for anything that would stop the graph from starting.
    """
    file = Path(path)
    try:
        text = file.read_bytes()
    except OSError as error:
        hint = similar(file) if isinstance(error, FileNotFoundError) else ""
        told = f"The graph {str(file)!r} cannot be read: {error.strerror}."
        raise UsageError(told, hint=hint) from None
    if len(text) > MAX_BYTES:
        raise UsageError(f"The graph {str(file)!r} is larger than {MAX_BYTES:,} bytes.")
    return _Reader(file.name, catalogs).read(text, overrides or {})


class _Reader(Marked):
    EMPTY_HINT = "Describe nodes and edges."

    def __init__(self, name: str, catalogs: Mapping[Role, Catalog]) -> None:
        super().__init__(name)
        self.catalogs = catalogs

    def read(self, text: bytes, overrides: Mapping[str, str]) -> Graph:
        root = self._compose(text)
        top = self._mapping(root, "the file", _TOP)
        if "nodes" not in top:
            self._fail(root, "The graph has no 'nodes'.")
        name = self._value(top["graph"]) if "graph" in top else Path(self.name).stem
        graph = Graph(name=str(name), promise=self._promise(top), nodes={}, edges=[])
        nodes = self._mapping(top["nodes"], "nodes")
        for key, override in overrides.items():
            if key in ("budget.mb", "budget.every") and "budget" in top:
                option = key.removeprefix("budget.")
                top["budget"] = self._with(top["budget"], option, override)
            else:
                self._override(nodes, key, override)
        for node_name, node in nodes.items():
            self._node(graph, node_name, node)
        if "edges" in top:
            self._edges(graph, top["edges"])
        if "budget" in top:
            graph.budget = self._budget(graph, top["budget"])
        try:
            graph.validate()
        except GraphError as error:
            self._fail(root, error.what, error.hint)
        return graph

    def _promise(self, top: Mapping[str, yaml.Node]) -> Promise:
        if "promise" not in top:
            return "finite"
        value = self._value(top["promise"])
        if value not in PROMISES:
            self._fail(top["promise"], f"A graph promises nothing called {value!r}.",
                       nearest(str(value), PROMISES))  # fmt: skip
        return "live" if value == "live" else "finite"

    def _budget(self, graph: Graph, node: yaml.Node) -> Budget:
        parts = self._mapping(node, "budget", ("mb", "weights", "least_mb", "every"))
        if "mb" not in parts:
            self._fail(node, "The budget needs 'mb': 10^6 bytes of all stages together.")
        weights = self._by_stage(graph, parts.get("weights"), "weights")
        least = self._by_stage(graph, parts.get("least_mb"), "least_mb")
        return Budget(
            int(1e6 * self._number(parts["mb"], "mb")),
            weights,
            {name: int(1e6 * value) for name, value in least.items()},
            self._every(parts["every"]) if "every" in parts else Budget(0).every,
        )

    def _every(self, node: yaml.Node) -> int:
        value = self._value(node)
        if type(value) is not int or value < 0:
            self._fail(node, f"The budget's every must be frames, or 0 for never, got {value!r}.")
        return int(value)

    def _by_stage(self, graph: Graph, node: yaml.Node | None, what: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, value in (self._mapping(node, what) if node else {}).items():
            if name not in graph.nodes:
                self._fail(value, f"There is no node {name!r}.", nearest(name, graph.nodes))
            found[name] = self._number(value, f"{what} of {name!r}")
        return found

    def _number(self, node: yaml.Node, what: str) -> float:
        value = self._value(node)
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            self._fail(node, f"The budget's {what} must be a number >= 0, got {value!r}.")
        return float(value)

    def _node(self, graph: Graph, name: str, node: yaml.Node) -> None:
        parts = self._mapping(node, f"node {name!r}", (*_ROLES, "with"))
        roles = [role for role in _ROLES if role in parts]
        if len(roles) != 1:
            self._fail(node, f"Node {name!r} must be exactly one of: {', '.join(_ROLES)}.")
        role = roles[0]
        target = self._target(role, parts[role])
        given = self._mapping(parts["with"], "with") if "with" in parts else {}
        options = self._options(target, name, given, parts.get("with", node))
        getattr(graph, role)(name, target, **options)

    def _target(self, role: Role, node: yaml.Node) -> str:
        name = str(self._value(node))
        if ":" in name:
            try:
                load_class(name)
            except (ImportError, AttributeError) as error:
                self._fail(node, f"{name!r} cannot be imported: {error}.")
            return name
        try:
            return self.catalogs[role][name]
        except UsageError as error:
            self._fail(node, error.what, error.hint)

    def _options(
        self, target: str, name: str, given: Mapping[str, yaml.Node], where: yaml.Node
    ) -> dict[str, Any]:
        cls = load_class(target)
        parameters = inspect.signature(cls).parameters
        hints = typing.get_type_hints(cls.__init__)
        accepted = {}
        for key, node in given.items():
            if key not in parameters:
                self._fail(node, f"Node {name!r} has no option {key!r}.", nearest(key, parameters))
            value = self._value(node)
            try:
                # A file's "2" for a number is a mistake worth naming, so strict; 2 for 2.0 is not.
                adapter = TypeAdapter(hints.get(key, Any), config=ConfigDict(strict=True))
                adapter.validate_python(value)
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]["msg"]
                self._fail(node, f"Node {name!r}, option {key!r}: {problem}, got {value!r}.")
            accepted[key] = value
        for key, parameter in parameters.items():
            if parameter.default is inspect.Parameter.empty and key not in accepted:
                self._fail(where, f"Node {name!r} needs the option {key!r}.")
        return accepted

    def _edges(self, graph: Graph, node: yaml.Node) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, "'edges' must be a list of 'a -> b'.")
        for item in node.value:
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                chain, policy = item.value[0]
                self._edge(graph, chain, str(self._value(policy)), policy)
            elif isinstance(item, yaml.ScalarNode):
                self._edge(graph, item, "block", item)
            else:
                self._fail(item, "An edge reads 'a -> b' or 'a -> b: policy'.")

    def _edge(self, graph: Graph, chain: yaml.Node, policy: str, where: yaml.Node) -> None:
        names = [part.strip() for part in str(self._value(chain)).split("->")]
        if len(names) < 2 or not all(names):
            self._fail(chain, "An edge reads 'a -> b' or 'a -> b: policy'.")
        for name in names:
            if name not in graph.nodes:
                self._fail(chain, f"There is no node {name!r}.", nearest(name, graph.nodes))
        try:
            graph.connect(*names, policy=policy)
        except UsageError as error:
            self._fail(where, error.what, error.hint)

    def _override(self, nodes: dict[str, yaml.Node], key: str, text: str) -> None:
        """Replace one option's YAML node, so that the override is checked like the file."""
        name, _, option = key.partition(".")
        if name not in nodes:
            raise UsageError(f"--set {key}: there is no node {name!r}.", hint=nearest(name, nodes))
        node = nodes[name]
        if not isinstance(node, yaml.MappingNode):
            return
        holder = next((v for k, v in node.value if k.value == "with"), None)
        if holder is None:
            holder = yaml.MappingNode("tag:yaml.org,2002:map", [], node.start_mark)
        rest = [(k, v) for k, v in node.value if k.value != "with"]
        word = yaml.ScalarNode("tag:yaml.org,2002:str", "with", node.start_mark)
        node.value = [*rest, (word, self._with(holder, option, text))]

    def _with(self, holder: yaml.Node, key: str, text: str) -> yaml.Node:
        """The mapping with one value replaced by ``text``, a value in YAML notation."""
        value = yaml.compose(text, Loader=yaml.SafeLoader) or yaml.ScalarNode(
            "tag:yaml.org,2002:null", ""
        )
        value.start_mark = holder.start_mark
        if not isinstance(holder, yaml.MappingNode):
            return holder
        kept = [(k, v) for k, v in holder.value if k.value != key]
        word = yaml.ScalarNode("tag:yaml.org,2002:str", key, holder.start_mark)
        return yaml.MappingNode(holder.tag, [*kept, (word, value)], holder.start_mark)
