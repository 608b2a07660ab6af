"""One rule for every state that is corrected by what is new: S <- S + K (Write - S).

What differs between recurrent reconstructions is only the gain K:

``replace``     K = 1: the newest word counts (CUT3R)
``damped``      K = 1/2, whatever comes: the plain baseline every other rule has to beat
``attention``   K = the evidence itself, a gate in [0, 1] (TTT3R: the mean attention of a token)
``confidence``  K = c / (W + c), then W <- min(W + c, cap): the weighted mean of all that came, and
                once the cap is reached an exponential filter that forgets; a cap of 0 is
                ``replace``

It holds for tokens [T, D] and for the attributes of Gaussians alike: evidence and weight are one
number per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from retain.pipeline.errors import UsageError

Rule = Literal["replace", "damped", "attention", "confidence"]
Array = Any
"""A numpy array or a torch tensor; out comes what went in."""
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Policy:
    """How much a state believes what is new. ``cap`` bounds the weight of what it knows."""

    rule: Rule = "confidence"
    cap: float = 20.0

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise UsageError(f"A state evolves by {', '.join(get_args(Rule))}, not {self.rule!r}.")
        if not self.cap >= 0:
            raise UsageError(f"The cap of a state's weight must be >= 0, got {self.cap}.")

    def gain(self, weight: Array, evidence: Array) -> tuple[Array, Array]:
        """(K, new weight), both [T], of weights >= 0 and evidence >= 0, both [T]."""
        total = weight + evidence
        if self.rule == "replace":
            gain = 1 + 0 * evidence
        elif self.rule == "damped":
            gain = 0.5 + 0 * evidence
        elif self.rule == "attention":
            gain = evidence.clip(max=1)
        else:
            gain = evidence / total.clip(min=_TINY)  # nothing known, nothing said: K = 0
        return gain, total.clip(max=self.cap)


def evolve(
    state: Array, write: Array, weight: Array, evidence: Array, policy: Policy
) -> tuple[Array, Array]:
    """The state [T, D] after ``write`` [T, D], and its weights [T]."""
    gain, weight = policy.gain(weight, evidence)
    return state + gain[:, None] * (write - state), weight
