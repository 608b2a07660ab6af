"""States that earlier programs wrote (tests/data/states) go on as those programs went on."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from retain.memory import migrate
from retain.memory.base import Json, Memory, State
from retain.memory.catalog import MEMORIES
from retain.memory.curvestream import FrameMemory, FrameMemoryConfig
from retain.memory.gaussian.config import GaussianConfig
from retain.memory.gaussian.memory import GaussianMemory
from retain.memory.router import RouterConfig
from retain.memory.snapshot import Config, check_config, load
from retain.pipeline.errors import StateError

STATES = Path(__file__).parents[1] / "data" / "states"
sys.path.insert(0, str(Path(__file__).parent))  # the recipe imports the laws
RECIPE = runpy.run_path(str(STATES / "make.py"))
ITEMS: int = RECIPE["ITEMS"]
MAKE: dict[str, Callable[[], Memory[Any, Any, Any]]] = RECIPE["MAKE"]
GIVE: dict[str, Callable[[int, int], Iterator[Any]]] = RECIPE["GIVE"]
NEWEST = "memories-2.zip"
RTOL, ATOL = 1e-4, 1e-5
"""Of numbers that went through products of matrices, which differ in their last bits between
machines. Whole numbers, bytes and headers are equal."""


SINCE = {
    f"gaussians-{version}.zip": {"rows.quats", "rows.scales", "rows.touched"} for version in (1, 2)
}
"""Arrays that today's rule makes otherwise: what becomes stable is spread to cover its voxel."""


def stored() -> list[tuple[str, str]]:
    """(archive, memory) for each state."""
    found = []
    for path in sorted(STATES.glob("*.zip")):
        with ZipFile(path) as archive:
            names = archive.namelist()
        found += [(path.name, n.removesuffix(".before")) for n in names if n.endswith(".before")]
    return found


def opened(archive: str, member: str, folder: Path) -> tuple[Config, State, int]:
    """Configuration and state of the one memory in a stored file, and the version it is in."""
    with ZipFile(STATES / archive) as file:
        path = Path(file.extract(member, folder))
    got = load(path)
    ((name, (config, state)),) = got.memories.items()
    return config, state, got.versions[name]


def made(name: str, config: Config) -> Memory[Any, Any, Any]:
    """Today's memory, in the configuration of the file."""
    router = config.get("router")
    if name == "gaussians":
        return GaussianMemory(GaussianConfig.of(config))
    if name == "frames" and isinstance(router, dict):
        rule = RouterConfig.from_json(router)
        return FrameMemory(FrameMemoryConfig(16, rule, max_entries=10, byte_budget=150_000))
    return MAKE[name]()


def went_on(name: str, memory: Memory[Any, Any, Any]) -> State:
    """After the items that came after the state."""
    for number, item in enumerate(GIVE[name](ITEMS + RECIPE["MORE"], 0)):
        if number >= ITEMS:
            memory.write("s", item)
    return memory.snapshot("s")


def assert_same(one: State, other: State, but: Collection[str] = ()) -> None:
    assert one.header == other.header
    assert set(one.tensors) == set(other.tensors)
    for name, array in one.tensors.items():
        if name in but:
            continue
        assert array.dtype == other.tensors[name].dtype
        if array.dtype.kind == "f":
            np.testing.assert_allclose(array, other.tensors[name], RTOL, ATOL, err_msg=name)
        else:
            np.testing.assert_array_equal(array, other.tensors[name], err_msg=name)


@pytest.mark.parametrize(("archive", "name"), [s for s in stored() if s[0] != "frames-1.zip"])
def test_a_stored_state_goes_on_as_it_did_then(archive: str, name: str, tmp_path: Path) -> None:
    config, state, _ = opened(archive, f"{name}.before", tmp_path)
    memory = made(name, config)
    check_config(name, memory.config, config)
    memory.restore("s", state)
    with ZipFile(STATES / archive) as file:
        own = f"{name}.after" in file.namelist()
    _, after, _ = opened(archive if own else NEWEST, f"{name}.after", tmp_path)
    assert_same(went_on(name, memory), after, SINCE.get(archive, ()))


