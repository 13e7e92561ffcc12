"""The rounding of a network's layers, as it arrives at the outputs.

Programs differ by a few roundings in each layer, by the order of their sums and by what they fuse.
A network lets these differences grow, some to more than the limit of outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.forward import Forward
from convlens.compare.measure import snr
from convlens.compare.runtime import Arithmetic
from convlens.engine.runtime import backend
from convlens.engine.runtime.tolerance import unit_roundoff

_ROUNDINGS, _SEED = 4.0, 20
# Arithmetic → the precision that a program computes in, between what is quantized.
_PRECISION: dict[Arithmetic, str] = {
    "float16": "float16",
    "bfloat16": "bfloat16",
}


def grown_rounding(forward: Forward, images: NDArray[Any], arithmetic: Arithmetic) -> list[float]:
    """Return the signal-to-noise ratio in dB that rounding leaves of each output.

    Every value of every layer is moved by four roundings, up or down at random.

    Args:
        forward: the network.
        images: images (n, h, w, c).
        arithmetic: the arithmetic of the two models.
    """
    size = _ROUNDINGS * unit_roundoff(_PRECISION.get(arithmetic, "float32"))
    exact, moved = _outputs(forward, images, 0.0), _outputs(forward, images, size)
    return [snr(e, m) for e, m in zip(exact, moved, strict=True)]


def _outputs(forward: Forward, images: NDArray[Any], size: float) -> list[NDArray[Any]]:
    """Return the outputs if each value of each layer is moved by a share of it."""
    draw = np.random.default_rng(_SEED)
    values: dict[int, Any] = {}
    for key, value, values in forward.follow(images):
        if size and "float" in str(value.dtype):
            signs = draw.choice(np.array([-size, size], np.float32), tuple(value.shape))
            values[key] = value * ops.cast(1 + signs, value.dtype)
    return [backend.to_numpy(values[id(t)]) for t in forward.network.results]
