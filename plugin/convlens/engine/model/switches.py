"""Max-pools whose derivative has one switch for each window.

Two values of a window may be equal, behind a ReLU often 0. The deconvnet needs one of them as the
switch. TensorFlow's gradient of a pool of one or two dimensions takes the first, but that of a pool
of three dimensions sends the signal to all of them on a CPU.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from convlens.engine.model.flatten import runs_as_keras


def needs_switches(op: Any) -> bool:
    """Return whether an operation is a max-pool whose own derivative may have several switches."""
    return isinstance(op, keras.layers.MaxPooling3D) and runs_as_keras(op)


def pooled_by_switches(op: Any, x: Any) -> Any:
    """Return what a max-pool returns; its derivative goes to the first largest value of a window.

    Args:
        op: the pool.
        x: (n, *positions, c).
    """
    sides = range(len(op.pool_size))
    sizes = [int(side) for side in x.shape[1:-1]]
    counts = [
        -(-n // s) if op.padding == "same" else (n - k) // s + 1
        for n, k, s in zip(sizes, op.pool_size, op.strides, strict=True)
    ]
    missing = [max((counts[i] - 1) * op.strides[i] + op.pool_size[i] - sizes[i], 0) for i in sides]
    edges = [(n // 2, n - n // 2) for n in missing]
    x = ops.pad(x, [(0, 0), *edges, (0, 0)], constant_values=float("-inf"))
    parts = []
    for place in np.ndindex(*op.pool_size):
        last = [place[i] + (counts[i] - 1) * op.strides[i] + 1 for i in sides]
        steps = (slice(place[i], last[i], op.strides[i]) for i in sides)
        parts.append(x[(slice(None), *steps)])
    windows = ops.stack(parts, axis=-1)
    switch = ops.argmax(windows, axis=-1, keepdims=True)
    return ops.squeeze(ops.take_along_axis(windows, switch, axis=-1), axis=-1)
