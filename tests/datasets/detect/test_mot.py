"""MOTChallenge: columns, counts, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from retain.datasets.detect.base import IGNORE, OCCLUDED
from retain.datasets.detect.mot import Mot
from retain.pipeline.errors import SourceError


def sequence(root: Path, lines: str, name: str = "gt", info: str = "") -> Path:
    (root / name).mkdir(parents=True)
    (root / name / f"{name}.txt").write_text(lines)
    if info:
        (root / "seqinfo.ini").write_text(info)
    return root


INFO = "[Sequence]\nname=s%1\nframeRate=14\nseqLength=3\nimWidth=40\nimHeight=30\nimExt=.jpg\n"


def test_mot_columns_and_counts(tmp_path: Path) -> None:
    """From 1, in no order; nine columns carry a class, ten do not; 0 means "do not count"."""
    lines = (
        "3,1,1,1,10,20,1,3,0.2\n1,2,5.5,6,10,20,1,1,1\n1,4,5,6,10,20,0,1,1\n1,5,5,6,10,20,1,8,1\n"
    )
    clip = Mot(sequence(tmp_path / "s", lines, info=INFO))[0]
    assert (clip.name, len(clip), clip.rate) == ("s%1", 3, 14)
    first, last = clip.truth(0), clip.truth(2)
    assert first.boxes[0].tolist() == [4.5, 5, 14.5, 25]
    assert first.flags.tolist() == [0, IGNORE, IGNORE]
    assert last.boxes.tolist() == [[0, 0, 10, 20]]
    assert clip.names[last.labels[0]] == "car"
    assert last.flags.tolist() == [OCCLUDED]
    with pytest.raises(SourceError, match="only its boxes are there"):
        clip[0]


def test_mot15_has_no_classes(tmp_path: Path) -> None:
    lines = "1,1,399,182,121,229,1,-1,-1,-1\n2,1,402,181,124,233,1,-1,-1,-1\n"
    clip = Mot(sequence(tmp_path / "s", lines))[0]
    assert (len(clip), clip.rate, clip.truth(0).size) == (2, 30, (0, 0))
    assert clip.truth(1).labels.tolist() == [0]
    assert clip.truth(1).flags.tolist() == [0]


def test_mot_detections_have_scores_and_no_tracks(tmp_path: Path) -> None:
    lines = "1,-1,5,6,10,20,0.7\n1,-1,5,6,10,20,-0.4,-1,-1,-1\n"
    truth = Mot(sequence(tmp_path, lines, "det"), boxes="det")[0].truth(0)
    assert truth.tracks.tolist() == [-1, -1]
    assert truth.scores is not None
    assert truth.scores.tolist() == pytest.approx([0.7, -0.4])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("1,1,5,6,10,20,1,1,1\n1,1,7,6,10,20,1,1,1", "id 1 is in frame 1 twice"),
        ("1,1,5,6,10,20", "has 6 numbers"),
        ("0,1,5,6,10,20,1,1,1", "frame 0"),
        ("1,1,5,6,10,20,1,14,1", "no class 14"),
        ("1.5,1,5,6,10,20,1,1,1", "no whole number"),
        ("1,1,nan,6,10,20,1,1,1", "cannot reach"),
        ("1,1e300,5,6,10,20,1,1,1", "no whole number"),
        ("4,1,5,6,10,20,1,1,1", "has boxes in frame 4"),
    ],
)
def test_mot_files_that_are_none(lines: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=words):
        Mot(sequence(tmp_path, lines, info=INFO))
