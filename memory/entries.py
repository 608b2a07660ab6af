"""What a frame memory keeps of a frame: its row, and the entry a reader gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from retain.memory import pictures, snapshot
from retain.memory.background import units
from retain.memory.eviction import COLUMNS
from retain.memory.router import REASONS, STATES
from retain.memory.store import RowStore
from retain.pipeline.errors import StateError
from retain.pipeline.frame import MAX_SIDE, Image
from retain.pipeline.results import HeldFrame, Reason, Tier

_ENORMOUS = 1e30
"""No time in seconds and no score is as large; twice as much is still finite."""
CLEAR, BLURRED = STATES.index("clear"), STATES.index("blurred")
ROW = {
    **COLUMNS,
    "seq": np.int64,
    "pts": np.int64,
    "base_num": np.int64,
    "base_den": np.int64,
    "tokens": np.int64,
    "width": np.int32,
    "height": np.int32,
    "tier": np.int8,
    "reason": np.int8,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept frame."""

    seq: int
    pts: int
    time_base: Fraction
    seconds: float
    tier: Tier
    reason: Reason
    score: float
    tokens: int
    width: int
    height: int
    embedding: NDArray[np.float32] = field(repr=False)
    jpeg: bytes = field(repr=False)
    worth: float = 0.0
    """What the memory's policy keeps with it; of two, the lower leaves first."""
    novelty: float = 1.0

    def image(self) -> Image:
        """The kept picture, uint8 [H, W, 3] RGB."""
        return pictures.decode(self.jpeg, (self.width, self.height))


def load_entries(path: str) -> list[Entry]:
    """The kept frames in a memory file, in order of time, whatever its configuration.

    Raises StateError when the file is damaged or holds no frame memory.
    """
    return entries_of(snapshot.load(path), path)


def entries_of(file: snapshot.MemoryFile, path: str) -> list[Entry]:
    """The same of a file that is read already; ``path`` is what errors call it."""
    for config, state in file.memories.values():
        if config.get("kind") == "frames":
            embedding = state.tensors.get("rows.embedding", np.zeros((0, 1), np.float32))
            if embedding.ndim != 2 or not embedding.shape[1]:  # rows of nothing cost no file bytes
                raise StateError("'rows.embedding' must have two dimensions, the second not 0.")
            rows = RowStore(embedding.shape[0], embedding.shape[1], ROW)
            rows.load(state.tensors)
            check_rows(rows)
            return entries(rows, range(len(rows)))
    raise StateError(f"{path} holds no frame memory.")


def check_rows(rows: RowStore) -> None:
    """Raises StateError when ``rows`` hold what no frame memory writes: no unit features, times or
    scores that are not finite, sizes and codes out of range."""
    good = (rows["tier"] >= BLURRED) & (rows["tier"] <= CLEAR)
    good &= (rows["reason"] >= 0) & (rows["reason"] < len(REASONS))
    good &= (rows["base_num"] > 0) & (rows["base_den"] > 0) & (rows["seq"] >= 0)
    good &= (rows["tokens"] > 0) & (rows["novelty"] >= 0) & (rows["mass"] >= 0)
    for name in ("width", "height"):
        good &= (rows[name] > 0) & (rows[name] <= MAX_SIDE)
    for name in COLUMNS:
        good &= np.abs(rows[name]) < _ENORMOUS
    good &= units(rows.embedding)
    if not good.all():
        raise StateError("The snapshot holds rows that no frame memory could have written.")


def entries(rows: RowStore, chosen: range | list[int]) -> list[Entry]:
    """The ``chosen`` rows."""
    return [
        Entry(
            seq=int(rows["seq"][i]),
            pts=int(rows["pts"][i]),
            time_base=Fraction(int(rows["base_num"][i]), int(rows["base_den"][i])),
            seconds=float(rows["seconds"][i]),
            tier=tier_of(rows["tier"][i]),
            reason=REASONS[int(rows["reason"][i])],
            score=float(rows["score"][i]),
            tokens=int(rows["tokens"][i]),
            width=int(rows["width"][i]),
            height=int(rows["height"][i]),
            embedding=rows.embedding[i].copy(),
            jpeg=rows.payload(i),
            worth=float(rows["key"][i]),
            novelty=float(rows["novelty"][i]),
        )
        for i in chosen
    ]


def tier_of(code: np.int8) -> Tier:
    """A row's tier by name."""
    return "clear" if code == CLEAR else "blurred"


def held_frame(rows: RowStore, row: int) -> HeldFrame:
    """What is told of a row, without its picture."""
    return HeldFrame(
        int(rows["seq"][row]),
        float(rows["seconds"][row]),
        tier_of(rows["tier"][row]),
        REASONS[int(rows["reason"][row])],
        float(rows["score"][row]),
        int(rows["tokens"][row]),
        len(rows.payload(row)),
        int(rows["width"][row]),
        int(rows["height"][row]),
    )


def one_more(rows: RowStore, max_entries: int, token_budget: int) -> int:
    """Bytes that a picture more would take, as large as the largest; in place of the smallest,
    where entries or tokens allow no more."""
    sizes = [len(rows.payload(row)) for row in range(len(rows))]
    if not sizes:
        return 0
    tokens = rows["tokens"]
    full = len(sizes) >= max_entries or int(tokens.sum()) + int(tokens.max()) > token_budget
    return max(sizes) - (min(sizes) if full else 0)
