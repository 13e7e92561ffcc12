"""Sums of products of channels in float64, on the host."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

# Rows that are multiplied at a time: more do not fit in a processor's cache.
_ROWS = 4096


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which NumPy's linear algebra runs in one thread.

    Several wait for more work by spinning: on cores that others use too, two threads measured 10 to
    200 times as slow as one.
    """
    found: AbstractContextManager[Any] = _threads().limit(limits=1, user_api="blas")
    return found


def inner_products(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return rowsᵀ·rows (c, c) in float64 for rows (n, c) of any float type."""
    with one_blas_thread(), np.errstate(invalid="ignore", over="ignore"):
        part = rows[:_ROWS].astype(np.float64)
        found: NDArray[np.float64] = part.T @ part
        for start in range(_ROWS, len(rows), _ROWS):
            part = rows[start : start + _ROWS].astype(np.float64)
            found += part.T @ part
    return found