def test_frames_of_the_first_version_are_read_and_go_on_by_todays_rule(tmp_path: Path) -> None:
    """What leaves is decided otherwise since, so only what was held is the same."""
    config, state, version = opened("frames-1.zip", "frames.before", tmp_path)
    assert version == 1
    memory = made("frames", config)
    memory.restore("s", state)
    entries = memory.read("s", None)
    assert [entry.seq for entry in entries] == state.tensors["rows.seq"].tolist()
    assert len(entries) == 10
    assert all(e.image().shape == (e.height, e.width, 3) for e in entries)
    limit: Json = state.header["limit"]
    assert isinstance(limit, int)
    after = went_on("frames", memory)
    assert after.tensors["rows.seq"].max() >= ITEMS
    assert memory.nbytes("s") <= limit


def test_every_memory_and_every_version_of_it_is_stored(tmp_path: Path) -> None:
    """Whoever adds a memory or a step stores a state: tests/data/states/README.md."""
    versions: dict[str, set[int]] = {}
    for archive, name in stored():
        config, _, version = opened(archive, f"{name}.before", tmp_path)
        versions.setdefault(str(config["kind"]), set()).add(version)
    assert {name for _, name in stored()} == set(MEMORIES)
    for kind, found in versions.items():
        missing = set(range(1, migrate.newest(kind) + 1)) - found
        assert not missing, f"no state of {kind!r} in the versions {missing}"
    assert set(migrate.STEPS) <= set(versions)


OLDER = [
    (archive, name)
    for archive, name in stored()
    if archive.startswith(("frames-", "gaussians-", "keyframes-"))
    or (archive, name) in {("memories-1.zip", "notes"), ("memories-1.zip", "gated-delta")}
]
WRONG: list[Any] = [None, -1, 10**30, 1e308, "7", [], {}, True]


@given(state=st.sampled_from(OLDER), draw=st.data())
@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_of_a_forged_older_state_a_step_makes_what_the_memory_refuses_or_takes(
    state: tuple[str, str], draw: st.DataObject, tmp_path: Path
) -> None:
    """Whatever is missing or otherwise, nothing but a StateError comes out."""
    archive, name = state
    with ZipFile(STATES / archive) as file:
        raw = load_file(file.extract(f"{name}.before", tmp_path))
        path = tmp_path / f"{name}.before"
    saved, version = as_saved(path, raw)
    victim = draw.draw(st.sampled_from(sorted([*saved.tensors, *saved.header])))
    harm = draw.draw(st.sampled_from(["gone", "wrong", "shape", "type"]))
    if victim in saved.header:
        saved.header[victim] = draw.draw(st.sampled_from(WRONG))
        if harm == "gone":
            del saved.header[victim]
    elif harm == "gone":
        del saved.tensors[victim]
    elif harm == "shape":
        shape = draw.draw(st.sampled_from([(), (0,), (3, 2), (1, 1, 1)]))
        saved.tensors[victim] = np.zeros(shape, saved.tensors[victim].dtype)
    elif harm == "type":
        saved.tensors[victim] = saved.tensors[victim].astype(np.float16)
    else:
        saved.tensors[victim] = np.repeat(saved.tensors[victim], 2, axis=0)
    memory = MAKE[name]()
    with suppress(StateError):
        migrate.bring_up(saved, version)
        memory.restore("s", State(saved.tensors, saved.header))


def as_saved(path: Path, raw: dict[str, np.ndarray]) -> tuple[migrate.Saved, int]:
    """A stored memory as it is in its file, and the version that shows."""
    from safetensors import safe_open

    with safe_open(str(path), "np") as file:
        header = json.loads(file.metadata()["retain"])
    ((name, told),) = header["memories"].items()
    tensors = {key.removeprefix(f"{name}/"): np.array(array) for key, array in raw.items()}
    saved = migrate.Saved(told["config"], tensors, told["header"])
    return saved, migrate.unmarked(saved)


def test_the_recipe_names_every_archive() -> None:
    told = (STATES / "README.md").read_text()
    named = set(re.findall(r"[\w-]+\.zip", told))
    assert {path.name for path in STATES.glob("*.zip")} <= named
