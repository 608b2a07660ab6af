"""`retain run` and `retain graph`: graphs that people wrote themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from retain.apps import console
from retain.apps.catalogs import CATALOGS
from retain.apps.console import INTERRUPTED
from retain.models.budget import divided, outside, shares
from retain.pipeline.errors import RetainError, UsageError
from retain.pipeline.graph import Graph
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.metrics import GraphStats
from retain.pipeline.redact import redact
from retain.pipeline.run import Runner, RunReport, run_until_done, start

if TYPE_CHECKING:
    from retain.apps.page.server import Page

PAGE = "page"


def load(path: Path, changes: Mapping[str, str]) -> tuple[Graph, dict[str, int]]:
    """The graph in ``path``, its budget divided among the stages, and the bytes each got (empty
    without a budget). Raises GraphError or UsageError."""
    graph = load_graph(path, CATALOGS, changes)
    return divided(graph), shares(graph)


def run(
    path: Path,
    changes: Mapping[str, str],
    runner: Runner,
    resume: Path | None = None,
    page_port: int | None = None,
    linger_s: float = 10.0,
) -> int:
    """Run the graph in ``path`` to its end, from the snapshot in ``resume`` on if there is one,
    with the live page at ``page_port`` (0: a free one) if that is given; the exit code."""
    graph, divided_bytes = load(path, changes)
    with nullcontext() if page_port is None else _page(graph, page_port) as page:
        sinks = {PAGE: page} if page else {}
        with start(graph, runner=runner, sinks=sinks, resume=resume) as running:
            if page:
                page.attach(running)
            report = run_until_done(running)
        _tell(graph, divided_bytes, report)
        if page:
            page.finish(None, "The stream has ended.", failed=bool(report.errors))
            ended = time.monotonic()
            with suppress(KeyboardInterrupt):
                while page.state.latest.watchers and time.monotonic() < ended + linger_s:
                    time.sleep(0.1)
    return 1 if report.errors else INTERRUPTED if report.stopped else 0


@contextmanager
def _page(graph: Graph, port: int) -> Iterator[Page]:
    """A page, as one more sink of ``graph`` beside its first. Raises UsageError for a graph that
    has none, or a node of that name."""
    from retain.apps.page.server import Page

    last = next((e.src for e in graph.edges if graph.nodes[e.dst].role == "sink"), None)
    if last is None or PAGE in graph.nodes:
        raise UsageError(f"A page needs a graph with a sink, and without a node {PAGE!r}.")
    graph.sink(PAGE)
    graph.connect(last, PAGE, policy="drop_oldest(64)" if graph.promise == "live" else "block")
    source = next(node for node in graph.order() if node.role == "source")
    page = Page(graph.name, redact(str(source.options.get("source", ""))), port, view="everything")
    try:
        page.start()
        console.messages().print(f"live page: [link={page.url}]{page.url}[/link]")
        yield page
    finally:
        page.stop()


def _tell(graph: Graph, divided_bytes: Mapping[str, int], report: RunReport) -> None:
    table = _table("node", "received", "sent", "dropped", "failed", "ms per packet")
    for node in report.stats.nodes:
        numbers = node.received, node.sent, sum(node.dropped.values()), node.failed
        table.add_row(node.name, *map(str, numbers), f"{node.service_ms.mean:.2f}")
    console.output().print(table)
    if divided_bytes:
        console.output().print(_held(graph, divided_bytes, report.stats))
    for fault in report.errors:
        console.say_error(RetainError(fault.message))


def show(path: Path, changes: Mapping[str, str], only_check: bool) -> None:
    """Print the nodes and edges of the graph in ``path``; raises GraphError when it is wrong."""
    graph, divided_bytes = load(path, changes)
    out = console.output()
    if only_check:
        out.print(f"{path}: {len(graph.nodes)} nodes, {len(graph.edges)} edges, valid")
        return
    out.print(_nodes(graph))
    out.print(_edges(graph))
    if divided_bytes:
        out.print(_shares(graph, divided_bytes))


def _nodes(graph: Graph) -> Table:
    table = _table("node", "role", "class", "options")
    for node in graph.order():
        options = ", ".join(f"{key}={value}" for key, value in node.options.items())
        table.add_row(node.name, node.role, node.target, redact(options))
    return table


def _edges(graph: Graph) -> Table:
    table = _table("from", "to", "policy")
    for edge in graph.edges:
        table.add_row(edge.src, edge.dst, str(edge.policy))
    return table


def _shares(graph: Graph, shares: Mapping[str, int]) -> Table:
    """What each stage may hold at the start."""
    assert graph.budget is not None
    table = _table("stage", "share, bytes")
    for name, nbytes in shares.items():
        table.add_row(name, f"{nbytes:,}")
    table.add_row("all", f"{sum(shares.values()):,} of {graph.budget.nbytes:,}")
    for name in outside(graph):
        table.add_row(name, "outside")
    if graph.moves:
        table.caption = f"Bytes may move every {graph.budget.every} frames."
    return table


def _held(graph: Graph, shares: Mapping[str, int], stats: GraphStats) -> Table:
    """Beside that, what each might hold at the end of a run, and held."""
    assert graph.budget is not None
    table = _table("stage", "share, bytes", "limit at the end", "held")
    held = {node.name: node.memory_bytes for node in stats.nodes}
    limits = {**shares, **stats.limits}
    for name, nbytes in shares.items():
        table.add_row(name, f"{nbytes:,}", f"{limits[name]:,}", f"{held[name]:,}")
    total = sum(held[name] for name in shares)
    sums = f"{sum(shares.values()):,} of {graph.budget.nbytes:,}", f"{sum(limits.values()):,}"
    table.add_row("all", *sums, f"{total:,}")
    for name in outside(graph):
        table.add_row(name, "outside", "", f"{held[name]:,}")
    if graph.moves:
        table.caption = f"Limits changed: {stats.moves}, in rounds of {graph.budget.every} frames."
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
