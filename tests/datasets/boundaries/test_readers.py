"""Annotations of published sets: right ones are read as published, wrong ones named."""

from __future__ import annotations

import contextlib
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media import picture, write_video

from retain.datasets.boundaries.autoshot import evaluate, main, read_autoshot, read_scores
from retain.datasets.boundaries.base import total
from retain.datasets.boundaries.bbc import read_bbc
from retain.datasets.boundaries.pickles import read_pickle
from retain.pipeline.errors import SourceError, SourceFault, UsageError


def dump(path: Path, value: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


class Runs:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the pickle was run')",))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_numbers_come_back(tmp_path: Path, protocol: int) -> None:
    value = {
        "scenes": np.array([[0, 5], [6, 9]], np.int32),
        "float": np.float64(0.25),
        "other order": np.array([1, 258], ">u2"),
        "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
        "plain": [1, 2.5, "text", None, True, (3,)],
    }
    back = read_pickle(dump(tmp_path / "a.pickle", value, protocol))
    assert (back["scenes"] == value["scenes"]).all()
    assert back["scenes"].dtype == np.int32
    assert back["float"] == 0.25
    assert back["other order"].tolist() == [1, 258]
    assert (back["strided"] == value["strided"]).all()
    assert back["plain"] == value["plain"]


def test_names_of_older_numpy_are_known(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.arange(3)}, 2).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in data
    (tmp_path / "old.pickle").write_bytes(data)
    assert read_pickle(tmp_path / "old.pickle")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [Runs(), np.array([Runs()], object), Path("x"), {1: print}])
def test_a_pickle_that_runs_something_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SourceError, match="nothing of it was run") as caught:
        read_pickle(dump(tmp_path / "bad.pickle", value))
    assert caught.value.fault is SourceFault.REFUSED


DTYPE = b"cnumpy\ndtype\n(V%b\nI0\nI1\ntR(I3\nV|\n%bI-1\nI-1\nI0\ntb"
"""A type with a state that says it holds no references."""
BYTES = b"c_codecs\nencode\n(VAAAAAAAA\nVlatin1\ntR"


@pytest.mark.parametrize("made", [
    b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % (b"O8", b"NNN") + BYTES + b"tR.",
    b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES + DTYPE % (b"O8", b"NNN") + b"(I1\ntVC\ntR.",
    b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % (b"i8", b"N(Va\nt(d") + BYTES + b"tR.",
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I1\ntVO\nI0\n"
    + BYTES + b"tb.",
    b"]}Va\nI1\nsb.",
], ids=["scalar", "buffer", "fields", "array", "list"])  # fmt: skip
def test_bytes_never_become_addresses(tmp_path: Path, made: bytes) -> None:
    """With NumPy's own types, the first of these made the interpreter follow a pointer of the
    file's choice."""
    (tmp_path / "bad.pickle").write_bytes(made)
    with pytest.raises(SourceError, match="nothing of it was run"):
        read_pickle(tmp_path / "bad.pickle")


def test_no_codec_but_latin1(tmp_path: Path) -> None:
    (tmp_path / "codec.pickle").write_bytes(b"c_codecs\nencode\n(Vtext\nVzlib\ntR.")
    with pytest.raises(SourceError, match="zlib"):
        read_pickle(tmp_path / "codec.pickle")


def test_damage_is_named(tmp_path: Path) -> None:
    whole = pickle.dumps({"a": np.arange(100)})
    for cut in range(0, len(whole) - 1, 7):
        (tmp_path / "cut.pickle").write_bytes(whole[:cut])
        with pytest.raises(SourceError):
            read_pickle(tmp_path / "cut.pickle")
    with pytest.raises(SourceError, match="cannot be read"):
        read_pickle(tmp_path / "absent.pickle")


def test_a_number_in_the_file_sets_no_memory_aside(tmp_path: Path) -> None:
    # One object, to be remembered under the number 2**31: 34 GB in the unpickler written in C.
    (tmp_path / "memo.pickle").write_bytes(b"\x80\x02Nr\x00\x00\x00\x80.")
    assert read_pickle(tmp_path / "memo.pickle") is None


@given(data=st.binary(max_size=60), at=st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, at: int) -> None:
    whole = pickle.dumps({"a": np.arange(9), "b": [1.0, "x"]}, 2)
    for content in (data, whole[:at] + data + whole[at + len(data) :]):
        (tmp_path / "any.pickle").write_bytes(content)
        with contextlib.suppress(SourceError):
            read_pickle(tmp_path / "any.pickle")


def autoshot(folder: Path) -> Path:
    shots = {"one": [[0, 9], [10, 19], [25, 39]], "two": [[0, 4]]}
    table = {name: np.array(rows, np.int32) for name, rows in shots.items()}
    return dump(folder / "gt.pickle", table)


def test_autoshot(tmp_path: Path) -> None:
    clips = read_autoshot(autoshot(tmp_path))
    assert [(c.name, c.length) for c in clips] == [("one", 40), ("two", 5)]
    assert clips[0].boundaries == [(10, 10), (20, 25)]
    assert clips[1].boundaries == []
    scores = {"one": np.zeros((40, 1), np.float32), "two": np.zeros(5, np.float32)}
    scores["one"][[11, 21, 22, 35], 0] = 0.3  # two frames late; within; nothing there
    read = read_scores(dump(tmp_path / "scores.pickle", scores))
    counts = evaluate(clips, read)
    assert counts == {"one": (2, 1, 0), "two": (0, 0, 0)}
    assert total(counts.values()).f1 == pytest.approx(0.8)
    assert total(evaluate(clips, read, tolerance=1).values()) == (1, 2, 1)
    assert total(evaluate(clips, read, threshold=0.31).values()) == (0, 0, 2)
    del read["two"]
    with pytest.raises(UsageError, match="first 'two'"):
        evaluate(clips, read)


