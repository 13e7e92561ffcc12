"""Count the floating-point operations of a network's passes, in matrix products only.

A multiplication and its addition count as two operations. As in papers, only convolutions and dense
layers are counted; biases, activations, pooling and normalization need little time. The gradient
with respect to the images needs as many operations as the forward pass, one product per product.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from convlens.engine.model.network import Network
from convlens.engine.runtime import backend

Shape = tuple[int, ...]


def forward_flops(network: Network, layer: str, shape: Shape) -> int:
    """Return the number of operations of a forward pass of one image up to a layer.

    Args:
        network: network.
        layer: name of the last layer of the pass.
        shape: shape (h, w, c) of the image.

    Raises:
        ValueError: an unknown layer.
    """
    calls = [call for call in network.calls(layer) if _counted(call.op)]
    symbols = [t for call in calls for t in (call.inputs[0], call.outputs[0])]
    known = {id(network.image): (1, *shape)}
    wanted = [t for t in symbols if id(t) not in known]
    found = backend.shapes(lambda x: network.run(x, wanted), (1, *shape))
    known.update((id(t), s) for t, s in zip(wanted, found, strict=True))
    return sum(
        _of_call(call.op, known[id(call.inputs[0])], known[id(call.outputs[0])]) for call in calls
    )


def ascent_flops(network: Network, layer: str, shape: Shape) -> int:
    """Return the number of operations of one step for one image: forward and backward pass."""
    return 2 * forward_flops(network, layer, shape)


def _counted(op: Any) -> bool:
    return isinstance(
        op,
        keras.layers.Conv2D
        | keras.layers.DepthwiseConv2D
        | keras.layers.SeparableConv2D
        | keras.layers.Conv2DTranspose
        | keras.layers.Dense,
    )


def _of_call(op: Any, read: Shape, made: Shape) -> int:
    """Return the number of operations of a layer's call from its input and output shapes (1, …)."""
    if isinstance(op, keras.layers.Dense):
        return 2 * math.prod(made) * read[-1]
    window = math.prod(op.kernel_size)
    positions = math.prod(made[1:3])
    if isinstance(op, keras.layers.Conv2DTranspose):
        return 2 * math.prod(read[1:3]) * window * read[-1] * made[-1]
    if isinstance(op, keras.layers.SeparableConv2D):
        deep = read[-1] * op.depth_multiplier
        return 2 * positions * deep * (window + made[-1])
    if isinstance(op, keras.layers.DepthwiseConv2D):
        return 2 * positions * window * made[-1]
    return 2 * positions * window * read[-1] // op.groups * made[-1]
