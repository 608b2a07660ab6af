"""The table of stages: rates and loads from two looks at a run's counters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retain.pipeline.metrics import GraphStats, NodeStats

Sample = tuple[float, GraphStats]
"""A time in seconds and the run's numbers then."""


def table(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """One row per node, oldest sample first. Rates and CPU are of the time between the first and
    the last sample; of the whole run when it has ended or was looked at only once."""
    if not samples:
        return []
    last = samples[-1][1]
    whole = last.state in ("done", "failed") or len(samples) < 2
    seconds = last.uptime_s if whole else samples[-1][0] - samples[0][0]
    before = {} if whole else {node.name: node for node in samples[0][1].nodes}
    rows = [_row(node, before.get(node.name), seconds) for node in last.nodes]
    return [{**row, "limit_bytes": last.limits.get(row["name"], 0)} for row in rows]


def _row(node: NodeStats, before: NodeStats | None, seconds: float) -> dict[str, Any]:
    done = _done(node) - (_done(before) if before else 0)
    cpu = node.cpu_s - (before.cpu_s if before else 0.0)
    return {
        "name": node.name,
        "role": node.role,
        "state": node.state,
        "done": _done(node),
        "received": node.received,
        "sent": node.sent,
        "rate": done / seconds if seconds > 0 else 0.0,
        "age_ms": node.age_ms.p95,
        "service_ms": node.service_ms.p50,
        "service_p95_ms": node.service_ms.p95,
        "queue": node.queue_packets,
        "queue_bytes": node.queue_bytes,
        "dropped": node.dropped,
        "failed": node.failed,
        "restarts": node.restarts,
        "cpu": cpu / seconds if seconds > 0 else 0.0,
        "memory_bytes": node.memory_bytes,
        "rss_bytes": node.rss_bytes,
    }


def _done(node: NodeStats) -> int:
    return node.sent if node.role == "source" else node.received
