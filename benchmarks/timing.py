"""Measure times that include asynchronous devices, and compute ratios and quartiles."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Run = Callable[[], Any]
Clock = Callable[[], float]


def wait_for(result: Any) -> Any:
    """Wait until a result is computed, and return it: devices compute asynchronously.

    Every tensor in the result, also in dictionaries, sequences and dataclasses, is copied to the
    host, which waits for its computation.
    """
    for leaf in keras.tree.flatten(result):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            wait_for([getattr(leaf, field.name) for field in dataclasses.fields(leaf)])
        elif hasattr(leaf, "__array__") and not isinstance(leaf, np.ndarray | np.generic):
            np.asarray(leaf)
    return result


def seconds(run: Run, clock: Clock = time.perf_counter) -> tuple[float, Any]:
    """Return the time until the result of a run is computed, and the result."""
    begin = clock()
    result = wait_for(run())
    return clock() - begin, result


def ratios(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """Return the median and the quartiles of the ratios of times round by round."""
    return quartiles([a / b for a, b in zip(mine, theirs, strict=False)])


def quartiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles of values."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {"median": float(middle), "q1": float(low), "q3": float(high)}
