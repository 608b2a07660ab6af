"""`retain reconstruct`: a map of 3D Gaussians that grows while you watch."""
