"""Segmentation of an object that is given in the first frame, with heads that learn on the way."""
