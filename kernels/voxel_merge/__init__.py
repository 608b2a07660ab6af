"""Gaussians that share a voxel become one: keys, who meets whom, and their weighted mean."""
