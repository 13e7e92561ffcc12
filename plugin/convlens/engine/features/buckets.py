"""Projections of a layer's channels that show which of them cannot be duplicates of each other.

The positions of a map are dealt into a few buckets, and a bucket's value is the sum of its
positions with random signs. That is a projection onto orthonormal vectors, which never lengthens a
difference: two channels whose normalized maps are nearly the same have nearly the same buckets, for
certain. The opposite is only likely, so channels with the same buckets are compared again in full.
It costs a few operations for each value of the maps, where all products of channels cost as many as
there are channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import tolerance
from convlens.engine.runtime.products import inner_products

_BUCKETS = 16
# The squares of a channel with a smaller sum may be rounded to 0 in float32.
_SMALLEST_SQUARE = 1e-28


def summarize_channels(x: Any) -> dict[str, Any]:
    """Return what `ChannelBuckets.add` takes for activations (n, …, c), in a graph.

    These are the buckets (n, k, c), the sums of squares (n, c) and the number of positions.
    """
    positions, c = math.prod(x.shape[1:-1]), x.shape[-1]
    flat = ops.reshape(x, (-1, positions, c))
    return {
        "buckets": ops.matmul(bucket_signs(positions), flat),
        "squares": ops.sum(flat * flat, axis=1),
        "positions": ops.convert_to_tensor(np.int32(positions)),
    }


def bucket_signs(positions: int) -> NDArray[np.float32]:
    """Return orthonormal rows (k, positions), of which each position belongs to one."""
    k = min(_BUCKETS, positions)
    numbers = np.arange(positions)
    signs = np.random.default_rng(positions).integers(0, 2, positions) * 2.0 - 1
    rows = np.zeros((k, positions), np.float32)
    rows[numbers % k, numbers] = signs / np.sqrt(np.bincount(numbers % k))[numbers % k]
    return rows


class ChannelBuckets:
    """The buckets of one layer's channels, over images that come in batches."""

    def __init__(self) -> None:
        self._buckets: list[NDArray[np.float32]] = []
        self._squares: list[NDArray[np.float32]] = []
        self._positions = 0

    def add(self, summary: Mapping[str, NDArray[Any]], new: int) -> None:
        """Add the first `new` images of a batch that `summarize_channels` has summarized."""
        self._buckets.append(summary["buckets"][:new])
        self._squares.append(summary["squares"][:new])
        self._positions = int(summary["positions"])

    def suspects(self, alive: NDArray[np.bool_], tol: float) -> NDArray[np.int64]:
        """Return the channels (m,) that may be duplicates: all that are, and few others.

        Args:
            alive: (c,) True for the channels that are compared.
            tol: largest 1 - cosine of duplicates.
        """
        channels = np.flatnonzero(alive)
        if len(channels) < 2:
            return channels[:0]
        squares = np.concatenate(self._squares)[:, channels].sum(axis=0, dtype=np.float64)
        if not (np.isfinite(squares) & (squares > _SMALLEST_SQUARE)).all():
            return channels
        buckets = np.concatenate(self._buckets)[..., channels].astype(np.float64)
        normalized = buckets.reshape(-1, len(channels)) / np.sqrt(squares)
        products = inner_products(normalized)
        lengths = np.diagonal(products)
        distances = lengths[:, None] + lengths - 2 * products
        # The distance of normalized maps is √(2 - 2·cosine), and the device rounds its sums.
        rounding = tolerance.sum_tolerance(tolerance.of_products("float32"), self._positions)
        close = distances <= (math.sqrt(2 * tol) + 4 * rounding) ** 2
        np.fill_diagonal(close, False)
        return channels[close.any(axis=1)]
