from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from retain.pipeline.mailbox import Mailbox
from retain.pipeline.metrics import EdgeStats, GraphStats, Meter, NodeStats, join, prometheus_text
from retain.pipeline.policy import Policy


def test_a_meter_counts_and_ranks() -> None:
    meter = Meter("a", "stage", cpu_s=lambda: 1.5)
    for ms in range(1, 102):
        meter.count("received")
        meter.served(ms * 1_000_000, 2 * ms * 1_000_000)
    meter.sample(lambda: {"memory_bytes": 7, "kept": 3}, last=True)
    stats = meter.stats(rss_bytes=9)
    assert stats.received == 101
    assert stats.service_ms.p50 == pytest.approx(51)
    assert stats.service_ms.p95 == pytest.approx(96)
    assert stats.age_ms.max == pytest.approx(202)
    assert (stats.memory_bytes, stats.extra, stats.cpu_s, stats.rss_bytes) == (
        7,
        {"kept": 3},
        1.5,
        9,
    )


def test_a_node_is_asked_for_its_numbers_twice_a_second_and_at_the_end() -> None:
    now, asked = [0], []
    meter = Meter("a", "stage", clock_ns=lambda: now[0])

    def report() -> dict[str, int]:
        asked.append(now[0])
        return {}

    for step in range(11):
        now[0] = step * 100_000_000
        meter.sample(report, last=False)
    assert asked == [0, 500_000_000, 1_000_000_000]
    meter.sample(report, last=True)
    assert len(asked) == 4


def graph_stats() -> GraphStats:
    edges = [
        EdgeStats("cam", "a", "latest", 10, 6, {"stale": 3}, 1, 384),
        EdgeStats("b", "a", "rate(2)", 5, 1, {"rate": 3, "stale": 1}),
    ]
    return join("g", "running", 2.0, [NodeStats("cam", "source"), NodeStats("a", "stage")], edges)


def test_what_edges_lose_is_told_of_the_node_they_lead_into() -> None:
    stats = graph_stats()
    assert stats.node("a").dropped == {"stale": 4, "rate": 3}
    assert (stats.node("a").queue_packets, stats.node("a").queue_bytes) == (1, 384)
    assert stats.node("cam").dropped == {}
    with pytest.raises(KeyError):
        stats.node("nobody")


def test_the_page_can_read_it() -> None:
    stats = graph_stats()
    assert msgspec.json.decode(msgspec.json.encode(stats), type=GraphStats) == stats


def test_an_edge_reads_its_mailbox() -> None:
    assert EdgeStats.of("a", "b", Mailbox(Policy.parse("drop_oldest(2)"))) == EdgeStats(
        "a", "b", "drop_oldest(2)"
    )


def test_prometheus_reads_the_same_numbers() -> None:
    samples = {
        (s.name, s.labels.get("dst") or s.labels.get("node"), s.labels.get("cause")): s.value
        for family in text_string_to_metric_families(
            prometheus_text(replace(graph_stats(), limits={"a": 9}))
        )
        for s in family.samples
        if s.labels.get("src") != "b"
    }
    assert samples["retain_dropped_total", "a", "stale"] == 3
    assert samples["retain_waiting_packets", "a", None] == 1
    assert samples["retain_uptime_seconds", None, None] == 2
    assert samples["retain_restarts_total", "a", None] == 0
    assert samples["retain_limit_bytes", "a", None] == 9
