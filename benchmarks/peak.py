"""How fast the hardware multiplies matrices: what the cores' speed is set in proportion to."""

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
    """Return the best rate of a square matrix product, in 10⁹ operations a second.

    Args:
        dtype: of both matrices; sums are the hardware's choice.
        accelerator: measure on matrices that an accelerator needs to be busy (8192² in place of
            2048²), and eight products in a row.
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
