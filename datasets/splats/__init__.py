"""Files of Gaussians that other programs open: .ply, .splat, .spz, .glb (see formats.py).

Each format is a module with ``write(path, gaussians)`` and ``read(path)``. All keep true scale (one
unit is one metre). Our world has the axes of a camera, x right, y down, z forward; .ply and .splat
keep them, as their viewers expect. The others define theirs, and are turned: .spz to x right, y up,
z back; .glb to x left, y up, z forward.
"""
