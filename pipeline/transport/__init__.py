"""Edges within a host: between threads, or through shared memory between processes."""
