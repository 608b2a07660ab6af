"""When each track was seen, as SVG: one line per track, what memory gave in another colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from retain.apps.detect.arms import Life
from retain.apps.drawing import clock

WIDTH, LEFT, RIGHT, ROW, TOP = 1100, 150, 16, 20, 8
SHOWN = 24
"""Tracks that are drawn: the longest."""
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200)
LEAST = 2.0
"""Pixels of a stretch of one frame."""


def timeline_svg(
    lives: Sequence[Life],
    names: Sequence[str],
    resets: Iterable[float],
    start_s: float,
    end_s: float,
) -> str:
    """Stretches of the longest ``SHOWN`` tracks in the order in which they began."""
    longest = sorted(lives, key=lambda life: life.first_s - life.last_s)[:SHOWN]
    shown = sorted(longest, key=lambda life: (life.first_s, life.track))
    bottom = TOP + ROW * max(len(shown), 1)
    scale = (WIDTH - LEFT - RIGHT) / max(end_s - start_s, 1e-9)

    def x(seconds: float) -> float:
        return round(LEFT + (seconds - start_s) * scale, 1)

    parts = []
    step = next((s for s in STEPS if (end_s - start_s) / s <= 10), STEPS[-1])
    for k in range(int((end_s - start_s) / step) + 1):
        at = x(start_s + k * step)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>')
        word = clock(start_s + k * step)
        parts.append(
            f'<text class="tick" x="{at}" y="{bottom + 16}" text-anchor="middle">{word}</text>'
        )
    for seconds in resets:
        at = x(seconds)
        parts.append(
            f'<line class="anew" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}">'
            f"<title>{clock(seconds)}: the memory began anew</title></line>"
        )
    for place, life in enumerate(shown):
        parts += _life(life, names[life.label], TOP + ROW * place, x)
    return (
        f'<svg class="lives" viewBox="0 0 {WIDTH} {bottom + 24}" role="img" '
        f'aria-label="When each of {len(shown)} tracks was seen">{"".join(parts)}</svg>'
    )


def _life(life: Life, name: str, top: float, x: Callable[[float], float]) -> list[str]:
    middle = top + ROW / 2
    label = f"{life.track} {name}"
    told = (
        f"{label}: {clock(life.first_s)} to {clock(life.last_s)}, {life.frames} frames, "
        f"{life.from_memory} of them from memory, {life.missing} not found"
    )
    parts = [
        f"<g><title>{escape(told)}</title>",
        f'<text class="tick" x="{LEFT - 10}" y="{middle + 4}" text-anchor="end">'
        f"{escape(label[:22])}</text>",
        f'<line class="whole" x1="{x(life.first_s)}" x2="{x(life.last_s)}" y1="{middle}" '
        f'y2="{middle}"/>',
    ]
    for start, end, recalled in life.spans:
        width = max(x(end) - x(start), LEAST)
        kind = "recalled" if recalled else "seen"
        place = f'x="{x(start)}" y="{middle - 5}" width="{width:.1f}" height="10"'
        parts.append(f'<rect class="{kind}" {place}/>')
    return [*parts, "</g>"]
