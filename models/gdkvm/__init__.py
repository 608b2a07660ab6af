"""GDKVM: segmentation of echo video with a gated-delta memory of what was outlined before."""
