"""The folder of a graph's state: moved, copied, cut, mixed up, of other versions."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_parts import Recorder

from retain.pipeline import states
from retain.pipeline.errors import StateError
from retain.pipeline.graph import Graph
from retain.pipeline.run import Runner, start

PARTS = "runtime_parts:"
FRAMES = 30
FILES = ("1", "2", "graph.json")


def chain() -> Graph:
    graph = Graph()
    graph.source("cam", PARTS + "Clip", frames=FRAMES)
    graph.stage("mean", PARTS + "Mean")
    graph.stage("again", PARTS + "Mean", name="again")
    graph.sink("out")
    graph.connect("cam", "mean", "again", "out")
    return graph


def said(out: Recorder) -> list[tuple[int, int, str]]:
    return [(seq, pixels, repr(results)) for seq, pixels, results in out.packets]


class Slow(Recorder):
    """Waits at its fifth packet until the snapshot was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.go = threading.Event(), threading.Event()

    def process(self, packet: object) -> None:
        super().process(packet)  # type: ignore[arg-type]
        if len(self.packets) == 5:
            self.here.set()
            self.go.wait(0.5)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state in the middle of a run."""
    folder, out = tmp_path_factory.mktemp("states") / "state", Slow()
    with start(chain(), runner="inline", sinks={"out": out}) as run:
        assert out.here.wait(30)
        run.snapshot(folder)
    return folder


@pytest.fixture(scope="module")
def whole() -> list[tuple[int, int, str]]:
    out = Recorder()
    assert start(chain(), runner="inline", sinks={"out": out}).wait(60).ok
    return said(out)


@pytest.fixture
def state(taken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taken, tmp_path / "state"))


def sent(folder: Path) -> int:
    return states.manifest(folder).nodes[0].sent


@pytest.mark.parametrize("runner", ["inline", "local"])
def test_it_goes_on_from_another_place_that_cannot_be_written(
    runner: Runner,
    state: Path,
    whole: list[tuple[int, int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copied, moved, named relative to another working directory."""
    (tmp_path / "else" / "where").mkdir(parents=True)
    moved = Path(shutil.move(state, tmp_path / "else" / "where" / "other name"))
    for path in (*moved.iterdir(), moved):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(tmp_path / "else")
    out = Recorder()
    resumed = start(chain(), runner=runner, sinks={"out": out}, resume=Path("where/other name"))
    assert resumed.wait(60).ok
    assert said(out) == whole[sent(moved) :]
    moved.chmod(0o755)


def test_nothing_in_it_says_where_it_was_made(taken: Path) -> None:
    for path in taken.iterdir():
        data = path.read_bytes()
        assert str(taken.parent).encode() not in data
        assert socket.gethostname().encode() not in data


