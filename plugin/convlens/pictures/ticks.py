"""Round numbers for the axes of charts."""

from __future__ import annotations

import math


def ticks(low: float, high: float) -> list[float]:
    """Return four to eight evenly spaced round numbers that enclose [low, high]."""
    span = (high - low) or max(abs(high), 1.0)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [i * step for i in range(first, last + 1)]
