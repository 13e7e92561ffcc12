"""Sizes of layers' outputs: their root mean squares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.network import Network
from convlens.engine.runtime.batches import batch_within, each_batch, even_size

_BUDGET = 2**29


def layer_sizes(network: Network, x: NDArray[np.float32]) -> dict[str, float]:
    """Return each layer's root mean square over images, by name, in the order of the network.

    Args:
        network: the network.
        x: (n, h, w, c), checked by `Network.check_images`.
    """
    tensors = list(network.outputs.values())

    def build() -> Callable[..., Any]:
        return lambda batch: [_size(value) for value in network.run(batch, tensors)]

    run = network.compiled(("sizes",), build)
    size = even_size(len(x), batch_within(_BUDGET, tensors, x))
    parts = [np.stack(each, axis=-1) for each in each_batch(run, x, size)]
    largest, shares = np.concatenate(parts).astype(np.float64).transpose(1, 2, 0)
    return dict(
        zip(network.outputs, np.sqrt(np.mean((largest * shares) ** 2, axis=1)), strict=True)
    )


def _size(value: Any) -> Any:
    """Return (n, 2): each image's largest magnitude, and its root mean square as a share of it."""
    flat = ops.reshape(ops.cast(value, "float32"), (-1, math.prod(value.shape[1:])))
    # The squares of large values overflow, and those of their shares do not.
    largest = ops.max(ops.abs(flat), axis=1)
    shares = flat / ops.maximum(largest, 1e-30)[:, None]
    return ops.stack([largest, ops.sqrt(ops.mean(shares * shares, axis=1))], axis=1)
