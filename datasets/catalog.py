"""Data sets by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

DATASETS = Catalog(
    "data set",
    {
        "7-scenes": "retain.datasets.scene.sevenscenes:SevenScenes",
        "camus": "retain.datasets.echo.camus:Camus",
        "echo-phantom": "retain.datasets.echo.phantom:make_clip",
        "echonet": "retain.datasets.echo.echonet:EchoNet",
        "planted": "retain.datasets.planted:PlantedVideo",
        "room": "retain.datasets.scene.room:Room",
    },
)
