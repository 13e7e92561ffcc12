"""The share of the outputs' error that each layer of an integer model causes.

The outputs' error e is, to first order, the sum over layers of J δ: a layer's rounding δ, taken to
the outputs by the layers behind it at float precision. The share of a layer is ⟨e, J δ⟩ / ⟨e, e⟩;
one pass backward gives it for all layers, and the shares add up to about 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.compare.forward import Forward, as_tensor
from convlens.compare.runtime import Runtime
from convlens.compare.tensors import turned
from convlens.compare.walk import Row
from convlens.engine.runtime import backend

# The shares' sum is off 1 by what the first order leaves out.
_MAX_MISSING = 0.5


def error_shares(
    forward: Forward,
    rows: Sequence[Row],
    other: Runtime,
    images: NDArray[Any],
    errors: Sequence[NDArray[Any]],
) -> list[float] | None:
    """Return each row's share of the outputs' squared error; negative where it cancels others'.

    None where the shares do not add up to about 1: errors are too large for the first order.

    Args:
        forward: the network at float precision.
        rows: its layers with their counterparts.
        other: the integer model.
        images: a few images (n, h, w, c).
        errors: the error of each of the network's outputs for them, (n, …).
    """
    held = other.tensors(images)
    places = {id(row.symbol): i for i, row in enumerate(rows)}
    errors = [np.nan_to_num(np.asarray(e, np.float32), posinf=0, neginf=0) for e in errors]
    deltas: list[Any] = [None] * len(rows)

    def outputs(taps: list[Any]) -> list[Any]:
        values: dict[int, Any] = {}
        for key, value, values in forward.follow(images):
            if key in places:
                i = places[key]
                # The value is the integer model's, and its derivative the float layer's.
                deltas[i] = ops.stop_gradient(_value(rows[i], held, value) - value)
                values[key] = value + deltas[i] + taps[i]
        return [values[id(t)] for t in forward.network.results]

    taps = [ops.zeros((len(images), *_shape(row, held))) for row in rows]
    _, pullback = backend.vjp(outputs, taps)
    gradients = pullback([ops.convert_to_tensor(e) for e in errors])
    total = sum(float((e.astype(np.float64) ** 2).sum()) for e in errors)
    if total == 0:
        return None
    found = [
        0.0 if delta is None else float(ops.sum(gradient * delta)) / total
        for gradient, delta in zip(gradients, deltas, strict=True)
    ]
    return found if abs(sum(found) - 1) <= _MAX_MISSING else None


def _value(row: Row, held: dict[str, Any], like: Any) -> Any:
    found = turned(held[row.pair.tensor], row.pair.transposed).reshape(tuple(like.shape))
    return as_tensor(found, row.symbol)


def _shape(row: Row, held: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of a layer's value without the images' axis."""
    own = tuple(row.symbol.shape[1:])
    found = turned(held[row.pair.tensor], row.pair.transposed)
    return own if None not in own else tuple(found.shape[1:])
