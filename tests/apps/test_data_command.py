"""`retain data doctor` as a program: exit codes, what it prints, what it writes."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

import pytest
from doctor_parts import WHOLE, camus, davis, echonet, found, objects, pictures
from typer.testing import CliRunner

from retain.apps.cli import app
from retain.apps.evaluate_sets.protocols import PROTOCOLS
from retain.datasets.doctor import deep
from retain.datasets.doctor.kits import EVALUATED, KITS, SCENES
from retain.pipeline.errors import MissingExtra, UsageError


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["data", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_whole_partial_broken_unknown(tmp_path: Path) -> None:
    whole = objects(tmp_path / "whole", "davis")
    partial = davis(tmp_path / "partial", ["libby"])
    broken = pictures(tmp_path / "broken")
    (broken / "0.png").write_bytes(b"")
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    assert [run("doctor", p)[0] for p in (whole, partial, broken, unknown)] == [0, 3, 3, 2]
    assert run("doctor", tmp_path / "nowhere")[0] == 2


def test_what_it_prints(tmp_path: Path) -> None:
    root = davis(tmp_path / "it", ["libby", "dog"])
    _, text = run("doctor", root)
    assert f"DAVIS {root}" in text
    assert "2 of 20 sequences" in text
    assert "and 8 more" in " ".join(text.split())
    assert "https://davischallenge.org" in text
    assert f"retain eval set {root}" in text
    assert "\nDAVIS: usable in part: something is missing\n" in text


def test_commands_are_fit_for_a_shell(tmp_path: Path) -> None:
    root = davis(tmp_path / "it's mine", ["libby"])
    _, text = run("doctor", root)
    words = [shlex.split(line) for line in text.splitlines() if line.startswith("    retain ")]
    assert words[-1] == ["retain", "eval", "set", str(root)]


def test_a_place_for_json_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "found.json"
    done = CliRunner().invoke(app, ["data", "doctor", str(pictures(tmp_path)), "--json", str(out)])
    assert isinstance(done.exception, UsageError)
    assert "3 pictures" in done.stdout


def test_a_package_that_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtra("nibabel", "medical", "Reading CAMUS's NIfTI files")

    monkeypatch.setattr(deep, "examine", missing)
    done = CliRunner().invoke(app, ["data", "doctor", str(pictures(tmp_path)), "--deep"])
    assert isinstance(done.exception, MissingExtra)
    assert "3 pictures" in done.stdout


def test_brackets_in_names_are_no_markup(tmp_path: Path) -> None:
    root = pictures(tmp_path / "[red]x[/red]")
    (root / "[bold].png").write_bytes(b"")
    code, text = run("doctor", root)
    assert code == 3
    assert "[red]x[/red]" in text
    assert "[bold].png" in text


def test_json_holds_the_same(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    root = camus(tmp_path / "it")
    code, _ = run("doctor", root, "--json", out)
    given = json.loads(out.read_text())
    assert code == 3
    assert given["state"] == "partial"
    (finding,) = given["findings"]
    assert finding["dataset"] == "camus"
    patients = next(line for line in finding["checks"] if line["name"] == "patients")
    assert (len(patients["names"]), patients["count"]) == (10, 496)


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "\udcff.png").write_bytes(b"")
    out = tmp_path / "found.json"
    assert run("doctor", tmp_path / "it", "--json", out)[0] == 3
    assert json.loads(out.read_text())["findings"][0]["state"] == "broken"


def test_deep_tells_what_the_readers_lose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = echonet(tmp_path / "it")
    path = root / "Videos" / "clip3.avi"
    path.write_bytes(path.read_bytes()[:200])
    level = logging.getLogger("retain.datasets").level
    code, text = run("doctor", root, "--deep")
    assert code == 3
    assert "clip3" in text
    assert caplog.records == []
    assert logging.getLogger("retain.datasets").level == level


def test_broken_off_it_still_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deep, "examine", stop)
    done = CliRunner().invoke(app, ["data", "doctor", str(pictures(tmp_path)), "--deep"])
    assert done.exit_code == 130
    assert "3 pictures" in done.stdout


def test_the_list_says_where_each_is_from() -> None:
    code, text = run("list")
    assert code == 0
    for kit in KITS:
        assert not kit.page or kit.page in text


@pytest.mark.parametrize("name", sorted(EVALUATED))
def test_what_is_to_be_judged_can_be(name: str, tmp_path: Path) -> None:
    """`retain eval set` takes the folders that it is suggested for."""
    wanted = {"kinetics-gebd": "gebd", "imagenet-vid": "vid"}.get(name, name)
    wanted = "scene" if name in SCENES else wanted
    root = {**WHOLE, "camus": camus}[name](tmp_path / "it")
    assert f"retain eval set {root}" in found(root).commands
    assert [known.name for known in PROTOCOLS if known.recognises(root)] == [wanted]


def test_the_document_names_every_page() -> None:
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert [kit.key for kit in KITS if kit.page.removeprefix("docs/") not in text] == []
