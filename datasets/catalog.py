"""Data sets by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

DATASETS = Catalog(
    "data set",
    {
        "echo-phantom": "retain.datasets.echo.phantom:make_clip",
        "planted": "retain.datasets.planted:PlantedVideo",
    },
)
