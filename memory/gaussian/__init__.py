"""A map of 3D Gaussians within a budget: an active window and a stable, voxel-hashed set."""
