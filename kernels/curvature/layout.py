"""Columns of the arrays the curvature op works on, shared by its three implementations.

B streams take one step together. Per stream there is a row of ``state`` (float64), the two last
features in ``history`` (float32 [2, D], unit length, used as a ring) and a row of ``decision``.
"""

from __future__ import annotations

# state: float64 [B, STATE]
DEPTH = 0
"""Features in the history: 0, 1 or 2."""
HEAD = 1
"""Which of the two history rows is the newest."""
COUNT = 2
"""Scores taken into the statistics."""
MEAN = 3
VAR = 4
LAST_TIME = 5
"""Seconds of the last frame that was scored."""
LAST_KEPT = 6
"""Seconds of the last frame that was kept."""
LENGTH = 7
"""Length of the last displacement."""
SEEN = 8
"""Frames offered with a usable feature."""
STATE = 9

# params: float64 [PARAMS]
ROBUST = 0
LAMBDA = 1
GAMMA = 2
HALF_LIFE = 3
K1 = 4
K2 = 5
WARM_UP = 6
FLOOR = 7
SIGMA_FLOOR = 8
TURN_SCALE = 9
FLASH_CURVATURE = 10
CUT_MOTION = 11
CUT_SIGMAS = 12
MAX_GAP = 13
CLIP_SIGMAS = 14
PARAMS = 15

# flags: uint8 [B], bits
DISCONTINUITY = 1
QUERY = 2

# decision: float64 [B, DECISION]
ROUTE = 0
REASON = 1
MOTION = 2
CURVATURE = 3
SCORE = 4
OUT_MEAN = 5
OUT_SIGMA = 6
Z = 7
LOW = 8
HIGH = 9
FLASH = 10
CUT = 11
DECISION = 12

# decision[ROUTE]
DISCARD = 0
BLURRED = 1
CLEAR = 2

# decision[REASON], in the order of retain.pipeline.results.Reason
BY_SCORE = 0
BY_QUERY = 1
BY_WARM_UP = 2
BY_HARD_TRIGGER = 3
BY_MAX_GAP = 4
BY_DUPLICATE = 5
BY_QUIET = 6

NO_STEP = 1e-6
"""A displacement shorter than this is float32 rounding, and counts as none."""

TINY = 1e-24
"""A feature of smaller squared length has no direction: it describes nothing."""
