"""Timing that waits for the device, in turns, and what is made of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Run = Callable[[], Any]
Clock = Callable[[], float]


def finished(result: Any) -> Any:
    """Return a result once it is there: devices compute on while Python goes on without them.

    Every tensor in it, within dictionaries, sequences and dataclasses too, is brought to the host,
    which cannot be done before it is computed.
    """
    for leaf in keras.tree.flatten(result):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            finished([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
        elif hasattr(leaf, "__array__") and not isinstance(leaf, np.ndarray | np.generic):
            np.asarray(leaf)
    return result


def seconds(run: Run, clock: Clock = time.perf_counter) -> tuple[float, Any]:
    """Return how long a run takes until its result is there, and the result."""
    begin = clock()
    result = finished(run())
    return clock() - begin, result


def ratios(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median and the quartiles of the ratios of times that were taken in turn."""
    return spread([a / b for a, b in zip(mine, theirs, strict=False)])


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "q1": float(low), "q3": float(high)}
