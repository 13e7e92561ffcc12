"""Measure the peak speed of matrix products, as a reference for the cores' speed."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
from keras import ops

from convlens.benchmarks.timing import seconds
from convlens.engine.runtime import backend

_ROUNDS = 5


@cache
def peak_gflops(dtype: str = "float32", accelerator: bool = False) -> float:
    """Return the maximum rate of square matrix products, in 10⁹ operations per second.

    Args:
        dtype: data type of both matrices; the hardware chooses the type of the sums.
        accelerator: True to use larger matrices (8192² instead of 2048²) and eight successive
            products, to use an accelerator fully.
    """
    side, products = (8192, 8) if accelerator else (2048, 2)
    draw = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    a = ops.cast(ops.convert_to_tensor(draw / np.sqrt(side)), dtype)

    def chain(x: keras.KerasTensor) -> keras.KerasTensor:
        for _ in range(products):
            x = ops.matmul(x, a)
        return ops.cast(x[:1, :1], "float32")

    run = backend.compile(chain)
    run(a)
    best = min(seconds(lambda: run(a))[0] for _ in range(_ROUNDS))
    return float(2 * products * side**3 / best / 1e9)
