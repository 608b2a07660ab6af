"""What the procedural objects are made of. A class is its parts and how they move, not its colour.

Coordinates of an object: x right, y down, about -1 to 1 across its longer side; it looks right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """One rigid piece. Later parts of a list lie before earlier ones."""

    outline: Points
    """[K, 2] polygon."""
    coat: int
    """Which of the object's coats (colour and texture) it wears."""
    pivot: tuple[float, float] = (0.0, 0.0)
    """What it turns about."""
    swing: float = 0.0
    """Radians to each side, once per stride."""
    phase: float = 0.0
    turn: float = 0.0
    """Turns per stride; for wheels and rotors."""


Maker = Callable[[np.random.Generator], list[Part]]


def ellipse(x: float, y: float, a: float, b: float, lean: float = 0.0) -> Points:
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    u, v = a * np.cos(t), b * np.sin(t)
    c, s = np.cos(lean), np.sin(lean)
    return np.column_stack([x + c * u - s * v, y + s * u + c * v])


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def poly(*numbers: float) -> Points:
    return np.array(numbers, np.float64).reshape(-1, 2)


def limb(x: float, y: float, length: float, thick: float) -> Points:
    """Hangs down from (x, y), tapering."""
    half = thick / 2
    return poly(
        *(x - half, y - half, x + half, y - half),
        *(x + 0.7 * half, y + length, x - 0.7 * half, y + length),
    )


def car(rng: np.random.Generator) -> list[Part]:
    roof, hood = rng.uniform(-0.5, -0.35), rng.uniform(0.3, 0.6)
    r = rng.uniform(0.17, 0.24)
    wheels = []
    for x in (-0.58, 0.58):
        wheels.append(Part(ellipse(x, 0.3, r, r), 2, (x, 0.3)))
        wheels.append(Part(box(x - r, 0.26, x + r, 0.34), 3, (x, 0.3), turn=1))
    return [
        Part(poly(-0.7, -0.05, -0.45, roof, hood - 0.1, roof, hood + 0.15, -0.05), 1),
        Part(poly(-1, -0.08, hood + 0.1, -0.1, 0.95, 0.02, 1, 0.3, -1, 0.3), 0),
        Part(poly(-0.4, roof + 0.07, -0.05, roof + 0.07, -0.05, -0.08, -0.55, -0.08), 3),
        *wheels,
    ]


def person(rng: np.random.Generator) -> list[Part]:
    girth, head = rng.uniform(0.16, 0.23), rng.uniform(0.13, 0.17)
    arm = rng.uniform(0.4, 0.5)
    return [
        Part(limb(0, -0.45, arm, 0.1), 1, (0, -0.45), 0.6, 0.5),
        Part(limb(-0.04, 0.15, 0.85, 0.16), 2, (-0.04, 0.15), 0.5, 0.0),
        Part(limb(0.04, 0.15, 0.85, 0.16), 2, (0.04, 0.15), 0.5, 0.5),
        Part(poly(-girth, -0.55, girth, -0.55, 0.8 * girth, 0.2, -0.8 * girth, 0.2), 0),
        Part(ellipse(0, -0.55 - head, 0.8 * head, head), 3),
        Part(limb(0, -0.45, arm, 0.1), 1, (0, -0.45), 0.6, 0.0),
    ]


def bird(rng: np.random.Generator) -> list[Part]:
    span = rng.uniform(0.65, 0.9)
    wing = poly(-0.25, 0, 0.2, 0, 0.05, -0.6 * span, -0.2, -span, -0.3, -0.5 * span)
    return [
        Part(wing, 2, (0, 0), 0.7, 0.5),
        Part(poly(-0.4, -0.05, -0.9, -0.22, -0.85, 0.15, -0.4, 0.08), 1, (-0.4, 0), 0.2),
        Part(ellipse(0, 0, 0.5, rng.uniform(0.15, 0.22)), 0),
        Part(ellipse(0.52, -0.12, 0.16, 0.14), 1),
        Part(poly(0.64, -0.18, 0.9, -0.08, 0.64, -0.04), 3),
        Part(wing, 2, (0, 0), 0.7, 0.4),
    ]


def fish(rng: np.random.Generator) -> list[Part]:
    deep = rng.uniform(0.28, 0.45)
    return [
        Part(poly(-0.45, 0, -0.95, -0.4, -0.8, 0, -0.95, 0.4), 1, (-0.45, 0), 0.5),
        Part(poly(-0.2, -0.7 * deep, 0.25, -0.8 * deep, 0, -1.5 * deep), 2, (0, -deep), 0.1),
        Part(ellipse(0.1, 0, 0.65, deep), 0),
        Part(poly(0.05, 0.05, 0.15, 0.2, -0.25, 0.3), 2, (0.1, 0.1), 0.6, 0.3),
        Part(ellipse(0.5, -0.08, 0.08, 0.08), 3),
    ]


