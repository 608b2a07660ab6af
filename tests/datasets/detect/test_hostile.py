"""Whatever lies in a data set's small files, a reader gives clips or a SourceError; nothing else.

As for scenes in test_scene_hostile.py: bytes altered anywhere, values of other kinds in JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from detect_parts import Renamed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retain.datasets.catalog import DATASETS
from retain.datasets.detect import mot, vid
from retain.datasets.detect.objects import ObjectVideo
from retain.datasets.detect.write import write_clips
from retain.pipeline.errors import SourceError

NAMES = {"imagenet-vid": tuple(vid.CLASSES)[:8], "mot": mot.CLASSES[:8]}
LAYOUTS = ("coco-vid", "davis", "imagenet-vid", "mot")
_fixture = [HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {}
    for layout in LAYOUTS:
        roots[layout] = tmp_path_factory.mktemp(layout)
        clip: Any = ObjectVideo(1, frames=2, width=48, height=32)
        write_clips([Renamed(clip, NAMES.get(layout, clip.names))], roots[layout], layout)
    return roots


def attempt(layout: str, root: Path, path: Path, altered: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(altered)
    try:
        found = DATASETS.load(layout)(root / "annotations.json" if layout == "coco-vid" else root)
        for clip in found:
            for k in range(min(len(clip), 3)):
                try:
                    sample = clip[k]
                except SourceError:
                    continue
                assert sample.truth.boxes.shape == (len(sample.truth), 4)
                assert all(0 <= label < len(clip.names) for label in sample.truth.labels)
    except SourceError:
        pass
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=40, deadline=None, suppress_health_check=_fixture)
@given(data=st.data())
def test_altered_bytes(layout: str, places: dict[str, Path], data: st.DataObject) -> None:
    root = places[layout]
    files = sorted(p for p in root.rglob("*") if p.is_file())
    labels = [p for p in files if p.suffix in (".xml", ".json", ".txt", ".ini")]
    path = data.draw(st.sampled_from(labels or files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    new = data.draw(
        st.binary(max_size=9) | st.sampled_from([b"-inf", b"nan", b"1e999", b"0", b","])
    )
    cut = data.draw(st.integers(0, 12) | st.just(len(whole)))
    attempt(layout, root, path, whole[:at] + new + whole[at + cut :])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None, suppress_health_check=_fixture)
@given(data=st.data())
def test_values_of_other_kinds(places: dict[str, Path], data: st.DataObject) -> None:
    path = places["coco-vid"] / "annotations.json"
    whole = json.loads(path.read_bytes())
    key = data.draw(st.sampled_from(sorted(whole)))
    holder = data.draw(st.sampled_from([whole, *whole[key]]))
    holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(VALUES)
    attempt("coco-vid", places["coco-vid"], path, json.dumps(whole).encode())
