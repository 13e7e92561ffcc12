"""A digest of variables, to notice that their values changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.engine.runtime import backend

_WIDTH = 4096
_FACTORS = np.random.default_rng(0).standard_normal(_WIDTH).astype(np.float32)


def digest(variables: Iterable[Any]) -> tuple[float, ...]:
    """Return a number for each variable, another one if its values changed or changed places.

    It takes a tenth of the time of a checksum of the bytes, and the values stay where they are.
    """
    return tuple(_weighted_sum(backend.host_array(v)) for v in variables)


def _weighted_sum(values: NDArray[Any]) -> float:
    flat = np.asarray(values.reshape(-1), np.float32)
    rows = flat[: flat.size // _WIDTH * _WIDTH].reshape(-1, _WIDTH)
    rest = flat[rows.size :]
    # By einsum, as products of matrices may be summed in another order each time.
    sums = np.append(np.einsum("ij,j->i", rows, _FACTORS), np.sum(rest * _FACTORS[: rest.size]))
    return float(np.sum(sums * np.sqrt(np.arange(1, 1 + sums.size))))