def published(clip_scores: np.ndarray, shots: list[list[int]], tolerance: int) -> tuple[int, ...]:
    """TransNetV2's and AutoShot's scripts in other words: float intervals around each change."""
    over = (clip_scores > 0.5).tolist()
    scenes, start = [], 0
    for i in range(len(over)):
        if i and over[i - 1] and not over[i]:
            start = i
        if i and over[i] and not over[i - 1]:
            scenes.append([start, i])
    if not over[-1]:
        scenes.append([start, len(over) - 1])
    if not scenes:
        scenes = [[0, len(over) - 1]]
    widen = tolerance / 2 - 0.5
    spans = [
        [(a[1] - widen, b[0] + widen) for a, b in itertools.pairwise(s)] for s in (shots, scenes)
    ]
    true, seen = spans
    i = j = hits = 0
    while i < len(true) and j < len(seen):
        if seen[j][1] < true[i][0]:
            j += 1
        elif seen[j][0] > true[i][1]:
            i += 1
        else:
            i, j, hits = i + 1, j + 1, hits + 1
    return hits, len(seen) - hits, len(true) - hits


@pytest.mark.parametrize("tolerance", [0, 1, 2])
def test_autoshot_counts_as_the_published_script(tmp_path: Path, tolerance: int) -> None:
    rng = np.random.default_rng(tolerance)
    for k in range(60):
        edges = np.sort(rng.choice(60, 8, replace=False)).tolist()
        shots = [[0, edges[0]]]
        for a, b in itertools.pairwise(edges):
            shots.append([min(shots[-1][1] + int(rng.integers(1, 3)), b), max(a, b)])
        shots = [s for i, s in enumerate(shots) if i == 0 or s[0] > shots[i - 1][1]]
        scores = (rng.random(64) < 0.25).astype(np.float32)
        truth = dump(tmp_path / f"{k}.pickle", {"v": np.array(shots)})
        counts = evaluate(read_autoshot(truth), {"v": scores}, 0.5, tolerance)["v"]
        assert counts == published(scores, shots, tolerance), (shots, np.flatnonzero(scores))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "no table"),
        ([1, 2], "no table"),
        ({"a": [[0, 5], [6, 9]]}, "no first and last"),
        ({"a": np.zeros(7, np.float32)}, "not a detector's scores"),
        ({"a": np.array([[0, 5], [3, 9]])}, "begins before frame 5"),
        ({"a": np.array([[5, 0]])}, "from frame 5 to 0"),
        ({"a": np.array([[0.5, 5]])}, "no first and last"),
    ],
)
def test_wrong_ground_truth_is_named(tmp_path: Path, table: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read_autoshot(dump(tmp_path / "gt.pickle", table))


def test_wrong_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not the ground truth"):
        read_scores(autoshot(tmp_path))
    with pytest.raises(SourceError, match="no score for each frame"):
        read_scores(dump(tmp_path / "nan.pickle", {"a": np.array([0.5, np.nan])}))


def test_videos_are_found_and_missing_ones_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "videos" / "part").mkdir(parents=True)
    write_video(tmp_path / "videos" / "part" / "one.mp4", 12, rate=10)
    (tmp_path / "videos" / "two.mp4").write_bytes(b"no video at all")
    clips = read_autoshot(autoshot(tmp_path), tmp_path / "videos")
    assert [c.fps for c in clips] == [10.0, 0.0]
    frames = list(clips[0].frames())
    assert len(frames) == 12
    assert np.abs(frames[3].astype(int) - picture(3)).mean() < 12
    assert "1 of 2 videos are missing: two" in caplog.text
    with pytest.raises(SourceError, match=r"two\.mp4"):
        clips[1].frames()
    with pytest.raises(SourceError, match="no folder of videos"):
        read_autoshot(autoshot(tmp_path), tmp_path / "elsewhere")


def test_bbc(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed" / "01-scenes.txt").write_text("0\t99\n100\t149\n160\t200\n")
    (tmp_path / "fixed" / "02-scenes.txt").write_text("0 10\n10 20\n\n")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "bbc_02.mp4", 5)
    first, second = read_bbc(tmp_path / "fixed", tmp_path / "videos")
    assert first.boundaries == [(100, 100), (150, 160)]
    assert first.length == 201
    assert "number 1" in first.missing
    assert second.boundaries == [(10, 10)]
    assert second.missing == ""
    assert "1 of 2 videos are missing: 01-scenes" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no shots"),
        ("0 5\nfive nine\n", "line 2: 'five nine'"),
        ("0 5 7\n", "line 1"),
        ("0\t-5\n", "line 1"),
        ("0 9\n5 12\n", "begins before frame 9"),
        ("\x00\x01\n", "line 1"),
    ],
)
def test_wrong_shots_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "01.txt").write_text(text)
    with pytest.raises(SourceError, match=words):
        read_bbc(tmp_path)


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no annotation files"):
        read_bbc(tmp_path)
    (tmp_path / "01.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="as text"):
        read_bbc(tmp_path)


def test_autoshot_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"one": np.zeros(40), "two": np.zeros(5)}
    scores["one"][9] = 0.3
    found = dump(tmp_path / "scores.pickle", scores)
    main([str(autoshot(tmp_path)), str(found)])
    assert "2 videos at 0.296: F1 0.6667, P 1.0000, R 0.5000" in capsys.readouterr().out
    with pytest.raises(UsageError, match="Give the pickle"):
        main([])
