"""Gram matrices of feature maps, with explicit divisors."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from keras import ops

Divisor = Literal["none", "positions", "positions*channels"]
DIVISORS: tuple[Divisor, ...] = ("none", "positions", "positions*channels")


def gram_matrix(features: Any, divisor: Divisor = "none") -> Any:
    """Return G = FᵀF over the positions of each feature map, divided by a divisor.

    Args:
        features: (n, *positions, c), an array or a tensor of any float type.
        divisor: 'none' (Gatys et al. 2015), 'positions' h·w for two dimensions (the
            TensorFlow tutorial), or 'positions*channels' h·w·c (Johnson et al. 2016).

    Returns:
        (n, c, c) float32 for any input type, because half precision would overflow; a NumPy array
        for an array, a tensor for a tensor.

    Raises:
        ValueError: features without positions, or an unknown divisor.
    """
    shape = tuple(features.shape)
    if len(shape) < 3:
        raise ValueError(f"a Gram matrix needs features of shape (n, *positions, c), not {shape}")
    by = gram_divisor(shape, divisor)
    flat = ops.reshape(
        ops.cast(ops.convert_to_tensor(features), "float32"),
        (-1, math.prod(shape[1:-1]), shape[-1]),
    )
    gram = _inner(flat)
    if by != 1:
        gram = gram / by
    return ops.convert_to_numpy(gram) if isinstance(features, np.ndarray) else gram


def gram_divisor(shape: tuple[int, ...], divisor: Divisor) -> int:
    """Return the number by which FᵀF is divided, for features of `shape` (n, *positions, c).

    Raises:
        ValueError: an unknown divisor.
    """
    if divisor not in DIVISORS:
        known = ", ".join(map(repr, DIVISORS))
        raise ValueError(f"divisor must be one of {known}, not {divisor!r}")
    positions = math.prod(shape[1:-1])
    return {
        "none": 1,
        "positions": positions,
        "positions*channels": positions * shape[-1],
    }[divisor]


@ops.custom_gradient
def _inner(rows: Any) -> tuple[Any, Any]:
    """Return FᵀF of (n, rows, c); its gradient F·(U + Uᵀ) is one product instead of two."""

    def gradient(upstream: Any) -> Any:
        return ops.matmul(rows, upstream + ops.transpose(upstream, (0, 2, 1)))

    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows), gradient
