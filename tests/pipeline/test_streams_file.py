"""The file of streams: strict, with places of mistakes, edited without losing what people wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from retain.pipeline.errors import GraphError, UsageError
from retain.pipeline.streams import (
    Settings,
    StreamSpec,
    add_stream,
    load_streams,
    parse_streams,
    remove_stream,
)

GOOD = """\
# my house
streams:
  door: {source: "rtsp://u:${PW}@host/1", fps: 2}  # the front
  # the yard has two
  yard:
    source: "0"
    fps: 5.5

# how
settings: {mode: paper, evict_after_s: 60}
"""
FORMS = {
    "block": GOOD,
    "flow": 'streams: {door: {source: "0"}, yard: {source: "1"}}\n',
    "flow over lines": 'streams: {door: {source: "0"},\n  yard: {source: "1"}}\n',
    "no newline at the end": 'streams:\n  door: {source: "0"}\n  yard: {source: "1"}',
    "settings first": 'settings: {}\nstreams:\n   a:\n      source: "0"\n   b: {source: "1"}\n',
    "nothing": "streams: {}\n",
    "null": "streams:\nsettings:\n  mode: robust\n",
}  # fmt: skip


def test_a_whole_file() -> None:
    read = parse_streams(GOOD.encode(), "cams.yaml")
    assert read.streams == {
        "door": StreamSpec("rtsp://u:${PW}@host/1", 2.0),
        "yard": StreamSpec("0", 5.5),
    }
    assert read.settings == Settings(mode="paper", evict_after_s=60)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("streams:\n  a: {sauce: x}", 2, "Did you mean 'source'"),
        ("streams:\n  a: {fps: 2}", 2, "needs 'source'"),
        ("streams:\n  a:\n    source: x\n    fps: fast", 4, "'fps'"),
        ("streams:\n  a:\n    source: x\n    fps: -1", 4, ">= 0"),
        ("streams:\n  a: {source: 0}", 2, "'source'"),
        ("streams:\n  a/b: {source: x}", 2, "cannot be called"),
        ("streams:\n  a: {source: x}\n  a: {source: y}", 3, "twice"),
        ("streams: {}\nsettings: {mode: fast}", 2, "'mode'"),
        ("streams: {}\nsettings:\n  batch: 0", 3, "'batch'"),
        ("streams: {}\nset: {}", 2, "not a key"),
        ("settings: {}", 1, "no 'streams'"),
        ("streams: {", 2, "YAML"),
        ("", 1, "empty"),
        ("streams: [1]", 1, "mapping"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        parse_streams(text.encode(), "cams.yaml")
    assert words in str(caught.value)
    assert caught.value.line in (line, line - (text == "streams: {"))


@pytest.mark.parametrize("form", FORMS)
def test_streams_are_added_and_removed(tmp_path: Path, form: str) -> None:
    file = tmp_path / "cams.yaml"
    file.write_text(FORMS[form])
    file.chmod(0o600)
    before = load_streams(file)
    spec = StreamSpec('rtsp://a:b@h/"quoted": #1', 0.5)
    add_stream(file, "roof", spec)
    assert load_streams(file).streams == {**before.streams, "roof": spec}
    for name in [*before.streams, "roof"]:
        left = load_streams(file).streams
        remove_stream(file, name)
        assert load_streams(file).streams == {k: v for k, v in left.items() if k != name}
    assert load_streams(file).settings == before.settings
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["cams.yaml"]


def test_comments_stay(tmp_path: Path) -> None:
    file = tmp_path / "cams.yaml"
    file.write_text(GOOD)
    add_stream(file, "roof", StreamSpec("1"))
    assert file.read_text() == GOOD.replace(
        "    fps: 5.5\n", '    fps: 5.5\n  roof: {source: "1"}\n'
    )
    remove_stream(file, "yard")
    assert "# the front" in file.read_text()
    assert "# how" in file.read_text()


def test_a_wrong_change_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cams.yaml"
    file.write_text(GOOD)
    with pytest.raises(UsageError, match="already"):
        add_stream(file, "door", StreamSpec("1"))
    with pytest.raises(UsageError, match="no stream"):
        remove_stream(file, "cellar")
    assert file.read_text() == GOOD
