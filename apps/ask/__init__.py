"""Asking a memory: which of its moments answer an example picture, words or a time range."""
