"""Fingerprints of values: hashes that rounding errors do not change.

Numbers are rounded to a grid before they are hashed. The grid is about as coarse as the tolerance,
and is shifted so that no number lies near the border of a cell. The shift is a part of the
fingerprint, so that another machine, whose numbers differ by rounding, rounds them in the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.tiles import weights

_SHIFTS = 256
_HASH_DIGITS = 14
# In units of the tolerance: the least size of a cell, and the least distance from its border.
_MIN_CELL, _MARGIN = 4.0, 0.3
# With more numbers a cell must be larger, for one of the shifts to suit all of them.
_NUMBERS_PER_UNIT = 4
MAX_NUMBERS = 32


def fingerprint(facts: Any, numbers: Sequence[NDArray[np.float64]], like: str = "") -> str:
    """Return a fingerprint of 16 hexadecimal digits.

    Args:
        facts: what must be equal, as JSON.
        numbers: arrays of numbers in units of their tolerance.
        like: a fingerprint whose grid is used; "" to choose the grid.
    """
    flat = np.concatenate([np.zeros(0), *(array.reshape(-1) for array in numbers)])
    cell = max(_MIN_CELL, flat.size / _NUMBERS_PER_UNIT)
    shift = int(like[:2], 16) if like else _choose_shift(flat / cell, _MARGIN / cell)
    with np.errstate(over="ignore"):
        cells = np.floor(flat / cell + shift / _SHIFTS)
    text = json.dumps([facts, cells.tolist()], sort_keys=True)
    return f"{shift:02x}{hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]}"


def _choose_shift(numbers: NDArray[np.float64], margin: float) -> int:
    """Return the first shift with which all numbers keep a margin, or else the one with most."""
    margins = np.full(_SHIFTS, 0.5)
    for number in numbers:
        place = (number % 1.0 + np.arange(_SHIFTS) / _SHIFTS) % 1.0
        margins = np.minimum(margins, np.minimum(place, 1 - place))
    suits = np.flatnonzero(margins >= margin)
    return int(suits[0] if suits.size else margins.argmax())


def rounded(values: NDArray[np.generic], tol: float, limit: int = MAX_NUMBERS) -> Any:
    """Return at most about `limit` numbers in units of a tolerance relative to the values' size.

    Returns:
        The logarithm of the root mean square, and the values, or sums of groups of them with random
        weights, in units of it.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    largest = float(np.abs(flat).max()) if flat.size else 0.0
    if not largest:
        return np.zeros(0)
    size = float(np.sqrt(np.mean((flat / largest) ** 2))) * largest
    return np.array([np.log(size), *(grouped(flat / size, limit))]) / tol


def grouped(flat: NDArray[np.float64], limit: int = MAX_NUMBERS) -> NDArray[np.float64]:
    """Return values (k,), or `limit` sums of groups with random weights; errors keep their size."""
    if flat.size <= limit:
        return flat
    size = -(-flat.size // limit)
    padded = np.zeros(limit * size)
    padded[: flat.size] = flat
    found: NDArray[np.float64] = padded.reshape(limit, size) @ weights(size, 1)[:, 0]
    return found / np.sqrt(size)
