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


if __name__ == "__main__":
    for page in TUTORIALS:
        if page.stem in REPORTS and page.stem in (sys.argv[1:] or REPORTS):
            out, top, height = REPORTS[page.stem]
            with tempfile.TemporaryDirectory() as folder:
                do(page, Path(folder))
                target = DOCS / "pictures" / f"tutorial-{page.stem}.webp"
                shoot(Path(folder, out, "report.html"), top, height, target)
                print(target)
