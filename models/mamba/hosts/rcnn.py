"""torchvision's Faster R-CNN as a host: ``RCNNHost.open(name, path)``."""

from retain.models.mamba.rcnn.host import RCNNHost

__all__ = ["RCNNHost"]
