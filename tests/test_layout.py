"""The folder plan holds: six links, no package files in the roots, layers cover all six."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = {"pipeline", "memory", "models", "kernels", "apps", "datasets"}


def test_the_links_are_exactly_the_six_folders() -> None:
    links = {p.name: p.resolve() for p in (ROOT / ".src/retain").iterdir() if p.is_symlink()}
    assert links == {name: ROOT / name for name in FOLDERS}


def test_no_package_file_directly_in_a_folder() -> None:
    """With one, `python -m` from the root would hide other packages called datasets or kernels."""
    assert [name for name in FOLDERS if (ROOT / name / "__init__.py").exists()] == []


def test_every_folder_below_is_a_package() -> None:
    """One that lacks the file is found all the same, but not by every tool."""
    files = [path for name in FOLDERS for path in (ROOT / name).glob("*/**/*.py")]
    assert [str(f.parent) for f in files if not (f.parent / "__init__.py").exists()] == []


def test_the_layers_name_all_six() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = " | ".join(config["contracts"][0]["layers"]).split(" | ")
    assert {layer.removeprefix("retain.") for layer in layers} == FOLDERS


def test_importing_retain_is_light() -> None:
    """`import retain` loads nothing heavy; the command line relies on it."""
    code = "import retain, sys; print([m for m in ('torch', 'cv2', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
