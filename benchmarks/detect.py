"""A detector's memory on spoilt frames, against the detector alone, controls and the carry.

Generated clips are there for everybody. Real ones are judged where RETAIN_YOLOX names the weights
of YOLOX-nano (.onnx) and RETAIN_DAVIS a folder of DAVIS, or the developers' data lies beside the
repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from retain.apps import evaluation_detect as job
from retain.apps.bench import Row, folder
from retain.models.mamba import weights
from retain.models.mamba.hosts.open import open_host

AREA = "models"
UNSEEN = "objects://?seed=2000000&clips={clips}&frames=60"
"""Neither the detector nor the memory was trained on these seeds."""
LEAST_GENERATED = 5.0
SEEDS = range(3)


def measure(quick: bool = False) -> list[Row]:
    rows = _table("small", [UNSEEN.format(clips=2 if quick else 12)], "strong", "generated")
    yolox = _real("RETAIN_YOLOX", "yolox_nano_416x416.onnx")
    davis = _real("RETAIN_DAVIS", "davis_dev")
    if yolox is not None and davis is not None and not quick:
        for degraded in ("strong", "mild"):
            rows += _table(str(yolox), [str(davis)], degraded, f"DAVIS, {degraded}")
    return rows


def _table(host: str, places: list[str], degraded: str, name: str) -> list[Row]:
    detector = open_host(host, "cpu")
    if weights.shipped_for(detector) is None:
        return []
    seeds = SEEDS[:1] if host == "small" else SEEDS
    scores = job.over_seeds(detector, "auto", job.opened(places), degraded, seeds)
    rows = [row for score in scores for row in job.scored(score, scores)]
    if host == "small":
        by = {score.name: score for score in scores}
        gain = 100 * (by["bank"].deg - by["plain"].deg)
        worse = 100 * (by["bank"].cln - by["plain"].cln)
        rows += [
            Row(name="spoilt frames: bank - plain", value=gain, unit="points",
                bar=f">= {LEAST_GENERATED:g}", met=gain >= LEAST_GENERATED),
            Row(name="untouched frames: bank - plain", value=worse, unit="points",
                bar=f">= {job.WORST_CLEAN:g}", met=worse >= job.WORST_CLEAN),
        ]  # fmt: skip
    else:
        rows += job.bars(scores, degraded)
    return [msgspec.structs.replace(row, name=f"{name}: {row.name}") for row in rows]


def _real(variable: str, name: str) -> Path | None:
    given = os.environ.get(variable)
    path = Path(given) if given else folder().parents[1] / "shared" / "data" / name
    return path if path.exists() else None
