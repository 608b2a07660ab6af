"""What stages say about a frame: typed, versioned records. One file, so the vocabulary is one list.

A record's ``tag`` carries its version (``route/1``); a reader that does not know a tag refuses the
message. Arrays travel inside the record (see ``wire.py``), so they must stay small; pixels never
travel this way.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
import numpy as np

Tier = Literal["clear", "blurred"]
State = Literal["clear", "blurred", "discard"]
Reason = Literal["score", "query", "warm-up", "hard-trigger", "max-gap", "duplicate", "quiet"]
"""Why the router decided as it did. ``quiet``: the score stayed under the lower threshold."""


class Embedding(msgspec.Struct, frozen=True, tag="embedding/1"):
    """A frame's global feature."""

    vector: np.ndarray
    """float32 [D], unit length, or all zero for a picture the encoder cannot describe."""
    encoder: str


class Route(msgspec.Struct, frozen=True, tag="route/1"):
    """The router's decision for a frame (CurveStream, arXiv 2603.19571; see memory/router.py)."""

    state: State
    reason: Reason
    motion: float
    """M, first-order change, in [0, 2]."""
    curvature: float
    """C, turning of the feature trajectory, in [0, 2]; NaN while undefined."""
    score: float
    """CS = M + lambda * (gated) C."""
    mean: float
    sigma: float
    z: float
    low: float
    """g1 = mean + k1 * sigma: below it a frame is discarded."""
    high: float
    """g2 = mean + k2 * sigma: from it on a frame is Clear."""
    flash: bool = False
    cut: bool = False


class HeldFrame(msgspec.Struct, frozen=True):
    """One entry of a frame memory, without its pixels."""

    seq: int
    seconds: float
    tier: Tier
    reason: Reason
    score: float
    tokens: int
    nbytes: int
    width: int
    height: int


class Held(msgspec.Struct, frozen=True, tag="held/1"):
    """What a frame memory holds after this frame, oldest first."""

    entries: tuple[HeldFrame, ...]
    tokens: int
    token_budget: int
    nbytes: int
    byte_budget: int
    seen: int
    """Frames offered to the memory so far."""


class Masks(msgspec.Struct, frozen=True, tag="masks/1"):
    """Segmentation of a frame, on the model's own small grid with its place in the frame."""

    probability: np.ndarray
    """uint8 [K, h, w], 255 = certain, one plane per label; what is left to 255 is background."""
    labels: tuple[str, ...]
    """Names of the K planes, in palette order: plane k is mask value k + 1."""
    to_frame: np.ndarray
    """float32 [2, 3], affine: (x, y, 1) on the grid to (x, y) in the frame, both in pixels, pixel i
    having its centre at i + 0.5."""
    flags: tuple[str, ...] = ()
    """Doubts about this frame, by name; see models/gdkvm/flags.py. Empty: none."""


class Beat(msgspec.Struct, frozen=True):
    """One heart beat, from an end-diastole over the end-systole after it."""

    ed_seq: int
    es_seq: int
    ed_seconds: float
    es_seconds: float
    ed_area: float
    es_area: float
    """In the unit of the record that holds the beat."""
    edv: float
    esv: float
    """Single-plane volumes: ml when the unit is mm, else cubic pixels."""
    ef: float
    """Per cent."""


class Vitals(msgspec.Struct, frozen=True, tag="vitals/1"):
    """What a heart's masks measure. Not for diagnosis."""

    area: float
    """Of the cavity, in unit²; NaN when there is no mask."""
    length: float
    """Long axis of the cavity, in unit; NaN when there is no mask."""
    volume: float
    """By ``method``, in ml (unit mm) or unit³; NaN when there is no mask."""
    unit: Literal["mm", "px"]
    method: str
    """How volumes and EF are computed, as shown to people."""
    beats: tuple[Beat, ...] = ()
    """Beats completed so far, newest last; at most the last 64."""
    ef: float = float("nan")
    """Median EF of ``beats``, per cent."""
    flags: tuple[str, ...] = ()


class View(msgspec.Struct, frozen=True, tag="view/1"):
    """What is known of the camera that took a frame, and how far away its pixels were."""

    camera: tuple[float, float, float, float]
    """fx, fy, cx, cy in the frame's pixels; pixel i has its centre at i + 0.5. No distortion."""
    depth: np.ndarray | None = None
    """uint16 [H, W] of the frame's size, registered to it, 0 where unknown; in ``unit``."""
    unit: float = 0.001
    """Metres of one step of ``depth``."""
    c2w: np.ndarray | None = None
    """float64 [4, 4], camera to world, OpenCV axes, metres. None: unknown."""
    labels: np.ndarray | None = None
    """uint8 [H, W]: rows of ``codes``, where it is known what stands there."""
    codes: np.ndarray | None = None
    """float32 [K, 16]: the language code of each label, unit length; zero for "nothing"."""
    names: tuple[str, ...] = ()
    """Of the K labels."""


Tracking = Literal["starting", "tracked", "lost", "recovered"]
"""``recovered``: this frame found its place again after ``lost`` ones."""
KNOWN: tuple[Tracking, ...] = ("tracked", "recovered")
"""States in which it is known where the camera is."""


class Pose(msgspec.Struct, frozen=True, tag="pose/1"):
    """Where the camera was, and what the map is now."""

    state: Tracking
    reason: str
    """Why, in a few words, when the frame is not tracked; else empty."""
    c2w: np.ndarray
    """float64 [4, 4]; of a lost frame, the last known one."""
    anchor: int
    """Id of the newest keyframe, this frame if it is one; -1 before the first."""
    local: np.ndarray
    """float64 [4, 4]: the pose in the anchor's coordinates. It stays true when a loop closure
    moves the anchor."""
    inliers: int
    keyframe: bool
    held_out: bool
    """The frame is kept from the map, to judge it by."""
    active: int
    """Gaussians in the window of newest keyframes."""
    stable: int
    """Gaussians of the stable map."""
    nbytes: int
    byte_budget: int
    parts_ms: dict[str, float]
    """Where the time of this frame went: track, build, fuse, refine, ..."""
    truth: np.ndarray | None = None
    """float64 [4, 4]: the given pose, when poses are estimated though known."""


