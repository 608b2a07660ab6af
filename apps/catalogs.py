"""Every name a graph may use, by role. The one place that knows all folders."""

from __future__ import annotations

from retain.models.catalog import STAGES
from retain.pipeline.catalog import SINKS, SOURCES, Catalog
from retain.pipeline.graph import Role

DATA = {
    "scene": "retain.datasets.scene.source:SceneSource",
    "clips": "retain.datasets.detect.source:ClipSource",
    "worlds": "retain.datasets.worlds.source:WorldSource",
}
"""Data sets: frames with cameras, depth and poses; videos whose boxes are known; worlds with hidden
laws. They stand above the sources that know frames alone."""

CATALOGS: dict[Role, Catalog] = {
    "source": Catalog("source", {**SOURCES, **DATA}),
    "stage": STAGES,
    "sink": SINKS,
}
