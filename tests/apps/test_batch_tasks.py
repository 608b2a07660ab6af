"""A batch with the real tasks: broken files, and the command as a person meets it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import media
import pytest
from command_parts import Retain

from retain.apps.batch.engine import Job, Outcome, Spec
from retain.apps.batch.local import LocalEngine
from retain.apps.batch.run import BatchOptions, batch
from retain.apps.batch.work import do
from retain.apps.running import NodeError, error_of
from retain.pipeline.errors import RetainError, SourceError, UsageError
from retain.pipeline.wire import Fault

KINDS = {
    "cut mp4": "broken",
    "scrambled avi": "broken",
    "empty": "empty",
    "text as mp4": "not_video",
    "zero frames mkv": "empty",
    "audio only": "not_video",
    "huge": "too_large",
}


@pytest.mark.parametrize(
    ("code", "kind", "cause"),
    [
        ("broken", SourceError, "broken"),
        ("usage", UsageError, "usage"),
        ("error", NodeError, "no_result"),
        ("defect", NodeError, "defect"),
        ("crashed", NodeError, "defect"),
        ("no_space", NodeError, "no_space"),
    ],
)
def test_what_ended_a_graph_keeps_its_type_and_gives_the_cause(
    code: str, kind: type[RetainError], cause: str, tmp_path: Path
) -> None:
    def target(job: Job, options: dict[str, Any]) -> dict[str, Any]:
        raise error_of(Fault("encode", code, "'encode' raised ValueError: in words only"))

    job = Job("i", str(tmp_path / "x"), -1, 0, str(tmp_path / "f"), "")
    assert isinstance(error_of(Fault("n", code, "m")), kind)
    assert do(target, job, {}).cause == cause


class Vanishing(LocalEngine):
    """Removes a file when the first item has ended."""

    def __init__(self, spec: Spec, path: Path) -> None:
        super().__init__(spec, jobs=1)
        self._path = path

    def run(self, jobs: Iterator[Job]) -> Iterator[Outcome]:
        for outcome in super().run(jobs):
            self._path.unlink(missing_ok=True)
            yield outcome


def test_a_corpus_a_third_of_which_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "clips").mkdir()
    made = media.broken(tmp_path / "made")
    expected: Counter[str] = Counter()
    for kind, cause in KINDS.items():
        path = next(path for name, (path, _) in made.items() if name.startswith(kind))
        path.rename(tmp_path / "clips" / f"bad-{path.name}")
        expected[cause] += 1
    whole = media.write_video(tmp_path / "whole.mp4", 4)
    for number in range(18):
        os.link(whole, tmp_path / "clips" / f"good-{number:02d}.mp4")
    (tmp_path / "clips/zz.mp4").write_bytes(whole.read_bytes())
    expected["vanished"] += 1
    if os.geteuid():
        denied = media.write_video(tmp_path / "clips/denied.mp4", 4)
        denied.chmod(0)
        expected["denied"] += 1
    options = BatchOptions(
        given="clips", task="watch", settings={"encoder": "pixels"}, out=Path("out")
    )
    assert batch(options, lambda spec: Vanishing(spec, tmp_path / "clips/zz.mp4")) == 3
    rows = [json.loads(line) for line in Path("out/items.jsonl").read_text().splitlines()]
    assert Counter(row["cause"] for row in rows if row["cause"]) == expected
    assert Counter(row["state"] for row in rows) == {
        "done": 18,
        "quarantined": expected.total(),
    }
    done = [Path("out", row["out"]) for row in rows if row["state"] == "done"]
    assert {path.name for path in Path("out/items").iterdir()} == {path.name for path in done}
    for folder in done:
        assert json.loads((folder / "summary.json").read_bytes())["complete"]
    assert (done[0] / "results.jsonl").stat().st_size == (done[1] / "results.jsonl").stat().st_size
    page = Path("out/report.html").read_text()
    assert page.count('<article class="card">') == 12
    assert page.count("data:image/jpeg") == 12
    shown = re.findall(r'href="(items/[^/]+)/report.html"', page)
    assert len(set(shown)) == len(shown) == 12, "all are equal, and none is at both ends"
    assert "not_video" in page


def test_the_command(work: Path, retain: Retain) -> None:
    (work / "clips").mkdir()
    media.write_video(work / "clips/a.mp4", 4)
    command = ("batch", "clips", "--task", "watch", "--set", "encoder=pixels")
    code, out, _ = retain(*command)
    assert code == 0
    assert "1 done (0 of them before)" in out
    assert Path("retain-out/batch-clips-watch/report.html").is_file()
    assert "1 done (1 of them before)" in retain(*command)[1]
    code, _, said = retain(*command, "--set", "nonsense")
    assert code == 2
    assert "NAME=VALUE" in said
    (work / "list.txt").write_text("clips/a.mp4\nclips/none.mp4\nsynthetic://?live=1\n")
    code, out, _ = retain("batch", "list.txt", "--task", "watch", "--set", "encoder=pixels")
    assert code == 3
    assert "not_found" in out
    assert "2 quarantined" in out
