"""Recurrent memory layers with one interface: what a frame's keys and values are written into."""
