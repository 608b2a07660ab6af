"""Every name a graph may use, by role. The one place that knows all folders."""

from __future__ import annotations

from retain.models.catalog import STAGES
from retain.pipeline.catalog import SINKS, SOURCES, Catalog
from retain.pipeline.graph import Role

CATALOGS: dict[Role, Catalog] = {"source": SOURCES, "stage": STAGES, "sink": SINKS}
