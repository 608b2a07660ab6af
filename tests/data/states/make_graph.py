"""Store the state of docs/examples/everything.yaml, small, and what it said from there on.

In the tree whose code is to write (README.md beside this file says which wrote which):
PYTHONPATH=.src:PATH_TO/tests python PATH_TO/tests/data/states/make_graph.py NAME.zip
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from state_parts import HALF, Heard, everything_small

from retain.pipeline.run import start


def main(archive: Path) -> None:
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare) / "state"
        out = Heard(wait_at=HALF - 1)
        graph = everything_small(Path("docs/examples"), Path(spare))
        with start(graph, runner="inline", sinks={"log": out}) as running:
            while not out.here.wait(0.2):
                assert running.running, running.wait().errors
            # Asked for while a frame is on its way, so it is of the moment after that one.
            asked = threading.Thread(target=running.snapshot, args=(folder, 600.0))
            asked.start()
            asked.join(1)
            out.go.set()
            asked.join()
            report = running.wait(600)
            assert report.ok, report.errors
        sent = json.loads((folder / "graph.json").read_bytes())["nodes"][0]["sent"]
        said = {seq: told for seq, told in out.said.items() if seq >= sent}
        (folder / "said.json").write_text(json.dumps(said, indent=1))
        with ZipFile(archive, "w", ZIP_DEFLATED, compresslevel=9) as packed:
            for path in sorted(folder.iterdir()):
                packed.write(path, path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
