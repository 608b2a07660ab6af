"""Data sets by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

DATASETS = Catalog(
    "data set",
    {
        "7-scenes": "retain.datasets.scene.sevenscenes:SevenScenes",
        "camus": "retain.datasets.echo.camus:Camus",
        "coco-vid": "retain.datasets.detect.coco:CocoVid",
        "colmap": "retain.datasets.scene.colmap:Colmap",
        "davis": "retain.datasets.detect.davis:Davis",
        "echo-phantom": "retain.datasets.echo.phantom:make_clip",
        "echonet": "retain.datasets.echo.echonet:EchoNet",
        "imagenet-vid": "retain.datasets.detect.vid:ImageNetVid",
        "llff": "retain.datasets.scene.llff:Llff",
        "mot": "retain.datasets.detect.mot:Mot",
        "nerfstudio": "retain.datasets.scene.nerfstudio:Nerfstudio",
        "objects": "retain.datasets.detect.objects:ObjectVideos",
        "planted": "retain.datasets.planted:PlantedVideo",
        "realestate10k": "retain.datasets.scene.realestate:RealEstate",
        "replica": "retain.datasets.scene.replica:Replica",
        "rgbd": "retain.datasets.scene.rgbd:RgbdFolder",
        "room": "retain.datasets.scene.room:Room",
        "scannet": "retain.datasets.scene.scannet:ScanNet",
        "tum": "retain.datasets.scene.tum:TumRgbd",
        "worlds": "retain.datasets.worlds.draw:draw",
    },
)
