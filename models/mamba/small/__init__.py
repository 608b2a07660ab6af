"""A small detector of the procedural objects: MobileNetV2, a two-way pyramid, decoupled heads."""
