"""Every name a graph may use, by role. The one place that knows all folders."""

from __future__ import annotations

from retain.models.catalog import STAGES
from retain.pipeline.catalog import SINKS, SOURCES, Catalog
from retain.pipeline.graph import Role

SCENE = {"scene": "retain.datasets.scene.source:SceneSource"}
"""Frames with cameras, depth and poses; it stands above the sources that know frames alone."""

CATALOGS: dict[Role, Catalog] = {
    "source": Catalog("source", {**SOURCES, **SCENE}),
    "stage": STAGES,
    "sink": SINKS,
}
