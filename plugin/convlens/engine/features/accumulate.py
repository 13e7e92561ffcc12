"""Summarize a layer's activations over images that come in batches, in the memory of one image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Rows that are multiplied at a time: more do not fit in a processor's cache.
_ROWS = 4096


class ChannelAccumulator:
    """The activations of one layer's channels, summarized batch by batch.

    Attributes:
        images: number of images so far.
        low_at, high_at: (…, c) each position's smallest and largest activation over the images.
        products: (c, c) the sums of products of two channels over all images and positions, in
            float64; None if they were not asked for.
        sums: (c,) the sums of the channels, if products were asked for.
    """

    def __init__(self, *, products: bool = False) -> None:
        """Start without images.

        Args:
            products: True to gather the products, which cost c² operations for each position.
        """
        self.images = 0
        self.low_at: NDArray[np.float64] = np.empty(0)
        self.high_at: NDArray[np.float64] = np.empty(0)
        self.products: NDArray[np.float64] | None = None
        self.sums: NDArray[np.float64] = np.empty(0)
        self._with_products = products
        self._fired: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, maps: NDArray[Any]) -> None:
        """Add a batch of activations (n, …, c), of the same shape each time but for n."""
        # With NaN the smallest and the largest are NaN, so `not_finite` sees it.
        low, high = (f(maps, axis=0).astype(np.float64) for f in (np.min, np.max))
        fired = np.count_nonzero(maps.reshape(-1, maps.shape[-1]) > 0, axis=0)
        if self.images:
            low, high = np.minimum(self.low_at, low), np.maximum(self.high_at, high)
            fired = self._fired + fired
        self.low_at, self.high_at, self._fired = low, high, fired
        self.images += len(maps)
        if self._with_products:
            self._add_products(maps.reshape(-1, maps.shape[-1]))

    def _add_products(self, rows: NDArray[Any]) -> None:
        if self.products is None:
            self.products = np.zeros((rows.shape[1], rows.shape[1]))
            self.sums = np.zeros(rows.shape[1])
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS].astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                self.products += part.T @ part
                self.sums += part.sum(axis=0)

    @property
    def covariances(self) -> NDArray[np.float64]:
        """The products (c, c) of the channels about their means.

        Raises:
            ValueError: products were not asked for, or no image was added.
        """
        if self.products is None:
            raise ValueError("products were not gathered")
        count = self.images * self._flat(self.low_at).shape[0]
        return self.products - np.outer(self.sums, self.sums) / count

    @property
    def low(self) -> NDArray[np.float64]:
        """Each channel's smallest activation, (c,)."""
        return self._flat(self.low_at).min(axis=0)

    @property
    def high(self) -> NDArray[np.float64]:
        """Each channel's largest activation, (c,)."""
        return self._flat(self.high_at).max(axis=0)

    @property
    def spread(self) -> NDArray[np.float64]:
        """The largest change of each channel from image to image at one position, (c,)."""
        return self._flat(self.high_at - self.low_at).max(axis=0)

    @property
    def fires(self) -> NDArray[np.float64]:
        """The share of all images and positions at which each channel is above 0, (c,)."""
        return self._fired / (self.images * self._flat(self.low_at).shape[0])

    @property
    def not_finite(self) -> int | None:
        """The first channel with NaN or infinite activations; None if all are finite."""
        bad = ~(np.isfinite(self.low) & np.isfinite(self.high))
        return int(np.flatnonzero(bad)[0]) if bad.any() else None

    def _flat(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.reshape(-1, values.shape[-1])
