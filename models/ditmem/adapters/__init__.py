"""The memory in diffusers' video transformers, for whoever has their weights."""
