"""Detectors cut in two, so that a memory can be read between."""