def dog(rng: np.random.Generator) -> list[Part]:
    leg, back = rng.uniform(0.45, 0.6), rng.uniform(0.18, 0.26)
    legs = [
        Part(limb(x, 0.0, leg, 0.13), coat, (x, 0.0), 0.55, phase)
        for x, coat, phase in ((-0.42, 1, 0.0), (0.4, 1, 0.5), (-0.5, 0, 0.6), (0.3, 0, 0.1))
    ]
    return [
        *legs[:2],
        Part(poly(-0.55, -0.12, -0.55, 0, -0.98, -0.4, -0.9, -0.46), 1, (-0.55, -0.05), 0.4, 0.2),
        Part(ellipse(-0.05, -0.02, 0.6, back), 0),
        *legs[2:],
        Part(ellipse(0.62, -0.3, 0.24, 0.19, -0.3), 0, (0.5, -0.15), 0.12),
        Part(ellipse(0.85, -0.25, 0.14, 0.09), 2, (0.5, -0.15), 0.12),
        Part(poly(0.5, -0.45, 0.6, -0.42, 0.48, -0.12), 2, (0.5, -0.15), 0.12),
    ]


def boat(rng: np.random.Generator) -> list[Part]:
    tall = rng.uniform(0.8, 1.0)
    return [
        Part(box(-0.04, -tall, 0.04, 0.3), 2, (0, 0.4), 0.08),
        Part(poly(0.08, -0.9 * tall, 0.08, 0.15, 0.65, 0.15), 1, (0, 0.4), 0.08),
        Part(poly(-0.08, -0.7 * tall, -0.08, 0.15, -0.5, 0.15), 3, (0, 0.4), 0.08),
        Part(poly(-0.9, 0.25, 0.95, 0.25, 0.6, 0.6, -0.65, 0.6), 0, (0, 0.4), 0.08),
    ]


def mill(rng: np.random.Generator) -> list[Part]:
    reach = rng.uniform(0.6, 0.75)
    base = poly(0.03, 0, 0.16, -reach, -0.12, -reach, -0.03, 0)
    parts = [Part(poly(-0.12, -0.25, 0.12, -0.25, 0.28, 1, -0.28, 1), 0)]
    for quarter in range(4):
        c, s = np.cos(np.pi / 2 * quarter), np.sin(np.pi / 2 * quarter)
        blade = base @ np.array([[c, s], [-s, c]]) + (0, -0.25)
        parts.append(Part(blade, 1 + quarter % 2, (0, -0.25), turn=0.5))
    return [*parts, Part(ellipse(0, -0.25, 0.1, 0.1), 3)]


def snail(rng: np.random.Generator) -> list[Part]:
    shell = rng.uniform(0.38, 0.5)
    return [
        Part(poly(-1, 0.6, -0.3, 0.35, 0.7, 0.35, 0.85, 0.1, 1, 0.2, 0.85, 0.6), 1),
        Part(limb(0.88, 0.15, -0.4, 0.07), 2, (0.88, 0.15), 0.3, 0.0),
        Part(limb(0.97, 0.2, -0.38, 0.07), 2, (0.97, 0.2), 0.3, 0.3),
        Part(ellipse(-0.1, 0.1, shell, shell), 0, (-0.1, 0.5), 0.05),
        Part(ellipse(-0.1, 0.1, 0.55 * shell, 0.55 * shell), 3, (-0.1, 0.5), 0.05),
    ]


def rubbish(rng: np.random.Generator) -> list[Part]:
    """No object at all: a few pieces in no order, to be found by nobody."""
    pieces = []
    for _ in range(int(rng.integers(1, 4))):
        t = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        r = rng.uniform(0.25, 0.7, len(t))
        x, y = rng.uniform(-0.35, 0.35, 2)
        outline = np.column_stack([x + r * np.cos(t), y + r * np.sin(t)])
        pieces.append(Part(outline, int(rng.integers(4)), (x, y), float(rng.uniform(0, 0.5))))
    return pieces


MAKERS: dict[str, Maker] = {
    "car": car,
    "person": person,
    "bird": bird,
    "fish": fish,
    "dog": dog,
    "boat": boat,
    "windmill": mill,
    "snail": snail,
}
NAMES = tuple(MAKERS)
STANDS = frozenset(("windmill",))
"""Goes nowhere by itself."""
