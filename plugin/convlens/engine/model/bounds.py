"""Bounds of every channel's values for any image, from the weights alone (interval arithmetic).

A channel whose bounds are equal is the same for all images, whatever is in them. The bounds are
true but not tight: they grow from layer to layer, and a channel with wide bounds may still be dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from convlens.engine.model.flatten import (
    AVERAGE_POOLS,
    CROPPINGS,
    DEPTHWISE,
    MAX_POOLS,
    PADDINGS,
    PLAIN,
    Call,
    bound_of,
    runs_as_keras,
)
from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

Bounds = NDArray[np.float64]
# Layers that change each channel along a line, in inference mode.
_LINES = (keras.layers.BatchNormalization, keras.layers.Rescaling, keras.layers.Normalization)
# Layers whose results are inputs, or means of inputs.
_KEPT = (*MAX_POOLS, *AVERAGE_POOLS, *CROPPINGS, keras.layers.Dropout)


def channel_bounds(network: Network, value_range: tuple[float, float]) -> dict[int, Bounds]:
    """Return the lowest and the highest value that each channel can take, by the tensor's id.

    Convolutions, batch normalizations, ReLUs, pools, paddings, sums and concatenations are
    followed. Tensors behind other operations, and those that no image reaches, are left out.

    Args:
        network: the network.
        value_range: (low, high) of the pixels.

    Returns:
        id of the tensor → (2, channels) the lowest and the highest value.
    """
    image = network.image
    found = {id(image): np.repeat(np.array(value_range, np.float64)[:, None], image.shape[-1], 1)}
    for call in network.graph:
        made = _through(call, found)
        if made is not None:
            found[id(call.outputs[0])] = made
    return found


def _through(call: Call, known: Mapping[int, Bounds]) -> Bounds | None:
    """Return the bounds of a call's result, or None where they are not known."""
    inputs = [known.get(id(t)) for t in call.inputs]
    given = [bounds for bounds in inputs if bounds is not None]
    if not given or len(given) < len(inputs) or len(call.outputs) != 1:
        return None
    first, op = given[0], call.op
    if len(given) == 1 and bound_of(call) is not None:
        return _at_ends(call, first)
    if not isinstance(op, keras.layers.Layer) or not runs_as_keras(op):
        return None
    last = (-1, len(call.outputs[0].shape) - 1)
    if isinstance(op, keras.layers.Add):
        same = all(bounds.shape == first.shape for bounds in given)
        return np.sum(given, axis=0) if same else None
    if isinstance(op, keras.layers.Concatenate):
        return np.concatenate(given, axis=1) if op.axis in last else None
    if len(given) > 1 or getattr(op, "data_format", None) == "channels_first":
        return None
    if isinstance(op, _LINES):
        return _at_ends(call, first) if getattr(op, "axis", -1) in (*last, (-1,)) else None
    if isinstance(op, _KEPT):
        return first
    if isinstance(op, PADDINGS):
        return _with_zero(first)
    return _through_kernel(op, first) if type(op) in (*PLAIN, *DEPTHWISE) else None


def _at_ends(call: Call, given: Bounds) -> Bounds | None:
    """Return the bounds behind a call that changes each channel by a monotone curve."""
    shape = (2, *(1 for _ in call.inputs[0].shape[1:-1]), -1)
    ends = ops.cast(ops.convert_to_tensor(given.reshape(shape)), call.inputs[0].dtype)
    made = backend.to_numpy(ops.cast(call.compute_one(ends), "float32")).astype(np.float64)
    if made.size != given.size or not np.isfinite(made).all():
        return None
    return np.sort(made.reshape(given.shape), axis=0)


def _with_zero(given: Bounds) -> Bounds:
    return np.stack([np.minimum(given[0], 0), np.maximum(given[1], 0)])


def _through_kernel(op: Any, given: Bounds) -> Bounds | None:
    """Return the bounds of a convolution's results without its activation."""
    if getattr(op, "quantization_mode", None) is not None or getattr(op, "lora_enabled", False):
        return None
    if op.padding != "valid":
        given = _with_zero(given)
    kernel = backend.to_numpy(op.kernel).astype(np.float64)
    channels = given.shape[1]
    if isinstance(op, DEPTHWISE):
        each = kernel.reshape(-1, channels * kernel.shape[-1])
        sources = np.repeat(given, kernel.shape[-1], axis=1)[:, None]
    else:
        if op.groups != 1:
            return None
        each = kernel.reshape(-1, kernel.shape[-1])
        sources = np.tile(given, (1, len(each) // channels))[:, :, None]
    positive, negative = np.maximum(each, 0), np.minimum(each, 0)
    low = (positive * sources[0] + negative * sources[1]).sum(axis=0)
    high = (positive * sources[1] + negative * sources[0]).sum(axis=0)
    bias = backend.to_numpy(op.bias) if op.use_bias else 0.0
    return np.stack([low, high]) + bias
