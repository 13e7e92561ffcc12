"""Round numbers for the axes of charts, and the values that a chart can draw."""

from __future__ import annotations

import math
from collections.abc import Iterable

# Larger values are drawn as gaps, as infinity is: the span of an axis would overflow.
_LARGEST = 1e300
# A narrower span, or one near the resolution of its numbers, is drawn as a flat line.
_SMALLEST_SPAN, _RESOLUTION = 1e-300, 1e-12


def drawable(value: float) -> bool:
    """Return whether a chart can draw a value; NaN, infinity and what nears it leave a gap."""
    return -_LARGEST <= value <= _LARGEST


def limits(values: Iterable[float]) -> tuple[float, float]:
    """Return the smallest and the largest value that can be drawn; (0, 1) where there is none."""
    drawn = [value for value in values if drawable(value)]
    return (min(drawn), max(drawn)) if drawn else (0.0, 1.0)


def ticks(low: float, high: float) -> list[float]:
    """Return four to eight evenly spaced round numbers that enclose [low, high].

    Raises:
        ValueError: a limit that cannot be drawn; see `drawable`.
    """
    if not (drawable(low) and drawable(high)):
        raise ValueError(f"an axis needs finite limits, not {low:g} and {high:g}")
    span = high - low
    if span < max(_SMALLEST_SPAN, _RESOLUTION * max(abs(low), abs(high))):
        span = max(abs(high), 1.0)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [i * step for i in range(first, last + 1)]
