"""The dashboard asks only for what `/metrics` gives, by labels that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from retain.pipeline.metrics import EdgeStats, NodeStats, join, prometheus_text

DASHBOARD = Path(__file__).parents[2] / "docs/grafana/retain.json"


def given() -> dict[str, dict[str, set[str]]]:
    """metric -> label -> its values."""
    edges = [EdgeStats("cam", "a", "latest", 10, 6, {"stale": 3}, 1, 384)]
    stats = join("g", "running", 2.0, [NodeStats("cam", "source"), NodeStats("a", "stage")], edges)
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(prometheus_text(stats)):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def test_every_metric_label_and_value_is_produced() -> None:
    metrics, asked = given(), set()
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            (name, selector) = re.findall(r"(retain_\w+)\{([^}]*)\}", target["expr"])[0]
            asked.add(name)
            assert name in metrics, panel["title"]
            for label, sign, value in re.findall(r'(\w+)(=~?)"([^"]*)"', selector):
                assert label in metrics[name], f"{panel['title']}: {label}"
                assert sign == "=~" or value in metrics[name][label], f"{panel['title']}: {value}"
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in metrics[name], f"{panel['title']}: {label}"
            assert (
                "rate(" in target["expr"] or not name.endswith("_total") or "sum(" in target["expr"]
            )
    assert asked == set(metrics), "every metric has a panel"
    (graphs,) = [v for v in dashboard["templating"]["list"] if v["name"] == "graph"]
    assert re.findall(r"retain_\w+", graphs["query"]["query"]) == ["retain_uptime_seconds"]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert dashboard["uid"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert all(x + w <= 24 for x, _, w, _ in places)
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["description"]
