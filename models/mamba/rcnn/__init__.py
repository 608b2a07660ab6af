"""MAMBA as published (arXiv 2401.09923), on torchvision's Faster R-CNN. See docs/mamba-rcnn.md."""
