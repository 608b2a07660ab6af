"""Data sets by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

DATASETS = Catalog(
    "data set",
    {
        "planted": "retain.datasets.planted:PlantedVideo",
    },
)
