"""Whatever lies in a scene's small files, a reader gives a scene or a SourceError; nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scene_folders import WRITERS, colmap_binary, truth

from retain.datasets.scene.open import open_scene
from retain.pipeline.errors import SourceError

FOLDERS = {n: w for n, w in WRITERS.items() if n != "7-scenes"} | {"colmap binary": colmap_binary}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {n: w(tmp_path_factory.mktemp("scene"), truth(2)) for n, w in FOLDERS.items()}


def small_files(place: Path) -> list[Path]:
    under = place.parent if place.is_file() or place.name == "room0" else place
    return sorted(p for p in under.rglob("*") if p.is_file() and p.suffix != ".png")


@pytest.mark.parametrize("name", list(FOLDERS))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_altered_bytes(name: str, places: dict[str, Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(small_files(places[name])))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    new = data.draw(
        st.binary(max_size=9) | st.sampled_from([b"-inf", b"nan", b"1e999", b"\n", b"0"])
    )
    cut = data.draw(st.integers(0, 12) | st.just(len(whole)))
    attempt(places[name], path, whole, whole[:at] + new + whole[at + cut :])


SHORT = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SHORT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("name", ["nerfstudio", "rgbd", "replica"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_values_of_other_kinds(name: str, places: dict[str, Path], data: st.DataObject) -> None:
    path = next(p for p in small_files(places[name]) if p.suffix == ".json")
    whole = path.read_bytes()
    given_ = json.loads(whole)
    holder = data.draw(st.sampled_from(list(holders(given_))))
    key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = data.draw(VALUES)
    new = data.draw(
        st.just(given_) | VALUES if data.draw(st.integers(0, 9)) == 0 else st.just(given_)
    )
    attempt(places[name], path, whole, json.dumps(new).encode())


def holders(value: object) -> list[dict[str, object]]:
    """All objects in a JSON value that have keys."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) and value else []
    return own + [found for one in inner for found in holders(one)]


def attempt(place: Path, path: Path, whole: bytes, altered: bytes) -> None:
    path.write_bytes(altered)
    try:
        scene = open_scene(str(place))
        for index in range(len(scene)):
            try:
                shot = scene[index]
            except SourceError:
                continue
            assert shot.c2w is None or np.isfinite(shot.c2w).all()
            assert shot.image.shape[:2] == (shot.camera.height, shot.camera.width)
    except SourceError:
        pass
    finally:
        path.write_bytes(whole)
