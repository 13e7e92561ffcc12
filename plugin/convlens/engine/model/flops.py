"""Count the floating-point operations of a network's passes, in matrix products only.

A multiplication and its addition count as two operations. As in papers, only convolutions and dense
layers are counted; biases, activations, pooling and normalization need little time. The gradient
with respect to the images needs as many operations as the forward pass, one product per product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras

from convlens.engine.model.flatten import (
    CONVOLUTIONS,
    DEPTHWISE,
    RECURRENT,
    SEPARABLE,
    TRANSPOSED,
    Call,
)
from convlens.engine.model.frames import Frames
from convlens.engine.model.network import Network
from convlens.engine.model.shapes import Shape


def forward_flops(network: Network, layer: str, shape: tuple[int, ...]) -> int:
    """Return the number of operations of a forward pass of one image up to a layer.

    Args:
        network: network.
        layer: name of the last layer of the pass.
        shape: shape (*positions, c) of the image.

    Raises:
        ValueError: an unknown layer, or one that does not take images of the shape.
    """
    shapes = network.shapes(shape)
    if id(network.outputs[network.find(layer)]) not in shapes:
        raise ValueError(f"{network.name} layer {layer!r} does not take images of shape {shape}")
    return sum(call_flops(call, shapes) for call in network.calls(layer))


def ascent_flops(network: Network, layer: str, shape: tuple[int, ...]) -> int:
    """Return the number of operations of one step for one image: forward and backward pass."""
    return 2 * forward_flops(network, layer, shape)


def call_flops(call: Call, shapes: Mapping[int, Shape]) -> int:
    """Return the number of operations of one call for one image.

    Args:
        call: a call of a network.
        shapes: the shapes (None, …) of its input and output, by id; see `Network.shapes`.
    """
    op, directions = call.own_op, 1
    if isinstance(op, keras.layers.Bidirectional):
        op, directions = op.forward_layer, 2
    if not isinstance(op, _COUNTED):
        return 0
    read, made = (tuple(n or 1 for n in shapes[id(t)]) for t in (call.inputs[0], call.outputs[0]))
    if isinstance(op, RECURRENT):
        return directions * read[1] * _of_recurrence(op, read[2:], made)
    if isinstance(call.op, Frames):
        return read[1] * _of_layer(op, (1, *read[2:]), (1, *made[2:]))
    return _of_layer(op, read, made)


_COUNTED = (*CONVOLUTIONS, keras.layers.Dense)


def _of_recurrence(op: Any, read: tuple[int, ...], made: tuple[int, ...]) -> int:
    """Return the number of operations of a convolutional LSTM's step: four gates of two kernels.

    Args:
        op: the layer.
        read: (*positions, c) of a frame.
        made: (…, *positions, filters) of the output.
    """
    positions = math.prod(made[-len(read) : -1])
    return 2 * positions * math.prod(op.kernel_size) * 4 * op.filters * (read[-1] + op.filters)


def _of_layer(op: Any, read: tuple[int, ...], made: tuple[int, ...]) -> int:
    """Return the number of operations of a layer's call from its input and output shapes (1, …)."""
    if isinstance(op, keras.layers.Dense):
        return 2 * math.prod(made) * read[-1]
    window = math.prod(op.kernel_size)
    positions = math.prod(made[1:-1])
    if isinstance(op, TRANSPOSED):
        return 2 * math.prod(read[1:-1]) * window * read[-1] * made[-1]
    if isinstance(op, SEPARABLE):
        deep = read[-1] * op.depth_multiplier
        return 2 * positions * deep * (window + made[-1])
    if isinstance(op, DEPTHWISE):
        return 2 * positions * window * made[-1]
    return 2 * positions * window * read[-1] // op.groups * made[-1]
