"""Cameras and rigid motions: the little geometry that every folder above shares."""