class SplatDelta(msgspec.Struct, frozen=True, tag="splat-delta/1"):
    """How the map changed since the last delta: first ``removed``, then ``ids`` set or added."""

    epoch: int
    """Counts from 1. A receiver that missed one asks for, or waits for, ``whole``."""
    whole: bool
    """Whether this is all of the map rather than a change."""
    removed: np.ndarray
    """uint32 [M]."""
    ids: np.ndarray
    """uint32 [N]."""
    records: np.ndarray
    """uint8 [N, 32], as in a .splat file: float32 xyz, float32 scale xyz, RGBA, quaternion."""


class Support(msgspec.Struct, frozen=True):
    """A remembered row that a box was read from."""

    seq: int
    """Of the frame it was seen in."""
    seconds: float
    box: tuple[float, float, float, float]
    """x1 y1 x2 y2 there, in pixels of the frame."""
    share: float
    """Of all that was read for the box, in [0, 1]."""


class Boxes(msgspec.Struct, frozen=True, tag="boxes/1"):
    """What was detected in a frame: N boxes, the surest first."""

    boxes: np.ndarray
    """float32 [N, 4] x1 y1 x2 y2 in pixels of the frame."""
    scores: np.ndarray
    """float32 [N] in [0, 1]."""
    labels: np.ndarray
    """int32 [N], places in ``names``."""
    names: tuple[str, ...]
    tracks: np.ndarray
    """int32 [N]: the same number for what is taken for the same object; -1: in no track."""
    memory: np.ndarray
    """float32 [N] in [0, 1]: how much of the box comes from memory; 0: the frame alone."""
    supports: tuple[tuple[Support, ...], ...] = ()
    """Of each box, the heaviest first; empty where none are given."""


class Recall(msgspec.Struct, frozen=True, tag="recall/1"):
    """What a detector's memory is after this frame, and what it took."""

    reset: str
    """Why it began anew before this frame, in a few words; else empty."""
    rows: int
    room: int
    """Rows that fit."""
    nbytes: int
    byte_budget: int
    parts_ms: dict[str, float]
    """Where the time of this frame went: ``detector``, ``memory``."""


BoundaryKind = Literal["cut", "gradual", "flash", "none"]
"""``flash``: a sudden change that is no boundary."""


class Verdict(msgspec.Struct, frozen=True, tag="verdict/1"):
    """What a boundary detector says of a frame (see models/boundaries/detector.py)."""

    boundary: bool
    """A new shot begins, or has begun gradually."""
    kind: BoundaryKind
    score: float
    """A sudden change of picture from 1 on."""
    motion: float = float("nan")
    """M, first-order change of the feature, in [0, 2]; NaN: not compared, as those below."""
    pixels: float = float("nan")
    """Median change of the blocks of the picture, 0 to 255."""
    structure: float = float("nan")
    """Change of what stands where, whatever the exposure, in [0, 2]."""
    turn: float = float("nan")
    """C against the step into the last cut, in [0, 2]; near 2: the picture before is back."""


Purpose = Literal["continue", "fill"]


class Reference(msgspec.Struct, frozen=True):
    """A clip that a model was shown: where it is from."""

    stream: str
    first: int
    """Number of its first frame there."""
    last: int
    start_s: float
    end_s: float
    cosine: float
    """Of its descriptor to that of the clip at hand."""


class Prediction(msgspec.Struct, frozen=True, tag="prediction/1"):
    """Frames that a model made. They are synthetic, whatever they look like: no memory takes them
    (see ``Frame.synthetic``)."""

    purpose: Purpose
    frames: np.ndarray
    """uint8 [S, N, h, w, C], C 1 (grey) or 3: S samples of N frames, at the model's size."""
    made: np.ndarray
    """bool [N]: whether a model made the frame; the others are given ones, the same in all samples.
    """
    seqs: np.ndarray
    """int64 [N]: their numbers in the stream; -1 where it has none for them."""
    seconds: np.ndarray
    """float64 [N]: when they are shown."""
    references: tuple[Reference, ...] = ()
    """What it was guided by; empty: nothing."""


class Novelty(msgspec.Struct, frozen=True, tag="novelty/1"):
    """How much of the last clip its references do not explain (see models/ditmem/flow.py)."""

    score: float
    """``guided`` - ``alone``: low where references help. NaN without references."""
    guided: float
    """Error of the model that was shown the references, mean squared, of the flow's velocity."""
    alone: float
    """Of the same model, shown none."""
    level: float
    """From it on a score is unusual for this stream; NaN until enough are known."""
    new: bool
    """Whether the score is."""
    first: int
    """Number of the clip's first frame; the last is the frame that this is told with."""
    start_s: float
    references: tuple[Reference, ...]
    clips: int
    """Held in memory after this one."""
    nbytes: int
    byte_budget: int


Result = (
    Embedding
    | Route
    | Held
    | Masks
    | Vitals
    | View
    | Pose
    | SplatDelta
    | Boxes
    | Recall
    | Verdict
    | Prediction
    | Novelty
)

R = TypeVar(
    "R",
    Embedding,
    Route,
    Held,
    Masks,
    Vitals,
    View,
    Pose,
    SplatDelta,
    Boxes,
    Recall,
    Verdict,
    Prediction,
    Novelty,
)
