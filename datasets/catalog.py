"""Data sets by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

DATASETS = Catalog(
    "data set",
    {
        "7-scenes": "retain.datasets.scene.sevenscenes:SevenScenes",
        "camus": "retain.datasets.echo.camus:Camus",
        "colmap": "retain.datasets.scene.colmap:Colmap",
        "echo-phantom": "retain.datasets.echo.phantom:make_clip",
        "echonet": "retain.datasets.echo.echonet:EchoNet",
        "llff": "retain.datasets.scene.llff:Llff",
        "nerfstudio": "retain.datasets.scene.nerfstudio:Nerfstudio",
        "planted": "retain.datasets.planted:PlantedVideo",
        "realestate10k": "retain.datasets.scene.realestate:RealEstate",
        "replica": "retain.datasets.scene.replica:Replica",
        "rgbd": "retain.datasets.scene.rgbd:RgbdFolder",
        "room": "retain.datasets.scene.room:Room",
        "scannet": "retain.datasets.scene.scannet:ScanNet",
        "tum": "retain.datasets.scene.tum:TumRgbd",
    },
)
