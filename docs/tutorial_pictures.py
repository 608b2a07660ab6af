"""Pictures of the tutorials: `python docs/tutorial_pictures.py [NAME ...]`, into docs/pictures.

Does what a tutorial says, in an empty folder, and takes a part of the report that it leaves.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from doc_pages import TUTORIALS, fences, steps  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

REPORTS = {
    "remember": ("film", 245, 860),
    "heart": ("heart", 0, 1320),
    "follow": ("followed", 920, 570),
    "find": ("found", 0, 900),
    "map": ("room", 0, 900),
    "foresee": ("novelty", 370, 690),
}
"""Which report, and which of its pixels: from where, how many."""
WIDTH = 1000


def do(page: Path, folder: Path) -> None:
    """Every command of ``page``, in ``folder``; some are meant to fail."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in fences(page):
        if block.remark.startswith("file: "):
            (folder / block.remark.removeprefix("file: ")).write_text(block.text)
        for step in steps(block) if block.language == "console" else ():
            shell = ["bash", "-c", step.command]
            subprocess.run(shell, cwd=folder, env={**os.environ, "PATH": path}, check=False)


def shoot(report: Path, top: int, height: int, target: Path) -> None:
    with sync_playwright() as play:
        options = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = play.chromium.launch(executable_path=chromium, args=options)
        view = browser.new_page(viewport={"width": WIDTH, "height": top + height})
        view.goto(report.as_uri())
        view.wait_for_timeout(1000)
        part = {"x": 0, "y": top, "width": WIDTH, "height": height}
        picture = Image.open(io.BytesIO(view.screenshot(clip=part)))
        picture.convert("RGB").save(target, quality=80, method=6)
        browser.close()


def beside(videos: list[Path], target: Path) -> None:
    """The third frame of each, large."""
    frames = []
    for path in videos:
        video = cv2.VideoCapture(str(path))
        frames += [[video.read()[1] for _ in range(3)][-1]]
    row = cv2.cvtColor(np.hstack(frames), cv2.COLOR_BGR2RGB)
    Image.fromarray(row).resize((4 * row.shape[1], 4 * row.shape[0])).save(target, quality=80)


if __name__ == "__main__":
    for page in TUTORIALS:
        if page.stem in (sys.argv[1:] or (*REPORTS, "words")):
            target = DOCS / "pictures" / f"tutorial-{page.stem}.webp"
            with tempfile.TemporaryDirectory() as folder:
                do(page, Path(folder))
                if page.stem == "words":
                    beside([Path(folder, f"{name}.mp4") for name in ("lamp", "window")], target)
                else:
                    out, top, height = REPORTS[page.stem]
                    shoot(Path(folder, out, "report.html"), top, height, target)
                print(target)
