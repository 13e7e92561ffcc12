"""Finite weights: the condition under which all other checks run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from convlens.checks._offenders import raise_offenders
from convlens.engine.features.not_finite import NotFinite
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend


def assert_finite_weights(network: Network) -> None:
    """Assert that a network's weights are finite, before the activations are judged.

    A ReLU may turn NaN into 0, so activations alone do not show it.

    Raises:
        AssertionError: a weight is not finite; the message names the layer.
    """
    __tracebackhide__ = True
    suspects = {
        f"layer {name!r}, {weight.name}": weight_values(weight)
        for name, layer in network.layers.items()
        for weight in layer.weights
        if not _has_finite_sum(weight)
    }
    raise_offenders(f"{network.name} is not finite:", not_finite(suspects))


def not_finite(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return a line for each array that has NaN or infinite values, with the first of them."""
    found = {key: NotFinite.of(array) for key, array in arrays.items()}
    return [f"{key}: {bad}" for key, bad in found.items() if bad.count]


def weight_values(weight: Any) -> NDArray[Any]:
    """Return a Keras variable's values."""
    # A copy, as NumPy warns about the way in which TensorFlow's variables convert themselves.
    return backend.to_numpy(keras.ops.copy(weight))


def _has_finite_sum(weight: Any) -> bool:
    """Return whether the sum of all values is finite, which it is only if each of them is.

    The sum is taken on the device, without a copy. The sum of finite values may overflow.
    """
    return bool(np.isfinite(backend.to_numpy(keras.ops.sum(weight))))
