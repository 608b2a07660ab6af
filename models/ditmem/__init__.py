"""DiT-Mem (arXiv 2511.19229): a video diffusion transformer that is given memory tokens."""
