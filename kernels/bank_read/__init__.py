"""Attention of a frame's queries to rows of a memory bank, read through an index list."""
