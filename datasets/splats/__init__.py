"""Files of Gaussians that other programs open: .ply, .splat, .spz, .glb (see formats.py).

Each format is a module with ``write(path, gaussians)`` and ``read(path)``. All keep true scale (one
unit is one metre). Ours is the world of the first camera, x right, y down, z forward, and .ply and
.splat keep it, as their viewers expect; .spz and .glb define x right, y up, z back, and are turned.
"""
