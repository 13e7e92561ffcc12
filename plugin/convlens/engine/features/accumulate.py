"""Summarize a layer's activations over images that come in batches, in the memory of one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime.products import inner_products


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
        self.low_at: NDArray[np.floating] = np.empty(0)
        self.high_at: NDArray[np.floating] = np.empty(0)
        self.products: NDArray[np.float64] | None = None
        self.sums: NDArray[np.float64] = np.empty(0)
        self._with_products = products
        self._fired: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, maps: NDArray[Any]) -> None:
        """Add a batch of activations (n, …, c), of the same shape each time but for n."""
        rows = maps.reshape(-1, maps.shape[-1])
        # With NaN the smallest and the largest are NaN, so `not_finite` sees it.
        fired = np.count_nonzero(rows > 0, axis=0)
        self._add_range(maps.min(axis=0), maps.max(axis=0), fired, len(maps))
        if self._with_products:
            self._add_products(inner_products(rows), rows.sum(axis=0, dtype=np.float64))

    def add_summary(self, summary: Mapping[str, NDArray[Any]], new: int) -> None:
        """Add the first `new` images of a batch that `summarize_range` has summarized."""
        fired = summary["fired"][:new].astype(np.int64).sum(axis=0)
        self._add_range(summary["low"], summary["high"], fired, new)

    def _add_range(
        self, low: NDArray[Any], high: NDArray[Any], fired: NDArray[np.int64], new: int
    ) -> None:
        if self.images:
            low, high = np.minimum(self.low_at, low), np.maximum(self.high_at, high)
            fired = self._fired + fired
        self.low_at, self.high_at, self._fired = low, high, fired
        self.images += new

    def _add_products(self, products: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
        if self.products is None:
            self.products, self.sums = products, sums
        else:
            self.products += products
            self.sums = self.sums + sums

    def of_channels(self, channels: NDArray[np.int64]) -> ChannelAccumulator:
        """Return the same for some of the channels."""
        found = ChannelAccumulator(products=self._with_products)
        found.images, found._fired = self.images, self._fired[channels]
        found.low_at, found.high_at = self.low_at[..., channels], self.high_at[..., channels]
        if self.products is not None:
            found.products = self.products[np.ix_(channels, channels)]
            found.sums = self.sums[channels]
        return found

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
        return self._flat(self.low_at).min(axis=0).astype(np.float64)

    @property
    def high(self) -> NDArray[np.float64]:
        """Each channel's largest activation, (c,)."""
        return self._flat(self.high_at).max(axis=0).astype(np.float64)

    @property
    def spread(self) -> NDArray[np.float64]:
        """The largest change of each channel from image to image at one position, (c,)."""
        # In float64, as a difference of two numbers of float32 may be too large for it.
        low, high = (self._flat(at).astype(np.float64) for at in (self.low_at, self.high_at))
        return (high - low).max(axis=0)

    @property
    def fires(self) -> NDArray[np.float64]:
        """The share of all images and positions at which each channel is above 0, (c,)."""
        return self._fired / (self.images * self._flat(self.low_at).shape[0])

    @property
    def not_finite(self) -> int | None:
        """The first channel with NaN or infinite activations; None if all are finite."""
        bad = ~(np.isfinite(self.low) & np.isfinite(self.high))
        return int(np.flatnonzero(bad)[0]) if bad.any() else None

    def _flat(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(-1, values.shape[-1])


def summarize_range(x: Any) -> dict[str, Any]:
    """Return 'low' and 'high' (…, c) and 'fired' (n, c) of activations (n, …, c), in a graph.

    Images that fill up a batch must be repetitions of others.
    """
    positions = tuple(range(1, len(x.shape) - 1))
    fired = ops.cast(x > 0, "float32")
    return {
        "low": ops.min(x, axis=0),
        "high": ops.max(x, axis=0),
        "fired": ops.sum(fired, axis=positions) if positions else fired,
    }
