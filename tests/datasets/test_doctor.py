"""Miniature data sets are recognised, and what was taken from them is missed by name."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import doctor_parts as parts
import pytest
from doctor_parts import WHOLE, found, lines

from retain.datasets.doctor import kits
from retain.datasets.doctor.base import Part
from retain.datasets.doctor.detect import SEQUENCES
from retain.datasets.doctor.echo import camus
from retain.datasets.doctor.mot import LENGTHS
from retain.datasets.doctor.recognise import recognise
from retain.datasets.doctor.tree import scan


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("set") / "it") for name, write in WHOLE.items()}


@pytest.fixture
def copies(originals: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """Of all, made when asked for."""

    class Copies(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            self[name] = Path(shutil.copytree(originals[name], tmp_path / name / "it"))
            return self[name]

    return Copies()


@pytest.mark.parametrize("name", list(WHOLE))
def test_a_whole_one_is_whole(name: str, originals: dict[str, Path]) -> None:
    finding = found(originals[name])
    assert finding.kit.key == name
    assert finding.state == "whole", [line for line in finding.lines if line.state != "ok"]
    assert finding.items > 0
    assert finding.commands or name == "realestate10k"


@pytest.mark.parametrize("name", list(WHOLE))
def test_an_empty_file_is_broken_and_named(name: str, copies: dict[str, Path]) -> None:
    root = copies[name]
    path = max(
        (p for p in root.rglob("*") if p.suffix in (".png", ".jpg", ".JPEG", ".avi", ".mp4")),
        key=lambda p: p.name,
    )
    path.write_bytes(b"")
    finding = found(root)
    assert finding.state == "broken"
    assert any(path.name in one for line in lines(finding, "broken") for one in line.names)


@pytest.mark.parametrize("name", list(WHOLE))
def test_a_file_cut_off_is_broken(name: str, copies: dict[str, Path]) -> None:
    root = copies[name]
    path = next(p for p in sorted(root.rglob("*")) if p.suffix in (".png", ".JPEG", ".avi", ".mp4"))
    path.write_bytes(path.read_bytes()[:-40])
    broken = [line for line in lines(found(root), "broken") if "cut off" in line.found]
    assert [path.name in one for line in broken for one in line.names] == [True]


@pytest.mark.parametrize("name", ["echonet", "davis", "imagenet-vid", "coco", "kinetics-gebd"])
def test_one_folder_too_deep(name: str, copies: dict[str, Path]) -> None:
    root = copies[name]
    finding = found(root.parent)
    assert finding.root == root
    (line,) = [line for line in finding.lines if line.name == "place"]
    assert line.state == "partial"
    assert str(root) in line.found
    assert str(root) in line.fix


@pytest.mark.parametrize(
    ("name", "inside"),
    [("echonet", "Videos"), ("davis", "JPEGImages"), ("davis", "JPEGImages/480p")],
)
def test_one_folder_too_far_in(name: str, inside: str, copies: dict[str, Path]) -> None:
    finding = found(copies[name] / inside)
    (line,) = [line for line in finding.lines if line.name == "place"]
    assert str(copies[name]) in line.fix
    assert finding.state == "partial"


def test_a_table_of_a_data_set_is_no_data_set(originals: dict[str, Path]) -> None:
    guess = recognise(originals["echonet"] / "FileList.csv").guess
    assert str(originals["echonet"]) in guess


def test_several_data_sets_in_one_folder(copies: dict[str, Path], tmp_path: Path) -> None:
    for name in ("echonet", "davis", "tum"):
        copies[name].rename(tmp_path / f"my-{name}")
        shutil.rmtree(tmp_path / name)
    report = recognise(tmp_path)
    assert {finding.kit.key for finding in report.findings} == {"echonet", "davis", "tum"}
    assert report.state == "whole"


# EchoNet-Dynamic


def test_echonet_names_missing_videos_and_counts_the_published(tmp_path: Path) -> None:
    root = parts.echonet(tmp_path / "it", official=True)
    gone = sorted((root / "Videos").iterdir())[:2]
    for path in gone:
        path.unlink()
    finding = found(root)
    (train,) = [line for line in finding.lines if line.name == "train"]
    assert train.state == "partial"
    assert train.found == "2 of 4 listed videos; 7,465 published"
    assert list(train.names) == [path.stem for path in gone]
    assert kits.ECHONET.where in train.fix


def test_echonet_without_a_table(copies: dict[str, Path]) -> None:
    (copies["echonet"] / "VolumeTracings.csv").unlink()
    finding = found(copies["echonet"])
    assert finding.state == "broken"
    assert [line.name for line in lines(finding, "broken")] == ["VolumeTracings.csv"]


def test_echonet_tracings_and_rows_that_do_not_fit(copies: dict[str, Path]) -> None:
    table = copies["echonet"] / "VolumeTracings.csv"
    rows = table.read_text().replace("clip0.avi", "0X4F8859C8AB4DA9CB.avi")
    table.write_text(rows)
    notes = [line for line in lines(found(copies["echonet"]), "note") if line.name == "tracings"]
    assert [line.names for line in notes] == [("clip0",), ("0X4F8859C8AB4DA9CB",)]
    assert "known" in notes[1].found


def test_echonet_with_other_columns(copies: dict[str, Path]) -> None:
    (copies["echonet"] / "FileList.csv").write_text("Name,EF\nx,55\n")
    (line,) = lines(found(copies["echonet"]), "broken")
    assert "no column FileName" in line.found


# CAMUS


def _few(patients: int) -> kits.Kit:
    made = (Part("train", patients - 2), Part("val", 1), Part("test", 1))
    return replace(kits.CAMUS, parts=made)


def test_camus_whole_against_a_kit_of_its_size(tmp_path: Path) -> None:
    root = parts.camus(tmp_path)
    finding = camus(scan(root).root, _few(4))
    assert finding is not None
    assert finding.state == "whole", finding.lines


def test_camus_as_nifti_that_ends_too_early(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    root = parts.camus(tmp_path, layout="nifti")
    finding = camus(scan(root).root, _few(4))
    assert finding is not None
    assert finding.state == "whole", finding.lines
    path = next(root.rglob("patient0002_2CH_half_sequence.nii.gz"))
    path.write_bytes(path.read_bytes()[:-30])
    (line,) = lines(found(root), "broken")
    assert line.names == (str(path.relative_to(root)),)


def test_camus_in_part(tmp_path: Path) -> None:
    root = parts.camus(tmp_path)
    shutil.rmtree(root / "training" / "patient0002")
    next((root / "training" / "patient0003").glob("*4CH_ED_gt.mhd")).unlink()
    next((root / "training" / "patient0003").glob("*4CH_half_sequence_gt.mhd")).unlink()
    finding = found(root)
    by_name = {line.name: line for line in finding.lines}
    assert finding.state == "partial"
    assert by_name["patients"].found == "3 of 500 patients"
    assert by_name["patients"].names[0] == "patient0002"
    assert by_name["patients"].count == 497
    assert by_name["train"].names == ("patient0002",)
    assert by_name["views"].names == ("patient0003_4CH_ED_gt",)


def test_camus_end_systole_first_is_told(tmp_path: Path) -> None:
    root = parts.camus(tmp_path)
    info = root / "training" / "patient0001" / "Info_4CH.cfg"
    info.write_text(info.read_text().replace("ED: 1", "ED: 3").replace("ES: 3", "ES: 1"))
    (line,) = [line for line in found(root).lines if line.name == "phases"]
    assert line.names == ("patient0001_4CH",)


def test_camus_first_release_keeps_the_test_truth(tmp_path: Path) -> None:
    root = parts.camus(tmp_path)
    (root / "testing").mkdir()
    moved = (root / "training" / "patient0004").rename(root / "testing" / "patient0004")
    for path in moved.glob("*_gt.*"):
        path.unlink()
    finding = camus(scan(root).root, _few(4))
    assert finding is not None
    assert finding.state == "whole"
    assert [line.count for line in finding.lines if line.name == "truth"] == [4]


# Videos with boxes


def test_davis_of_2016_is_whole_by_split(tmp_path: Path) -> None:
    names = sorted(SEQUENCES["2016 val"])
    root = parts.davis(tmp_path, names)
    finding = found(root)
    assert finding.state == "whole"
    assert [(line.name, line.state) for line in finding.lines[:2]] == [
        ("2016 train", "absent"),
        ("2016 val", "ok"),
    ]
    shutil.rmtree(root / "JPEGImages" / "480p" / "libby")
    finding = found(root)
    assert [line.names for line in lines(finding, "partial")] == [("libby",), ("libby",)]


@pytest.mark.parametrize("gone", ["JPEGImages", "Annotations"])
def test_davis_without_half_of_it(gone: str, copies: dict[str, Path]) -> None:
    shutil.rmtree(copies["davis"] / gone)
    finding = found(copies["davis"])
    assert (finding.kit, finding.state) == (kits.DAVIS, "broken")


def test_davis_names_are_those_published() -> None:
    sizes = {part.name: part.items for part in kits.DAVIS.parts}
    assert {name: len(names) for name, names in SEQUENCES.items()} == sizes


def test_davis_masks_without_pictures_and_pictures_without_masks(copies: dict[str, Path]) -> None:
    root = copies["davis"]
    first = sorted((root / "JPEGImages/480p").iterdir())[0].name
    (root / f"JPEGImages/480p/{first}/00001.jpg").unlink()
    (root / f"Annotations/480p/{first}/00002.png").unlink()
    finding = found(root)
    assert [line.names for line in lines(finding, "partial")] == [(f"{first}/00001",)]
    assert any(line.names == (f"{first} (1 of 2)",) for line in lines(finding, "note"))


def test_vid_labels_without_pictures(copies: dict[str, Path]) -> None:
    shutil.rmtree(copies["imagenet-vid"] / "Data")
    finding = found(copies["imagenet-vid"])
    assert finding.state == "broken"
    assert any("Annotations without Data" in line.found for line in finding.lines)


def test_vid_counts_against_the_published(
    originals: dict[str, Path], copies: dict[str, Path]
) -> None:
    val = [line for line in found(originals["imagenet-vid"]).lines if line.name == "val"]
    assert [line.found for line in val] == ["2 videos", "6 frames"]
    videos = copies["imagenet-vid"] / "Data" / "VID" / "val"
    for k, one in enumerate(sorted(videos.iterdir())):
        one.rename(videos / f"ILSVRC2015_val_{k:08d}")
    val = [line for line in found(copies["imagenet-vid"]).lines if line.name == "val"]
    assert [line.found for line in val[:2]] == ["2 of 555 videos", "6 frames of 176,126 published"]
    assert val[2].count == val[3].count == 2  # the labels go by the old names


def test_mot_pictures_missing_and_labels_broken(copies: dict[str, Path]) -> None:
    first, second = sorted(p for p in copies["mot"].iterdir() if p.is_dir())
    (first / "img1" / "000002.png").unlink()
    (second / "gt" / "gt.txt").write_text("1,2,3\n")
    finding = found(copies["mot"])
    (short,) = lines(finding, "partial")
    assert short.names == (f"{first.name} (1 of 3, first 000002)",)
    (bad,) = lines(finding, "broken")
    assert bad.name == second.name
    assert "at least 7" in bad.found


def test_mot_test_sequences_have_no_truth(copies: dict[str, Path]) -> None:
    for one in copies["mot"].iterdir():
        (one / "det").mkdir()
        (one / "gt" / "gt.txt").rename(one / "det" / "det.txt")
    finding = found(copies["mot"])
    assert finding.state == "whole"
    assert any("judged by a server" in line.found for line in lines(finding, "note"))


def test_mot_lengths_add_up_to_the_published() -> None:
    sizes = {part.name: (part.items, part.frames) for part in kits.MOT.parts}
    assert {n: (len(of), sum(of.values())) for n, of in LENGTHS.items()} == sizes


def test_mot_official_names_are_counted(copies: dict[str, Path]) -> None:
    first = next(p for p in copies["mot"].iterdir() if p.is_dir())
    first.rename(first.with_name("MOT17-09-SDP"))
    finding = found(copies["mot"])
    (line,) = [line for line in finding.lines if line.name == "MOT17 train"]
    assert line.found == "1 of 21 sequences"
    short = next(line for line in finding.lines if line.name == "frames")
    assert short.names == ("MOT17-09-SDP (522 of 525, first 000004)",)


def test_coco_names_missing_pictures(copies: dict[str, Path]) -> None:
    (copies["coco"] / "images" / "000002.png").unlink()
    (line,) = lines(found(copies["coco"]), "partial")
    assert line.names == ("000002.png",)


def test_coco_by_its_file(originals: dict[str, Path]) -> None:
    (originals["coco"] / "annotations" / "other.json").write_text("{}")
    finding = found(originals["coco"] / "annotations" / "mine.json")
    assert (finding.kit, finding.state, finding.items) == (kits.COCO, "whole", 2)


# Scenes


def test_seven_scenes_sequences_by_split(tmp_path: Path) -> None:
    for name in ("seq-01", "seq-02"):
        parts.scene(tmp_path / "heads" / name, "7-scenes")
    finding = found(tmp_path)
    splits = {line.name: line.found for line in finding.lines if line.name in ("train", "test")}
    assert splits == {"train": "all 1 sequence", "test": "all 1 sequence"}
    (absent,) = lines(finding, "absent")
    assert "redkitchen" in absent.names
    short = [line for line in lines(finding, "partial") if "of 1,000 published" in line.found]
    assert [line.name for line in short] == ["heads/seq-01", "heads/seq-02"]


def test_seven_scenes_holds_archives_in_archives(tmp_path: Path) -> None:
    parts.scene(tmp_path / "heads" / "seq-01", "7-scenes")
    with zipfile.ZipFile(tmp_path / "heads" / "seq-02.zip", "w") as packed:
        packed.writestr("seq-02/frame-000000.pose.txt", "")
    archive = next(line for line in found(tmp_path).lines if line.name == "archives")
    assert archive.names == ("heads/seq-02.zip",)
    assert archive.state == "partial"


def test_seven_scenes_tells_of_its_trap(originals: dict[str, Path]) -> None:
    notes = [line.found for line in lines(found(originals["7-scenes"]), "note")]
    assert any("depth camera" in note for note in notes)


def test_replica_without_its_camera(tmp_path: Path) -> None:
    room = parts.scene(tmp_path, "replica")
    (tmp_path / "cam_params.json").unlink()
    finding = found(tmp_path)
    assert any("6553.5" in line.found for line in lines(finding, "note"))
    scenes = next(line for line in finding.lines if line.name == "scenes")
    assert scenes.found == "1 of 8 sequences"
    assert "office0" in scenes.names
    assert room.name == "room0"


def test_tum_names_listed_pictures_that_are_gone(copies: dict[str, Path]) -> None:
    gone = sorted((copies["tum"] / "rgb").iterdir())[0]
    gone.unlink()
    (line,) = lines(found(copies["tum"]), "partial")
    assert line.names == (f"rgb/{gone.name}",)


def test_tum_without_poses(copies: dict[str, Path]) -> None:
    (copies["tum"] / "groundtruth.txt").unlink()
    notes = [line.found for line in lines(found(copies["tum"]), "note")]
    assert any("cannot be judged" in note for note in notes)


def test_nerfstudio_pictures_that_are_gone(copies: dict[str, Path]) -> None:
    next((copies["nerfstudio"] / "images").iterdir()).unlink()
    (line,) = lines(found(copies["nerfstudio"]), "partial")
    assert line.found.startswith("1 of 3 pictures")


def test_llff_counts_must_agree(copies: dict[str, Path]) -> None:
    next((copies["llff"] / "images").iterdir()).unlink()
    (line,) = lines(found(copies["llff"]), "broken")
    assert "3 rows" in line.found


def test_realestate_without_pictures(copies: dict[str, Path]) -> None:
    shutil.rmtree(copies["realestate10k"] / "abc")
    finding = found(copies["realestate10k"])
    assert [line.names for line in lines(finding, "partial")] == [("abc",)]
    assert found(copies["realestate10k"] / "abc.txt").state == "partial"


# Boundaries


@pytest.mark.parametrize("name", ["kinetics-gebd", "autoshot", "bbc"])
def test_annotations_without_some_videos(name: str, copies: dict[str, Path]) -> None:
    film = max(copies[name].rglob("*.mp4"), key=lambda p: p.name)
    film.unlink()
    (line,) = [line for line in lines(found(copies[name]), "partial") if line.name == "videos"]
    assert line.count == 1


# Plain folders and archives


# Real pieces
