"""Weights and values that are numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.engine.model.network import Network


def assert_finite(values: Any, *, name: str | None = None) -> dict[str, int]:
    """Assert that all values are finite: no NaN, no infinity.

    Args:
        values: a Keras model or a `Network` (its weights are examined, layer by layer), a mapping
            of names to arrays, such as the result of `activations`, or one array.
        name: what to call the values in the message; the model's name by default.

    Returns:
        name → how many values were examined, for each weight or array.

    Raises:
        AssertionError: a value is not finite, naming the layer, or there was nothing to examine.
    """
    __tracebackhide__ = True
    arrays = _arrays(values)
    title = name or getattr(values, "name", "values")
    if not arrays or not sum(a.size for a in arrays.values()):
        raise AssertionError(f"{title}: there is nothing to examine")
    offenders = []
    for key, array in arrays.items():
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            nan = int(np.isnan(array).sum())
            offenders.append(
                f"{key}: {int(bad.sum())} of {array.size} values "
                f"({nan} NaN, {int(bad.sum()) - nan} infinite), the first at {first}"
            )
    raise_offenders(f"{title} is not finite:", offenders)
    return {key: int(array.size) for key, array in arrays.items()}


def assert_finite_weights(network: Network) -> None:
    """Assert that a network's weights are finite, before what they compute is judged.

    A ReLU may turn NaN into 0, so that activations alone do not show it.

    Raises:
        AssertionError: a weight is not finite, naming the layer.
    """
    __tracebackhide__ = True
    suspects = {
        f"layer {name!r}, {weight.name}": _value(weight)
        for name, layer in network.layers.items()
        for weight in layer.weights
        if not _has_finite_sum(weight)
    }
    if suspects:
        assert_finite(suspects, name=network.name)


def _has_finite_sum(weight: Any) -> bool:
    """Return whether the sum of all values is finite, which it is only if each of them is.

    It is taken where the weight lies, without a copy. That of finite values may overflow.
    """
    return bool(np.isfinite(keras.ops.convert_to_numpy(keras.ops.sum(weight))))


def _value(weight: Any) -> NDArray[Any]:
    # By way of a copy: NumPy warns of how TensorFlow's variables convert themselves.
    return keras.ops.convert_to_numpy(keras.ops.copy(weight))


def _arrays(values: Any) -> dict[str, NDArray[Any]]:
    if isinstance(values, Mapping):
        return {str(key): np.asarray(value) for key, value in values.items()}
    if isinstance(values, Network):
        values = values.model
    if hasattr(values, "weights"):
        return {w.path: _value(w) for w in values.weights}
    return {"values": np.asarray(values)}
