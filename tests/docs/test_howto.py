"""docs/howto.md keeps its word: its files and lines are taken from the page and run."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from doc_pages import DOCS, Block, code

from retain.pipeline.catalog import Catalog, load_class
from retain.pipeline.errors import SourceError, StateError
from retain.pipeline.graph_yaml import load_graph
from retain.pipeline.packet import Packet
from retain.pipeline.results import Embedding
from retain.pipeline.run import start

BLOCKS = {block.remark: block for block in code(DOCS / "howto.md")}
CATALOGS = {
    "KERNELS": "retain.kernels.catalog",
    "MEMORIES": "retain.memory.catalog",
    "ENCODERS": "retain.models.catalog",
    "SOURCES": "retain.pipeline.catalog",
    "STAGES": "retain.models.catalog",
}
Add = Callable[[str, str], ModuleType]


def block(remark: str) -> Block:
    assert remark in BLOCKS, f"howto.md has no block {remark!r}"
    return BLOCKS[remark]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """``add(file, catalogue)`` puts a file of the page in its place, and its line in the catalogue:
    both for this test only."""

    def put(file: str, catalogue: str = "") -> ModuleType:
        name = "retain." + file.removesuffix(".py").replace("/", ".")
        path = tmp_path / file.replace("/", "_")
        path.write_text(block(f"file: {file}").text)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        if catalogue:
            listed = getattr(importlib.import_module(CATALOGS[catalogue]), catalogue)
            entries = listed._entries if isinstance(listed, Catalog) else listed
            ((key, target),) = eval(block(f"line: {catalogue}").text).items()
            monkeypatch.setitem(entries, key, target)
            assert target.startswith(f"{name}:")
            load_class(listed[key])
        return module

    return put


def test_a_memory_obeys_the_laws(add: Add) -> None:
    add("memory/running_mean.py", "MEMORIES")
    laws = _laws("memory")
    laws["test_what_is_tried_is_what_is_listed"]()
    assert _obeyed(laws, "case", laws["trial_of"]("running-mean")) >= 9


def test_a_memory_that_cannot_be_tried_is_noticed(add: Add) -> None:
    del add("memory/running_mean.py", "MEMORIES").trial
    with pytest.raises(AttributeError, match="trial"):
        _laws("memory")["test_what_is_tried_is_what_is_listed"]()


def _laws(folder: str) -> dict[str, Any]:
    """What stands in ``tests/FOLDER/test_laws.py``, read anew."""
    path = Path(__file__).parents[1] / folder / "test_laws.py"
    spec = importlib.util.spec_from_file_location(f"laws_of_{folder}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def _obeyed(laws: dict[str, Any], takes: str, one: object) -> int:
    """Puts ``one`` under every law of those that take it; how many these are."""
    own = [
        law
        for name, law in laws.items()
        if name.startswith("test_") and takes in getattr(law, "__annotations__", {})
    ]
    for law in own:
        law(one)
    return len(own)


class Keep:
    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def process(self, packet: Packet) -> None:
        self.packets.append(packet)

    def close(self) -> None:
        pass


def run(tmp_path: Path, **changes: str) -> list[Packet]:
    """What comes out behind array, hues and unlike: three red pictures, then three blue ones."""
    from retain.models.catalog import STAGES
    from retain.pipeline.catalog import SINKS, SOURCES

    pictures = np.zeros((6, 40, 48, 3), np.uint8)
    pictures[:3, ..., 0], pictures[3:, ..., 2] = 200, 200
    np.save(tmp_path / "clip.npy", pictures)
    graph_file = tmp_path / "graph.yaml"
    graph_file.write_text(
        "nodes:\n"
        f"  video: {{source: array, with: {{source: {tmp_path / 'clip.npy'}, rate: 5}}}}\n"
        "  encode: {stage: encode, with: {encoder: hues}}\n"
        "  unlike: {stage: unlike, with: {dim: 8, half_life: 1.0}}\n"
        "edges:\n"
        "  - video -> encode -> unlike\n"
    )
    catalogs = {"source": SOURCES, "stage": STAGES, "sink": SINKS}
    graph = load_graph(graph_file, catalogs, changes)  # type: ignore[arg-type]
    graph.sink("keep")
    graph.connect("unlike", "keep")
    keep = Keep()
    state = {"unlike": str(tmp_path / "state.safetensors")}
    with start(graph, runner="inline", sinks={"keep": keep}, save=state) as running:
        assert running.wait().ok
    return keep.packets


def test_a_source_an_encoder_and_a_stage_run_in_a_graph(add: Add, tmp_path: Path) -> None:
    add("memory/running_mean.py", "MEMORIES")
    add("pipeline/sources/array.py", "SOURCES")
    add("models/encoders/hues.py", "ENCODERS")
    add("models/unlike.py", "STAGES")
    packets = run(tmp_path, **{"unlike.least": "-1.0"})  # lets everything through
    found = [packet.get("embedding", Embedding) for packet in packets]
    assert [packet.frame.seconds for packet in packets] == pytest.approx(np.arange(6) / 5)
    assert {one.encoder for one in found} == {"hues"}
    assert found[0].vector @ found[2].vector == pytest.approx(1)
    assert found[0].vector @ found[3].vector == pytest.approx(0)
    # By hand: before the second blue one the mean is 7/16 red and 1/2 blue, at 1 - 0.753.
    assert [packet.frame.seq for packet in run(tmp_path)] == [0, 3, 4]


def test_the_stage_goes_on_where_it_was_saved(add: Add, tmp_path: Path) -> None:
    add("memory/running_mean.py")
    module = add("models/unlike.py", "STAGES")
    add("pipeline/sources/array.py", "SOURCES")
    add("models/encoders/hues.py", "ENCODERS")
    (*_, last) = run(tmp_path, **{"unlike.least": "-1.0"})
    one, other = module.Unlike(8, half_life=1.0), module.Unlike(7, half_life=1.0)
    one.load(str(tmp_path / "state.safetensors"))
    assert one.process(last) is None  # it looks like what was saved
    assert module.Unlike(8, half_life=1.0).process(last) is last
    with pytest.raises(StateError, match="dim"):
        other.load(str(tmp_path / "state.safetensors"))


def test_the_source_says_what_it_cannot_read(add: Add, tmp_path: Path) -> None:
    module = add("pipeline/sources/array.py")
    np.save(tmp_path / "grey.npy", np.zeros((2, 4, 4), np.uint8))
    (tmp_path / "text.npy").write_text("not an array")
    for name in ("grey.npy", "text.npy", "absent.npy"):
        with pytest.raises(SourceError):
            module.ArraySource(str(tmp_path / name)).open()


def test_a_kernel_obeys_the_laws(add: Add) -> None:
    module = add("kernels/sharpness.py", "KERNELS")
    assert _obeyed(_laws("kernels"), "kernel", module.SHARPNESS) >= 6
    import torch

    ramp = torch.arange(5.0).expand(1, 4, 5)
    assert float(module.sharpness(ramp)) == 0
    with pytest.raises(ValueError, match="sides of 3 or more"):
        module.sharpness(torch.zeros(1, 2, 5))
    assert torch.ops.retain.sharpness(ramp).shape == (1,)


def test_a_kernel_that_is_wrong_is_noticed(add: Add) -> None:
    module = add("kernels/sharpness.py", "KERNELS")
    wrong = replace(module.SHARPNESS, reference=lambda grey: module.reference(grey) * 1.001)
    with pytest.raises(AssertionError):
        _obeyed(_laws("kernels"), "kernel", wrong)
