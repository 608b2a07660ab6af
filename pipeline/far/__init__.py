"""Edges between hosts: the newest frames over tcp, encrypted and compressed."""
