"""Compute one filter of a convolution for each image.

In an ascent each image needs only its own unit. The layer itself would compute all units, and most
of that work would be wasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from convlens.engine.ascent.canvas import OPERATIONS_A_VALUE
from convlens.engine.model.network import Network

# Shifting and adding one value, with its gradient, takes as long as about this many operations.
_OPERATIONS_A_TAP = 150


@dataclass(frozen=True)
class OneFilter:
    """A convolution and its activation, computed for one filter of each image.

    Attributes:
        source: symbolic input of the convolution.
        convolution: the layer, without its activation.
        activation: the activation; None without one.
    """

    source: Any
    convolution: Any
    activation: Any

    @classmethod
    def of(cls, network: Network, layer: str) -> OneFilter | None:
        """Return a layer as a `OneFilter`; None if it is not a plain convolution."""
        if type(network.layers[layer]) is not keras.layers.Conv2D:
            return None
        *_, call = network.calls(layer)
        activation = None
        before = network.preactivations.get(layer)
        if before is not None:
            activation = call.op
            call = next(c for c in network.calls(layer) if c.outputs[0] is before)
        # An activation across channels, such as a softmax, needs all channels.
        name = network.activation_name(layer)
        if type(call.op) is not keras.layers.Conv2D:  # it computes frames of a series
            return None
        if call.op.groups != 1 or (activation is not None and name not in _POINTWISE):
            return None
        if _is_cheaper_whole(call.op, int(call.inputs[0].shape[-1])):
            return None
        return cls(call.inputs[0], call.op, activation)

    def __call__(self, features: Any, units: Any) -> tuple[Any, Any]:
        """Return the maps (n, h, w) of each image's unit, before and after the activation.

        Args:
            features: (n, h, w, c) input of the convolution.
            units: (n,) int32, the filter of each image.
        """
        conv = self.convolution
        (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.strides, conv.dilation_rate
        n, h, w, c = ops.shape(features)
        kernel = ops.cast(
            ops.take(ops.convert_to_tensor(conv.kernel), units, axis=3), features.dtype
        )
        taps = ops.transpose(ops.reshape(kernel, (kh * kw, c, -1)), (2, 0, 1))
        # One matrix product multiplies each position by each tap of the kernel. The sum of the
        # shifted products is the convolution.
        flat = ops.reshape(features, (n, h * w, c))
        made = ops.reshape(ops.matmul(taps, ops.swapaxes(flat, 1, 2)), (n, kh * kw, h, w))
        top, rows, below = _geometry(h, kh, sh, dh, conv.padding)
        left, columns, right = _geometry(w, kw, sw, dw, conv.padding)
        made = ops.pad(made, ((0, 0), (0, 0), (top, below), (left, right)))
        # Unstacked first: the gradient of a slice is as large as all that it is taken from.
        shifted = iter(ops.unstack(made, kh * kw, axis=1))
        before = sum(
            next(shifted)[
                :,
                i * dh : i * dh + (rows - 1) * sh + 1 : sh,
                j * dw : j * dw + (columns - 1) * sw + 1 : sw,
            ]
            for i in range(kh)
            for j in range(kw)
        )
        if conv.use_bias:
            bias = ops.cast(ops.take(ops.convert_to_tensor(conv.bias), units), before.dtype)
            before = before + bias[:, None, None]
        return before, before if self.activation is None else self.activation(before)


def _is_cheaper_whole(convolution: Any, channels: int) -> bool:
    """Return whether all filters take fewer operations than one, as with large strides.

    One filter is computed at each position of its input, and all of them at each position of their
    output.
    """
    stride, taps = math.prod(convolution.strides), math.prod(convolution.kernel_size)
    one = 2 * channels + _OPERATIONS_A_TAP
    whole = convolution.filters / stride * (2 * channels + OPERATIONS_A_VALUE / taps)
    return 2 * whole < one  # a product for few channels is about half as quick


_POINTWISE = ("relu", "relu6", "elu", "gelu", "silu", "selu", "sigmoid", "softplus", "tanh")


def _geometry(
    size: int, kernel: int, stride: int, dilation: int, padding: str
) -> tuple[int, int, int]:
    """Return the padding before, the number of outputs, and the padding after along a side."""
    reach = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, (size - reach) // stride + 1, 0
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + reach - size, 0)
    return total // 2, outputs, total - total // 2
