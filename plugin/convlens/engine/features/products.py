"""Products of a layer's channels, summed in float32 on the device and joined in float64.

Each batch's maps are taken about a shift near their mean, so that what float32 rounds away is small
against their variation, and not only against their size. What rounding leaves in doubt is computed
again in float64 by the survey, so that no verdict depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.runtime import tolerance

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
        products: (c, c) float64.
        sums: (c,) float64.
    """

    def __init__(self, channels: int) -> None:
        self.rows = 0
        self.products = np.zeros((channels, channels))
        self.sums = np.zeros(channels)
        self._largest_batch = 0

    def add(self, summary: Mapping[str, NDArray[Any]], new: int) -> None:
        """Add the first `new` images of a batch that `summarize_products` has summarized."""
        rows = new * int(summary["rows"])
        shift, sums = (summary[name].astype(np.float64) for name in ("shift", "sums"))
        across = np.outer(shift, sums + rows * shift / 2)
        with np.errstate(invalid="ignore", over="ignore"):
            self.products += summary["products"]
            self.products += across
            self.products += across.T
            self.sums += sums + rows * shift
        self.rows += rows
        self._largest_batch = max(self._largest_batch, rows)

    @property
    def covariances(self) -> NDArray[np.float64]:
        """The products (c, c) of the channels about their means."""
        return self.products - np.outer(self.sums, self.sums) / self.rows

    @property
    def error(self) -> float:
        """The largest error of a cosine of two channels, or of a correlation."""
        # Of the product and of both lengths, each of which the device may have rounded.
        precision = tolerance.of_products("float32")
        return 3 * tolerance.sum_tolerance(precision, self._largest_batch)

    def are_reliable(self, units: NDArray[np.int64]) -> bool:
        """Return whether no unit's squares are too large or too small for float32."""
        squares = np.diagonal(self.covariances)[units]
        return bool((np.isfinite(squares) & (squares > _SMALLEST_SQUARE)).all())
