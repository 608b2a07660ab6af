"""Encoders and stages by name. Listing them imports nothing."""

from __future__ import annotations

from retain.pipeline.catalog import Catalog

ENCODERS = Catalog(
    "encoder",
    {
        "mobilenetv2": "retain.models.encoders.mobile:MobileNetV2",
        "efficientnet-lite0": "retain.models.encoders.mobile:EfficientNetLite0",
        "pixels": "retain.models.encoders.pixels:Pixels",
        "dinov2-small": "retain.models.encoders.hub:DinoV2",
        "openclip": "retain.models.encoders.clip:OpenClip",
        "torchvision": "retain.models.encoders.hub:TorchVision",
    },
)

STAGES = Catalog(
    "stage",
    {
        "encode": "retain.models.curvestream:Encode",
        "remember": "retain.models.curvestream:Remember",
        "boundaries": "retain.models.boundaries.stage:Boundaries",
        "segment": "retain.models.gdkvm.stage:Segment",
        "measure": "retain.models.gdkvm.measure:Measure",
        "segment-object": "retain.models.object.stage:SegmentObject",
        "detect": "retain.models.mamba.stage:Detect",
        "track": "retain.models.mamba.track:Track",
        "segment-text": "retain.models.language.segment:SegmentText",
        "describe": "retain.models.language.describe:Describe",
        "reconstruct": "retain.models.scene.stage:Reconstruct",
        "imagine": "retain.models.ditmem.stage:Imagine",
    },
)
