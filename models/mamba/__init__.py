"""MAMBA (arXiv 2401.09923): detectors that read a memory bank of what they have seen."""
