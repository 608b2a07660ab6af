"""States of a whole graph that earlier programs wrote go on as those programs went on."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from everything_parts import EXAMPLES
from state_parts import Heard, everything_small

from retain.pipeline.run import start

STATES = Path(__file__).parents[1] / "data" / "states"
CLOSE = {"rel": 0.02, "abs": 2e-3}
"""Networks differ in their last bits between machines, and what they find with them. On the machine
that wrote them the numbers are the same to six digits."""


Said = dict[int, dict[str, list[float | None]]]


def heard(archive: Path, folder: Path) -> tuple[Said, Said]:
    """What the state in ``archive`` makes today's program say, and what was said then."""
    with ZipFile(archive) as packed:
        packed.extractall(folder / "state")
    then = json.loads((folder / "state" / "said.json").read_text())
    out = Heard()
    graph = everything_small(EXAMPLES, folder)
    report = start(graph, runner="inline", sinks={"log": out}, resume=folder / "state").wait(110)
    assert report.ok, report.errors
    return out.said, {int(seq): told for seq, told in then.items()}


@pytest.mark.parametrize("archive", sorted(STATES.glob("everything-*.zip")), ids=lambda p: p.stem)
def test_a_stored_graph_goes_on_as_it_did_then(archive: Path, tmp_path: Path) -> None:
    now, then = heard(archive, tmp_path)
    assert set(now) == set(then)
    for seq, told in then.items():
        assert set(now[seq]) == set(told)
        for name, values in told.items():
            # One says None where there is nothing to say yet.
            assert [value is None for value in now[seq][name]] == [
                value is None for value in values
            ]
            known = [value for value in now[seq][name] if value is not None]
            assert known == pytest.approx([v for v in values if v is not None], **CLOSE), name
