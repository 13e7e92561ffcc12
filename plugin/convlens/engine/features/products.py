"""Products of a layer's channels, summed in float32 on the device and joined in float64.

Each batch's maps are taken about a shift near their mean, so that what float32 rounds away is small
against their variation, and not only against their size. What rounding leaves in doubt is computed
again in float64 by the survey, so that no verdict depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import tolerance
from convlens.engine.runtime.products import one_blas_thread

# A channel that varies less, summed over all images and positions, has squares that float32 rounds
# to 0.
_SMALLEST_SQUARE = 1e-28


def summarize_products(x: Any, valid: Any) -> dict[str, Any]:
    """Return the sums of products of channels about a shift, in a graph.

    Args:
        x: (n, …, c) float32 activations.
        valid: (n,) 1 for each image that counts, 0 for those that fill up the batch.

    Returns:
        'shift' (c,), 'sums' (c,) and 'products' (c, c) of the activations about it, and 'rows', the
        number of positions.
    """
    c = x.shape[-1]
    positions = math.prod(x.shape[1:-1])
    shift = ops.mean(ops.reshape(x[:1], (-1, c)), axis=0)
    each = ops.reshape(valid, (-1, *[1] * (len(x.shape) - 1)))
    rows = ops.reshape((x - shift) * each, (-1, c))
    return {
        "shift": shift,
        "sums": ops.sum(rows, axis=0),
        "products": ops.matmul(ops.transpose(rows), rows),
        "rows": ops.convert_to_tensor(np.int32(positions)),
    }


class ProductSums:
    """The sums of one layer's channels and of their products, over images that come in batches.

    Attributes:
        rows: number of images times positions so far.
    """

    def __init__(self, channels: int) -> None:
        self.rows = 0
        self._about_shifts = np.zeros((channels, channels))
        self._batches: list[tuple[int, NDArray[np.float64], NDArray[np.float64]]] = []

    def add(self, summary: Mapping[str, NDArray[Any]], new: int) -> None:
        """Add the first `new` images of a batch that `summarize_products` has summarized."""
        rows = new * int(summary["rows"])
        with np.errstate(invalid="ignore", over="ignore"):
            self._about_shifts += summary["products"]
        shift, sums = (summary[name].astype(np.float64) for name in ("shift", "sums"))
        self._batches.append((rows, shift, sums))
        self.rows += rows

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """The sums (c,) of the channels; nothing may be added afterwards."""
        with np.errstate(invalid="ignore", over="ignore"):
            parts = [sums + rows * shift for rows, shift, sums in self._batches]
            found: NDArray[np.float64] = np.sum(parts, axis=0)
        return found

    @cached_property
    def products(self) -> NDArray[np.float64]:
        """The sums (c, c) of products of two channels; nothing may be added afterwards."""
        # Σ(x + s)(y + t) = Σxy + sΣy + tΣx + n·s·t, in each batch.
        shifts = np.stack([shift for _, shift, _ in self._batches], axis=1)
        with one_blas_thread(), np.errstate(invalid="ignore", over="ignore"):
            rest = np.stack([sums + rows * shift / 2 for rows, shift, sums in self._batches])
            across = shifts @ rest
            return self._about_shifts + across + across.T

    @cached_property
    def covariances(self) -> NDArray[np.float64]:
        """The products (c, c) of the channels about their means."""
        with np.errstate(invalid="ignore", over="ignore"):
            found: NDArray[np.float64] = self.products - np.outer(self.sums, self.sums) / self.rows
        return found

    @property
    def error(self) -> float:
        """The largest error of a cosine of two channels, or of a correlation."""
        # Of the product and of both lengths, each of which the device may have rounded.
        precision = tolerance.of_products("float32")
        return 3 * tolerance.sum_tolerance(precision, max(rows for rows, _, _ in self._batches))

    def are_reliable(self, units: NDArray[np.int64]) -> bool:
        """Return whether no unit's squares are too large or too small for float32."""
        squares = np.diagonal(self.covariances)[units]
        return bool((np.isfinite(squares) & (squares > _SMALLEST_SQUARE)).all())
