"""Products of a layer's channels, summed in float32 on the device and joined in float64.

Each batch's maps are taken about a shift near their mean, so that what float32 rounds away is small
against their variation, and not only against their size. What rounding leaves in doubt is computed
again in float64 by the survey, so that no verdict depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import backend, tolerance
from convlens.engine.runtime.products import one_blas_thread

# A channel that varies less, summed over all images and positions, has squares that float32 rounds
# to 0.
_SMALLEST_SQUARE = 1e-28


def summarize_products(x: Any, valid: Any | None = None) -> dict[str, Any]:
    """Return the sums of products of channels about a shift, in a graph.

    Args:
        x: (n, …, c) float32 activations.
        valid: (n,) 1 for each image that counts, 0 for those that fill up the batch; None if all
            count.

    Returns:
        'shift' (c,), 'sums' (c,) and 'products' (c, c) of the activations about it.
    """
    positions = tuple(range(len(x.shape) - 2))
    shift = ops.mean(x[0], axis=positions) if positions else x[0]
    about = x - shift
    if valid is not None:
        about = about * ops.reshape(valid, (-1, *[1] * (len(x.shape) - 1)))
    rows = ops.reshape(about, (-1, x.shape[-1]))
    return {
        "shift": shift,
        "sums": ops.sum(rows, axis=0),
        "products": backend.column_products(rows),
    }


class ProductSums:
    """The sums of one layer's channels and of their products, over images that come in batches."""

    def __init__(self, channels: int) -> None:
        self._about_shifts = np.zeros((channels, channels))
        self._batches: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]] = []

    def add(self, summary: Mapping[str, NDArray[Any]], rows: int) -> None:
        """Add a batch that `summarize_products` has summarized.

        Args:
            summary: its result.
            rows: number of images that count, times positions.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            self._about_shifts += summary["products"]
        shift, sums = (summary[name].astype(np.float64) for name in ("shift", "sums"))
        self._batches.append((rows, shift, sums))

    def total(self) -> ProductTotal:
        """Return the sums over all batches."""
        counts = [rows for rows, _, _ in self._batches]
        # Σ(x + s)(y + t) = Σxy + sΣy + tΣx + n·s·t, in each batch.
        with one_blas_thread(), np.errstate(invalid="ignore", over="ignore"):
            shifts = np.stack([shift for _, shift, _ in self._batches], axis=1)
            rest = np.stack([sums + rows * shift / 2 for rows, shift, sums in self._batches])
            across = shifts @ rest
            products = self._about_shifts + across
            products += across.T
            sums = np.sum([sums + rows * shift for rows, shift, sums in self._batches], axis=0)
            covariances = products - np.outer(sums, sums) / sum(counts)
        # An error of the product and of both lengths, each of which the device may have rounded.
        precision = tolerance.of_products("float32")
        error = 3 * tolerance.sum_tolerance(precision, max(counts))
        return ProductTotal(products, covariances, error)


@dataclass(frozen=True)
class ProductTotal:
    """The sums of products of a layer's channels over all images and positions.

    Attributes:
        products: (c, c) float64.
        covariances: (c, c) float64, of the channels about their means.
        error: the largest error of a cosine of two channels, or of a correlation.
    """

    products: NDArray[np.float64]
    covariances: NDArray[np.float64]
    error: float

    def are_reliable(self, units: NDArray[np.int64]) -> bool:
        """Return whether no unit's squares are too large or too small for float32."""
        squares = np.diagonal(self.covariances)[units]
        return bool((np.isfinite(squares) & (squares > _SMALLEST_SQUARE)).all())