def test_what_is_copied_while_it_is_written_has_no_head_yet(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``graph.json`` comes last, then the name."""
    seen: list[set[str]] = []
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        seen.append({path.name for path in self.iterdir()})
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", renamed)
    states.write(state.with_name("new"), chain(), {"cam": 3}, {"mean": str(state / "1")})
    assert seen == [{"1", "graph.json"}]
    (state / "graph.json").unlink()
    with pytest.raises(StateError, match=r"is no snapshot: it has no graph\.json"):
        states.read(state, chain())


def written(folder: Path, seen: str) -> Path:
    """A snapshot whose two states are different."""
    files = {"mean": folder.with_suffix(".a"), "again": folder.with_suffix(".b")}
    for path, text in zip(files.values(), (seen, seen[::-1]), strict=True):
        path.write_text(text)
    states.write(folder, chain(), {"cam": 7}, {name: str(p) for name, p in files.items()})
    return folder


def cut(state: Path, other: Path) -> None:
    data = (state / "2").read_bytes()
    (state / "2").write_bytes(data[:-3])


def swapped(state: Path, other: Path) -> None:
    shutil.copy(other / "2", state / "2")


def mixed(state: Path, other: Path) -> None:
    (state / "1").rename(state / "spare")
    (state / "2").rename(state / "1")
    (state / "spare").rename(state / "2")


def told_otherwise(state: Path, other: Path) -> None:
    told = json.loads((state / "graph.json").read_bytes())
    told["nodes"][0]["sent"] += 1
    (state / "graph.json").write_text(json.dumps(told))


def later(state: Path, other: Path) -> None:
    told = json.loads((state / "graph.json").read_bytes()) | {"schema": "retain-graph/9"}
    (state / "graph.json").write_text(json.dumps(told | {"by": "2.0.1"}))


def strange(state: Path, other: Path) -> None:
    (state / "graph.json").write_text('{"schema": "weights/1"}')


def deep(state: Path, other: Path) -> None:
    (state / "graph.json").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda state, other: (state / "2").unlink(), r"lacks the state of 'again', 2.*Copy it"),
        (cut, r"state/2, the state of 'again', has \d+ bytes, not \d+"),
        (swapped, "is not the state of 'again' that was saved"),
        (mixed, "is not the state of 'mean' that was saved"),
        (told_otherwise, r"graph\.json was altered or damaged"),
        (later, r"of version 9; retain \S+ reads up to 2. It needs retain 2\.0\.1"),
        (strange, "its schema is 'weights/1'"),
        (deep, "damaged snapshot"),
        (lambda state, other: shutil.rmtree(state), "There is no folder .*/state"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    harm: Callable[[Path, Path], None], sentence: str, tmp_path: Path
) -> None:
    state, other = written(tmp_path / "state", "12345"), written(tmp_path / "other", "67890")
    harm(state, other)
    with pytest.raises(StateError, match=sentence):
        start(chain(), runner="inline", sinks={"out": Recorder()}, resume=state)


def test_a_file_is_no_folder(state: Path) -> None:
    with pytest.raises(StateError, match="is no folder"):
        states.read(state / "1", chain())


def test_one_of_version_1_is_read_as_todays(state: Path, whole: list[tuple[int, int, str]]) -> None:
    told = json.loads((state / "graph.json").read_bytes())
    for node in told["nodes"]:
        node["state"] = node["state"] is not None
    first = {"schema": "retain-graph/1", "promise": told["promise"], "nodes": told["nodes"]}
    (state / "graph.json").write_text(json.dumps(first))
    read = states.manifest(state)
    assert (read.schema, read.by) == ("retain-graph/1", "")
    assert [node.state and node.state.name for node in read.nodes] == [None, "1", "2"]
    out = Recorder()
    assert start(chain(), runner="inline", sinks={"out": out}, resume=state).wait(60).ok
    assert said(out) == whole[sent(state) :]
    (state / "2").unlink()
    with pytest.raises(StateError, match="has 1 files with a state; 2 stages have one"):
        states.read(state, chain())


@given(
    name=st.sampled_from(FILES),
    harm=st.sampled_from(["cut", "flip", "grow", "replace", "remove"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    with_=st.sampled_from(FILES),
)
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_done_to_a_file_it_is_refused_or_the_same(
    taken: Path, tmp_path: Path, name: str, harm: str, place: float, bit: int, with_: str
) -> None:
    state = Path(shutil.copytree(taken, tmp_path / "harmed", dirs_exist_ok=True))
    path = state / name
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    if harm == "cut":
        del data[at:]
    elif harm == "flip":
        data[at] ^= 1 << bit
    elif harm == "grow":
        data += b" "
    elif harm == "replace":
        data[:] = (taken / with_).read_bytes()
    path.unlink()
    if harm != "remove":
        path.write_bytes(data)
    try:
        pasts, _ = states.read(state, chain())
    except StateError:
        return
    assert json.loads((state / "graph.json").read_bytes()) == json.loads(
        (taken / "graph.json").read_bytes()
    )
    assert pasts["cam"].sent == sent(taken)
    for file in FILES[:2]:
        assert (state / file).read_bytes() == (taken / file).read_bytes()
