"""AnySource: content decides, then the ending; mistakes are one clear sentence."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import media
import pytest

from retain.pipeline.catalog import SOURCES
from retain.pipeline.errors import RetainError, SourceError, SourceFault, UsageError
from retain.pipeline.sources.any import AnySource, describe
from retain.pipeline.stage import Reports, Source


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("0", "camera"),
        ("/dev/video7", "camera"),
        ("-", "stdin"),
        ("rtsp://u:p@cam/1", "video"),
        ("https://h/live.m3u8", "video"),
        ("tcp://h:9000", "video"),
        ("synthetic://bounce", "synthetic"),
        ("shots/*.png", "images"),
    ],
)
def test_addresses_go_by_their_form(source: str, kind: str) -> None:
    assert describe(source) == kind


def test_files_go_by_content_before_name(tmp_path: Path) -> None:
    clip = media.write_video(tmp_path / "clip.png", 3, container="mp4")
    image = tmp_path / "image.mp4"
    (tmp_path / "i").mkdir()
    media.write_images(tmp_path / "j")
    image.write_bytes((tmp_path / "j" / "im1.png").read_bytes())
    dicom = tmp_path / "echo"
    dicom.write_bytes(bytes(128) + b"DICM" + bytes(100))
    unknown = tmp_path / "old.dcm"
    unknown.write_bytes(b"no mark at all")
    assert [describe(str(p)) for p in (clip, image, dicom, unknown, tmp_path / "i")] == [
        *("video", "images", "dicom", "dicom", "images")
    ]
    assert describe(clip.as_uri()) == "video"


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ("ftp://u:p@h/x.mp4", UsageError, r"No source reads 'ftp' addresses \('ftp://\*\*\*@h"),
        ("", UsageError, "'source' is a word"),
        ("/no/such.mp4", SourceError, "There is no file '/no/such.mp4'"),
        ("a" * 300, SourceError, "There is no file 'a{40}…': no name is so long"),
        ("~nobody-here/a.mp4", SourceError, "'~nobody-here/a.mp4' is no place"),
    ],
)
def test_mistakes_are_named(source: str, error: type[RetainError], match: str) -> None:
    with pytest.raises(error, match=match):
        describe(source)


def test_options_reach_the_right_source(tmp_path: Path) -> None:
    source = AnySource("synthetic://still?rate=10&frames=40", stream="a", fps=5, limit=3)
    assert source.stats() == {}
    frames = list(source.frames())
    assert [(f.stream, f.seconds) for f in frames] == [("a", 0.0), ("a", 0.2), ("a", 0.4)]
    assert source.stats() == {"delivered": 3}
    source.close()


def test_pace_lets_frames_come_when_they_are_due() -> None:
    """The clock is real, so only what cannot be early is asserted: 10 frames of 0.1 s, x5."""
    source = AnySource("synthetic://still?rate=10&frames=10", pace=5)
    began = time.monotonic_ns()
    frames = list(source.frames())
    assert all(f.t_arrival_ns - began >= 20_000_000 * k for k, f in enumerate(frames))
    plain = list(AnySource("synthetic://still?rate=10&frames=10").frames())
    assert [f.pts for f in frames] == [f.pts for f in plain]


def test_a_paced_source_closes_at_once() -> None:
    source = AnySource("synthetic://still?rate=0.01&frames=10", pace=0.01)
    frames = source.frames()
    assert next(frames).seq == 0
    source.close()
    assert list(frames) == []


def test_closed_before_it_was_opened() -> None:
    source = AnySource("synthetic://still?frames=0")
    source.close()
    source.open()
    assert list(source.frames()) == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_keeps_the_protocol(name: str) -> None:
    kind = SOURCES.load(name)
    examples = {
        "synthetic": "synthetic://still",
        "stdin": "-",
        "camera": "0",
        "far": "far://h:1?insecure=true",
    }
    example = examples.get(name, "x.mp4")
    options = inspect.signature(kind).parameters
    assert list(options)[:4] == ["source", "stream", "fps", "limit"]
    source = kind(example)
    assert isinstance(source, Source)
    assert isinstance(source, Reports)
    assert all(isinstance(v, int | float | str) for v in source.stats().values())
    source.close()
    source.close()


def test_garbage_dicom_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.dcm"
    path.write_bytes(bytes(128) + b"DICM" + b"\xff" * 200)
    with pytest.raises(SourceError) as caught:
        AnySource(str(path)).open()
    assert caught.value.fault in (SourceFault.BROKEN, SourceFault.EMPTY)
