"""Whatever lies in a folder, it is told what it is: nothing raises, nothing is read for ever."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from doctor_parts import WHOLE, found, lines, pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retain.datasets.doctor import heads
from retain.datasets.doctor import tree as tree_module
from retain.datasets.doctor.base import Report
from retain.datasets.doctor.kits import KITS
from retain.datasets.doctor.recognise import recognise
from retain.datasets.doctor.tree import scan

FOLDERS = sorted(
    {
        *("Videos", "database_nifti", "patient0001", "frames", "masks", "training", "testing"),
        *("JPEGImages", "480p", "Annotations", "libby", "Data", "VID", "val", "ILSVRC", "images"),
        *("MOT17-02-SDP", "gt", "det", "img1", "rgb", "depth", "results", "color", "pose"),
        *("intrinsic", "sparse", "0", "abc", "annotations", "ImageSets", "heads", "seq-01"),
    }
)
FILES = sorted(
    {
        *("FileList.csv", "VolumeTracings.csv", "0X1.avi", "subgroup_training.txt", "gt.txt"),
        *("patient0001_4CH_ED.mhd", "patient0001_2CH_half_sequence.nii.gz", "Info_4CH.cfg"),
        *("00000.jpg", "00000.png", "000000.JPEG", "000000.xml", "seqinfo.ini", "det.txt"),
        *("rgb.txt", "depth.txt", "groundtruth.txt", "traj.txt", "cam_params.json", "0.txt"),
        *("frame-000000.color.png", "frame-000000.pose.txt", "intrinsic_color.txt", "abc.txt"),
        *("transforms.json", "cameras.txt", "images.bin", "poses_bounds.npy", "intrinsics.json"),
        *("a.pkl", "k400_mr345_val_min_change_duration0.3.pkl", "01-scenes.txt", "mine.json"),
        *("000000.tar", "MOT17.zip", "a.mp4", "a.dcm", "IM0001", "a\nb.png", "\udcff.png"),
    }
)
STARTS = (
    *(b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffAVI ", b"\x1f\x8b\x08"),
    *(
        b"\0\0\0\x18ftypisom",
        b"\x1aE\xdf\xa3",
        b"\x93NUMPY\x01\0",
        b"\x80\x04}\x94.",
        b"0 1\n2 3\n",
    ),
    *(b'{"images": [], "annotations": 3, "categories": {}}', b"[]", b'{"frames": 3}', b"{}"),
    *(b"FileName,EF,ESV,EDV,Split\n\n,,\n", b"FileName,X1,Y1,X2,Y2,Frame\na,b\n", b"\0" * 132),
    *(b"[Sequence]\nseqLength=99999999999\nimDir=../..\n", b"1,1,1,1,1,1,1,1,1\n", b"ED: 3\nES:"),
    *(b"http://x\n" + b"1 " * 19, b"nan " * 16, b'{"camera": 1}', b'{"a": {"substages_timestamps"'),
)
trees = st.lists(
    st.tuples(
        st.lists(st.sampled_from(FOLDERS), max_size=3),
        st.sampled_from(FILES),
        st.sampled_from(STARTS),
        st.binary(max_size=12),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(tree=trees)
def test_random_trees(tree: list[tuple[list[str], str, bytes, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for folders, name, start, rest in tree:
            place = Path(root, *folders)
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(start + rest)
        report = recognise(root)
        check(report)
        assert not [line for f in report.findings for line in f.lines if line.name == "check"]


def check(report: Report) -> None:
    """What a report promises: either findings or a guess, everything fit to print, few names."""
    assert bool(report.findings) != bool(report.guess)
    for finding in report.findings:
        assert finding.lines
        for line in finding.lines:
            text = " ".join((line.name, line.found, line.listing, line.fix))
            assert text.isprintable()
            assert text.encode()
            assert len(line.names) <= 10
            assert line.count >= len(line.names)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("set") / "it") for name, write in WHOLE.items()}


@pytest.mark.parametrize("name", list(WHOLE))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_file_may_be_spoilt(name: str, originals: dict[str, Path], data: st.DataObject) -> None:
    root = originals[name]
    files = sorted(p for p in root.rglob("*") if p.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at] + data.draw(st.binary(max_size=6)) + whole[at + 3 :])
    try:
        report = recognise(root)
    finally:
        path.write_bytes(whole)
    check(report)
    assert not [line for f in report.findings for line in f.lines if line.name == "check"]


@pytest.mark.parametrize("name", list(WHOLE))
def test_any_folder_may_be_gone(name: str, originals: dict[str, Path], tmp_path: Path) -> None:
    places = sorted(p.relative_to(originals[name]) for p in originals[name].rglob("*/"))
    for place in places:
        copy = Path(shutil.copytree(originals[name], tmp_path / "copy"))
        if (copy / place).is_dir():
            shutil.rmtree(copy / place)
        check(recognise(copy))
        shutil.rmtree(copy)


def test_a_mistake_of_ours_is_told_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("retain.datasets.doctor.recognise._ROOTED", (boom,))
    finding = found(pictures(tmp_path))
    assert finding.state == "broken"
    assert "KeyError" in finding.lines[0].found


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    pictures(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    finding = found(tmp_path)
    notes = {line.name: line for line in lines(finding, "note", "partial")}
    assert notes["links"].count
    assert any("lead nowhere" in line.found for line in finding.lines)
    assert finding.items == 6  # the folder and the link to it


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name in ("a.pkl", "b.json", "c.mp4", "01-scenes.txt"):
        os.mkfifo(tmp_path / name)
    assert found(tmp_path).items == 3
    assert recognise(tmp_path / "c.mp4").state == "unknown"
    (tmp_path / "Videos").mkdir()
    (tmp_path / "VolumeTracings.csv").write_text("")
    os.mkfifo(tmp_path / "FileList.csv")
    assert found(tmp_path).kit.key == "echonet"


def test_links_to_one_another_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MOST_LINKS", 300)
    names = [f"d{k}" for k in range(9)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"")
    for name in names:
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other, target_is_directory=True)
    tree = scan(tmp_path)
    assert tree.cut
    assert sum(1 for _ in tree.root.walk()) <= 300 + len(names) + 1


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "a")
    closed = pictures(tmp_path / "closed")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (line,) = [line for line in found(tmp_path).lines if line.name == "folders"]
    assert (line.state, line.names) == ("partial", ("closed",))
    assert recognise(closed).guess.startswith("You may not list it")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path)
    real = Path.open

    def open_(path: Path, *args: object, **options: object) -> object:
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", open_)
    (line,) = lines(found(tmp_path), "broken")
    assert line.names == ("1.png",)
    assert "Permission denied" in line.found


def test_fifty_thousand_files_are_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder once; no more files are opened than LOOKED, however many there are."""
    for k in range(50):
        (tmp_path / f"{k:03d}").mkdir()
    listed: Counter[str] = Counter()
    opened: list[Path] = []
    real = os.scandir

    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def is_dir(self) -> bool:
            return False

        def stat(self) -> os.stat_result:
            return os.stat_result((0o100644, 0, 0, 1, 0, 0, 1000, 0, 0, 0))

    def scandir(path: Path) -> object:
        listed[str(path)] += 1
        inside = Path(path).parent == tmp_path
        return [Entry(f"{k:06d}.png") for k in range(1000)] if inside else real(path)

    def fault(path: Path) -> str:
        opened.append(path)
        return ""

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(heads, "fault", fault)
    counts: list[int] = []
    (finding,) = recognise(tmp_path, counts.append).findings
    assert finding.items == 50_000
    assert set(listed.values()) == {1}
    assert len(opened) == heads.LOOKED
    assert counts == [20_000, 40_000]
    assert any("looked into 10,000 of them" in line.found for line in finding.lines)


@pytest.mark.parametrize("kit", KITS, ids=lambda kit: kit.key)
def test_its_names_alone_are_no_reason_to_fail(kit: object, tmp_path: Path) -> None:
    """Every telltale name as an empty folder, then as an empty file."""
    for name in kit.marks:  # type: ignore[attr-defined]
        (tmp_path / "folders" / name).mkdir(parents=True)
        path = tmp_path / "files" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    for place in ("folders", "files"):
        check(recognise(tmp_path / place))
