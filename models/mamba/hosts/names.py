"""What classes are called."""

from __future__ import annotations

from pathlib import Path

from retain.pipeline.errors import SourceError, SourceFault, UsageError

_COCO = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant,
bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket,
bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli,
carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet,
tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
COCO: tuple[str, ...] = tuple(name.strip() for name in _COCO.split(","))
"""The 80 classes of COCO in its order."""


def names_for(classes: int, file: str | Path = "") -> tuple[str, ...]:
    """Names of ``classes`` classes: from ``file``, one on a line; without one COCO's where there
    are 80, else class_0 and so on.

    Raises SourceError for a file that cannot be read, UsageError for another number of names.
    """
    if not file:
        return COCO if classes == len(COCO) else tuple(f"class_{k}" for k in range(classes))
    names = read_names(file)
    if len(names) != classes:
        raise UsageError(
            f"{str(file)!r} has {len(names)} names, but the weights know {classes} classes.",
            hint="Give one name on a line, in the order the detector was trained with.",
        )
    return names


def read_names(file: str | Path) -> tuple[str, ...]:
    """The lines of ``file`` that are not empty. Raises SourceError when it cannot be read,
    UsageError for a name that comes twice."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise SourceError(
            SourceFault.NOT_FOUND if missing else SourceFault.BROKEN,
            f"The class names in {str(file)!r} cannot be read ({type(error).__name__}).",
            hint="It should be a text file with one name on a line.",
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{str(file)!r} names {twice[0]!r} more than once.")
    return names
