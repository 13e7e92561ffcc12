"""A convolution of which each image needs one filter alone.

An ascent asks each image for its own unit; computing the layer's other units, as the layer itself
would, is most of the layer's work thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from convlens.engine.model.network import Network


@dataclass(frozen=True)
class OneFilter:
    """A convolution and its activation, for one filter an image.

    Attributes:
        source: the symbolic tensor that the convolution reads.
        convolution: the layer, without its activation.
        activation: what follows it; None where nothing does.
    """

    source: Any
    convolution: Any
    activation: Any

    @classmethod
    def of(cls, network: Network, layer: str) -> OneFilter | None:
        """Return a layer for one filter an image; None where it is no plain convolution."""
        if type(network.layers[layer]) is not keras.layers.Conv2D:
            return None
        *_, call = network.calls(layer)
        activation = None
        before = network.preactivations.get(layer)
        if before is not None:
            activation = call.op
            call = next(c for c in network.calls(layer) if c.outputs[0] is before)
        # An activation over all channels, such as a softmax, needs them all.
        name = network.activation_name(layer)
        if call.op.groups != 1 or (activation is not None and name not in _POINTWISE):
            return None
        return cls(call.inputs[0], call.op, activation)

    def __call__(self, features: Any, units: Any) -> tuple[Any, Any]:
        """Return the maps (n, h, w) of each image's unit, before and after the activation.

        Args:
            features: (n, h, w, c) what the convolution reads.
            units: (n,) int32, the filter of each image.
        """
        conv = self.convolution
        (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.strides, conv.dilation_rate
        n, h, w, c = ops.shape(features)
        kernel = ops.cast(
            ops.take(ops.convert_to_tensor(conv.kernel), units, axis=3), features.dtype
        )
        taps = ops.transpose(ops.reshape(kernel, (kh * kw, c, -1)), (2, 0, 1))
        # One product gives what each tap of the kernel makes of each position; shifted and added,
        # they are the convolution.
        flat = ops.reshape(features, (n, h * w, c))
        made = ops.reshape(ops.matmul(taps, ops.swapaxes(flat, 1, 2)), (n, kh * kw, h, w))
        top, rows, below = _geometry(h, kh, sh, dh, conv.padding)
        left, columns, right = _geometry(w, kw, sw, dw, conv.padding)
        made = ops.pad(made, ((0, 0), (0, 0), (top, below), (left, right)))
        before = sum(
            made[
                :,
                i * kw + j,
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
