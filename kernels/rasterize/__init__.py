"""3D Gaussian splatting, forward and backward, on the CPU; on CUDA the same call goes to gsplat."""
