"""Graphs in YAML: what is accepted, and that every mistake is named where it stands."""

from pathlib import Path

import pytest

from retain.pipeline.catalog import Catalog
from retain.pipeline.errors import GraphError, UsageError
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.policy import Policy

CATALOGS = {
    "source": Catalog("source", {"numbers": "graph_parts:Numbers"}),
    "stage": Catalog("stage", {"double": "graph_parts:Double"}),
    "sink": Catalog("sink", {"print": "graph_parts:Print"}),
}

GOOD = """\
graph: sums
nodes:
  in: {source: numbers, with: {source: a.txt, fps: 2}}
  twice:
    stage: double
    with:
      factor: 3
  out: {sink: print}
edges:
  - in -> twice: latest
  - twice -> out
"""


def load(tmp_path: Path, text: str, **overrides: str):  # type: ignore[no-untyped-def]
    path = tmp_path / "g.yaml"
    path.write_text(text)
    return load_graph(path, CATALOGS, {k.replace("__", "."): v for k, v in overrides.items()})


def test_a_good_graph_is_built(tmp_path: Path) -> None:
    graph = load(tmp_path, GOOD)
    assert graph.name == "sums"
    assert [node.name for node in graph.order()] == ["in", "twice", "out"]
    assert graph.nodes["in"].options == {"source": "a.txt", "fps": 2}
    assert [edge.policy for edge in graph.edges] == [Policy.parse("latest"), Policy.parse("block")]


def test_a_graph_says_what_it_promises(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).promise == "finite"
    assert load(tmp_path, GOOD.replace("nodes:", "promise: live\nnodes:", 1)).promise == "live"
    with pytest.raises(GraphError, match="'alive'. Did you mean 'live'"):
        load(tmp_path, GOOD.replace("nodes:", "promise: alive\nnodes:", 1))


def test_overrides_win_and_are_checked(tmp_path: Path) -> None:
    graph = load(tmp_path, GOOD, twice__factor="7", in__loud="true")
    assert graph.nodes["twice"].options == {"factor": 7}
    assert graph.nodes["in"].options["loud"] is True
    with pytest.raises(GraphError, match="no option 'facto'.*Did you mean 'factor'"):
        load(tmp_path, GOOD, twice__facto="7")
    with pytest.raises(UsageError, match="no node 'twise'. Did you mean 'twice'"):
        load(tmp_path, GOOD, twise__factor="7")


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "message"),
    [
        ("graph: sums", "grap: sums", 1, 1, "'grap' is not a key of the file.*'graph'"),
        ("stage: double", "stage: doubel", 5, 12, "no stage called 'doubel'.*'double'"),
        ("stage: double", "stag: double", 5, 5, "'stag' is not a key of node 'twice'.*'stage'"),
        ("factor: 3", "facter: 3", 7, 15, "no option 'facter'. Did you mean 'factor'"),
        ("factor: 3", "factor: three", 7, 15, "valid integer.*got 'three'"),
        ("factor: 3", "factor: '3'", 7, 15, "valid integer.*got '3'"),
        ("fps: 2", "loud: 2", 3, 53, "valid boolean"),
        ("source: a.txt, ", "", 3, 31, "needs the option 'source'"),
        ("in -> twice: latest", "in -> twise: latest", 10, 5, "no node 'twise'.*'twice'"),
        ("latest", "latst", 10, 18, "'latst' is not an edge policy.*'latest'"),
        ("latest", "drop_oldest", 10, 18, r"Write drop_oldest\(8\)"),
        ("  - twice -> out\n", "", 1, 1, "Nothing feeds 'out'"),
        ("  - twice -> out\n", "  - twice -> in\n", 1, 1, "'in' is a source, yet"),
        ("edges:", "edges: [", 10, 3, "Not valid YAML"),
        ("  out: {sink: print}", "  twice: {sink: print}", 8, 3, "'twice' is given twice"),
        ("stage: double", "stage: no.such:Thing", 5, 12, "cannot be imported"),
    ],
)
def test_mistakes_are_named_with_line_and_column(
    tmp_path: Path, old: str, new: str, line: int, column: int, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(GraphError, match=message) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert (caught.value.line, caught.value.column) == (line, column)
    assert f"g.yaml, line {line}, column {column}" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["", "nodes: 3", "[]", "nodes: {a: {source: numbers, sink: print}}"]
)
def test_other_shapes_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(GraphError):
        load(tmp_path, text)


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("  - twice -> out\n", "  - twice -> again -> twice\n  - again -> out\n")
    text = text.replace("  out: {", "  again: {stage: double}\n  out: {")
    with pytest.raises(GraphError, match="cycle through again, out, twice"):
        load(tmp_path, text)


def test_yaml_objects_are_not_built(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="line 7, column 15: .*python/object"):
        load(tmp_path, GOOD.replace("factor: 3", "factor: !!python/object:os.system {}"))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_graph(tmp_path / "none.yaml", CATALOGS)


def test_a_missing_file_names_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs" / "examples").mkdir(parents=True)
    (tmp_path / "docs" / "examples" / "watch.yaml").touch()
    for asked in ("examples/watch.yaml", "docs/examples/wach.yaml"):
        with pytest.raises(UsageError) as error:
            load_graph(asked, CATALOGS)
        assert error.value.hint == "Did you mean 'docs/examples/watch.yaml'?"


def test_a_link_to_nowhere_says_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "graph.yaml"
    link.symlink_to("gone.yaml")
    with pytest.raises(UsageError) as error:
        load_graph(link, CATALOGS)
    assert error.value.hint == "It is a link to 'gone.yaml', which is not there."
